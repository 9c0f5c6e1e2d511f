package limits

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/sysfs"
)

const loopControl = "/dev/loop-control"

// backingName is what the kernel shows as the backing file of our loop devices.
const backingName = "mdclone-probe"

// loop is a loop device of our own on a file that has no name: both are gone once nothing uses them.
type loop struct {
	name string // "loop3840"
	node *os.File
	file *os.File
}

// backing makes a file of size bytes that has no name: in memory, or in dir. Its space is reserved, so that no write to
// it fails later for want of space.
func backing(dir string, size int64) (*os.File, error) {
	flags, kind := unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, dir
	fd, err := unix.Open(dir, flags, 0o600)
	if dir == "" {
		kind = "memory"
		fd, err = unix.MemfdCreate(backingName, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, &os.PathError{Op: "make an unnamed file in", Path: kind, Err: err}
	}
	f := os.NewFile(uintptr(fd), backingName)
	if _, err := sysfs.Again(func() (struct{}, error) { return struct{}{}, unix.Fallocate(fd, 0, 0, size) }); err != nil {
		return nil, errors.Join(&os.PathError{Op: fmt.Sprintf("reserve %d MiB in", size>>20), Path: kind, Err: err}, f.Close())
	}
	return f, nil
}

// newLoop makes the loop device of a number that no device has yet, over a file.
func newLoop(number int, file *os.File) (*loop, error) {
	l := &loop{name: fmt.Sprintf("loop%d", number), file: file}
	if err := loopCall(unix.LOOP_CTL_ADD, number); err != nil {
		return nil, fmt.Errorf("make %s: %w", l.name, err)
	}
	node, err := os.OpenFile("/dev/"+l.name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	l.node = node
	fd := int(node.Fd())
	if err := unix.IoctlSetInt(fd, unix.LOOP_SET_FD, int(file.Fd())); err != nil {
		return nil, errors.Join(fmt.Errorf("set up %s: %w", l.name, err), node.Close())
	}
	info := unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}
	copy(info.File_name[:], backingName)
	if err := unix.IoctlLoopSetStatus64(fd, &info); err != nil {
		err = fmt.Errorf("set up %s: %w", l.name, err)
		return nil, errors.Join(err, unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0), node.Close())
	}
	return l, nil
}

func (l *loop) close() error { return errors.Join(l.node.Close(), l.file.Close()) }

// removeLoop takes the loop device away once nothing uses it; one that is not there is gone already.
func removeLoop(f sysfs.FS, number int, until time.Time) error {
	name := fmt.Sprintf("loop%d", number)
	return retry(until, func() error {
		if !f.Exists("block", name) {
			return nil
		}
		if err := loopCall(unix.LOOP_CTL_REMOVE, number); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		return nil
	})
}

func loopCall(request uint, number int) error {
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	return unix.IoctlSetInt(int(control.Fd()), request, number)
}

// loopsFrom is where our loop devices' numbers begin, far from those that others take.
const loopsFrom = 3840

// freeLoops finds n numbers of loop devices that there are not.
func freeLoops(f sysfs.FS, n int) []int {
	var out []int
	for i := loopsFrom; len(out) < n; i++ {
		if !f.Exists("block", fmt.Sprintf("loop%d", i)) {
			out = append(out, i)
		}
	}
	return out
}

// ourLoop tells whether a block device is a loop device of ours: by its number, and its file has no name.
func ourLoop(f sysfs.FS, name string) bool {
	text, ok := strings.CutPrefix(name, "loop")
	number, err := strconv.Atoi(text)
	if !ok || err != nil || number < loopsFrom {
		return false
	}
	file, err := f.Read("block", name, "loop/backing_file")
	return err == nil && strings.HasSuffix(file, " (deleted)")
}

// retry calls do until it succeeds or fails for good. While a device is open (udev looks at each new one) the kernel
// answers EBUSY, and announces the end of that nowhere.
func retry(until time.Time, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, unix.EBUSY) || time.Now().After(until) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
