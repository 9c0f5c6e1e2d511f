package clone

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mdclone/pkg/limits"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Mount is one line of /proc/self/mountinfo (proc_pid_mountinfo(5)) of a file system on a block device.
type Mount struct {
	Device string // "253:0"; anonymous ("0:35") for btrfs
	Point  string
	Type   string // "ext4"
	Source string // "/dev/mapper/vg0-root"
}

// ParseMounts reads mountinfo; lines that are too short are left out.
func ParseMounts(text string) []Mount {
	var out []Mount
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		dash := slices.Index(fields, "-")
		if dash < 6 || dash+2 >= len(fields) {
			continue
		}
		out = append(out, Mount{
			Device: fields[2], Point: unescape.Replace(fields[4]), Type: fields[dash+1], Source: unescape.Replace(fields[dash+2]),
		})
	}
	return out
}

// user is one thing that uses a device: a device stacked on it, a mount, swap.
type user struct {
	device string // kernel name of the device that is used: the device asked for, or one above it
	mount  *Mount
	swap   bool
	direct bool // a device that sits on the array itself or on one of its partitions, not on another holder
}

func (u user) String() string {
	switch {
	case u.mount != nil:
		return fmt.Sprintf("mounted on %s", u.mount.Point)
	case u.swap:
		return fmt.Sprintf("%s is swap", u.device)
	}
	return fmt.Sprintf("%s is on it", u.device)
}

// notOffline says what keeps an array from being offline, and what can be done.
func notOffline(array string, users []user) error {
	e := report.Fail(report.Refused, "in-use", "%s is in use, so this is not offline: %s", array, describe(users))
	hint := "without --offline the cycle runs beside what is on it; lvm vgchange -an stops LVM, losetup -d a loop device"
	for _, u := range users {
		switch {
		case u.mount != nil && (u.mount.Point == "/" || u.mount.Point == "/usr"):
			return e.Hint("without --offline the clone is what a power cut would leave; mdclone-gen boot-once backup makes one before " +
				"anything is mounted")
		case u.mount != nil:
			hint = "without --offline the clone is what a power cut would leave; umount " + u.mount.Point + " first"
		case u.swap:
			hint = "without --offline the clone is what a power cut would leave; swapoff -a first"
		}
	}
	return e.Hint("%s", hint)
}

// users lists what uses the block device name, directly or through what is stacked on it. Partitions alone are no use.
func (e *Env) users(name string) ([]user, error) { return e.usersBeside(name, nil) }

// usersBeside is users without some loop devices and what is on those.
func (e *Env) usersBeside(name string, loops []string) ([]user, error) {
	above, err := limits.Above(e.FS, name)
	if err != nil {
		return nil, err
	}
	mountinfo, err := os.ReadFile(filepath.Join(e.Root, "proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	swaps, err := os.ReadFile(filepath.Join(e.Root, "proc/swaps"))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var out []user
	next := []string{name} // the device and its partitions
	for _, n := range above {
		if e.FS.Exists("class/block", n, "partition") {
			next = append(next, n)
		}
	}
	for _, n := range append([]string{name}, above...) {
		if !slices.Contains(next, n) {
			direct := slices.ContainsFunc(next, func(below string) bool { return e.FS.Exists("class/block", below, "holders", n) })
			out = append(out, user{device: n, direct: direct})
		}
		dev, err := e.FS.Read("class/block", n, "dev")
		if n != name && errors.Is(err, fs.ErrNotExist) { // it went away meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, m := range ParseMounts(string(mountinfo)) {
			source, _ := md.KernelName(e.FS, m.Source) // for btrfs; most sources are no device
			if m.Device == dev || source == n {
				out = append(out, user{device: n, mount: &m})
			}
		}
		if onSwap(string(swaps), n) {
			out = append(out, user{device: n, swap: true})
		}
	}
	over, err := e.loopsOver(name)
	if err != nil {
		return nil, err
	}
	for _, l := range over {
		if slices.Contains(loops, l) {
			continue
		}
		more, err := e.usersBeside(l, append(loops, l))
		if err != nil {
			return nil, err
		}
		out = append(append(out, user{device: l}), more...)
	}
	return out, nil
}

// loopsOver lists the loop devices over a device, its partitions, or the disk that it is a partition of. The kernel claims nothing
// for them: what is mounted there is written to a device that looks unused.
func (e *Env) loopsOver(name string) ([]string, error) {
	devices, err := e.FS.List("block")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range devices {
		file, err := e.FS.Read("block", d, "loop/backing_file")
		if err != nil || !strings.HasPrefix(file, "/dev/") {
			continue // no loop device, or over a file, which may lie where nobody answers
		}
		below, device, err := e.holding(file)
		if err == nil && device && (below == name || e.FS.DiskOf(below) == name || below == e.FS.DiskOf(name)) {
			out = append(out, d)
		}
	}
	return out, nil
}

// openers says which programs have a file open, as what follows a sentence; "" if none is seen.
func (e *Env) openers(path string) string {
	fds, err := filepath.Glob(filepath.Join(e.Root, "proc/[0-9]*/fd/*"))
	if err != nil {
		return ""
	}
	var out []string
	for _, fd := range fds {
		if file, err := os.Readlink(fd); err != nil || file != path { // a process may have ended meanwhile
			continue
		}
		process := filepath.Dir(filepath.Dir(fd))
		line, err := os.ReadFile(filepath.Join(process, "cmdline"))
		if err != nil {
			continue
		}
		words := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		who := fmt.Sprintf("%s (process %s)", words, filepath.Base(process))
		if !slices.Contains(out, who) {
			out = append(out, who)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, ", ")
}

func onSwap(swaps, name string) bool {
	for _, line := range strings.Split(swaps, "\n") {
		if node, _, _ := strings.Cut(line, " "); node == "/dev/"+strings.ReplaceAll(name, "!", "/") {
			return true
		}
	}
	return false
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
