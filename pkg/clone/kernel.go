package clone

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Linux 6.19 writes the array's logical block size into the superblock; older kernels do not assemble an array that has
// one.
const blockSizeMajor, blockSizeMinor = 6, 19

// notRunning says that a configured array is not assembled and, where its members tell, why this kernel cannot do it.
func (e *Env) notRunning(c config.Array) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	release := unix.ByteSliceToString(name.Release[:])
	found, _, err := md.Scan(e.FS)
	if err != nil {
		return err
	}
	for _, f := range found {
		if s := f.Member.Super; s.Array == c.UUID && s.LogicalBlock != 0 && olderThan(release, blockSizeMajor, blockSizeMinor) {
			return report.Fail(report.Failed, "kernel-too-old", "array %s (%s) cannot be assembled by Linux %s: it needs %d.%d",
				c.Name, c.UUID, release, blockSizeMajor, blockSizeMinor).Hint("boot a rescue system with a kernel as new as the machine's own")
		}
	}
	return report.Fail(report.Failed, "not-assembled", "array %s (%s) is not assembled", c.Name, c.UUID).
		Hint("mdadm --assemble --scan, or look at /proc/mdstat for what is missing")
}

// olderThan compares a kernel's release, "6.12.57+deb13-amd64", with major.minor. One that cannot be read is not older.
func olderThan(release string, major, minor int) bool {
	first, rest, _ := strings.Cut(release, ".")
	second := rest
	if i := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' }); i >= 0 {
		second = rest[:i]
	}
	a, err1 := strconv.Atoi(first)
	b, err2 := strconv.Atoi(second)
	if err1 != nil || err2 != nil {
		return false
	}
	return a < major || a == major && b < minor
}
