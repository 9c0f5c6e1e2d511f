package main

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"mdclone/pkg/report"
)

// mountsAt tells whether one of lines, of fstab(5) or mountinfo (proc_pid_mountinfo(5)), has at as its mount point, which is the
// field of that number, from 0.
func mountsAt(lines string, field int, at string) bool {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for _, line := range strings.Split(lines, "\n") {
		fields := strings.Fields(line)
		if len(fields) > field && !strings.HasPrefix(fields[0], "#") && path.Clean(unescape.Replace(fields[field])) == at {
			return true
		}
	}
	return false
}

// The mount point's field in a line.
const (
	inFstab     = 1
	inMountinfo = 4
)

// needBoot refuses a /boot that fstab names and that is not mounted: what is in its place tells nothing of the machine.
func (a *app) needBoot(m machine) error {
	fstab, err := os.ReadFile(m.path("etc/fstab"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	mounts := a.mounts()
	if mounts == "" || !mountsAt(string(fstab), inFstab, "/boot") || mountsAt(mounts, inMountinfo, m.path("boot")) {
		return nil
	}
	return report.Fail(report.Failed, "boot-not-mounted", "%s is in fstab, and is not mounted", m.path("boot")).
		Hint("mount it, then run the same command again")
}

// needMounted is needBoot of a machine whose boot images are looked at. Another one than the running may be a tree that was never mounted.
func (a *app) needMounted(m machine) error {
	err := a.needBoot(m)
	if err != nil && m.root != "/" {
		a.log.Warnf("%v", err)
		return nil
	}
	return err
}

// mountinfo is what is mounted where, "" where that cannot be known, as in a bare chroot.
func mountinfo() string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	return string(text)
}
