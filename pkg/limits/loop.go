package limits

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
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
	l := &loop{name: loopName(number), file: file}
	if err := loopCall(unix.LOOP_CTL_ADD, number); err != nil {
		return nil, fmt.Errorf("make %s: %w", l.name, err)
	}
	node, err := os.OpenFile("/dev/"+l.name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	l.node = node
	if err := bind(int(node.Fd()), int(file.Fd())); err != nil {
		return nil, errors.Join(fmt.Errorf("set up %s: %w", l.name, err), node.Close())
	}
	return l, nil
}

// bind sets a loop device up over a file, in one step: a kill between two would leave it bound for ever.
func bind(fd, file int) error {
	info := unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}
	copy(info.File_name[:], backingName)
	err := unix.IoctlLoopConfigure(fd, &unix.LoopConfig{Fd: uint32(file), Info: info})
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTTY) {
		return err
	}
	// Linux before 5.8 needs the two
	if err := unix.IoctlSetInt(fd, unix.LOOP_SET_FD, file); err != nil {
		return err
	}
	if err := unix.IoctlLoopSetStatus64(fd, &info); err != nil {
		return errors.Join(err, unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0))
	}
	return nil
}

func (l *loop) close() error { return errors.Join(l.node.Close(), l.file.Close()) }

// ErrNoLoops says that too few loop devices of our numbers are free.
var ErrNoLoops = fmt.Errorf("other programs have, or take, the loop devices %d to %d", loopsFrom, loopsEnd-1)

// takeLoop tries numbers in turn until one is not taken by another program first, and returns those after it.
func takeLoop(numbers []int, try func(number int) error) (rest []int, err error) {
	for i, n := range numbers {
		err := try(n)
		// there is a device of that number now (LOOP_CTL_ADD), or it has a file or an owner (LOOP_CONFIGURE)
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EBUSY) {
			return numbers[i+1:], err
		}
	}
	return nil, ErrNoLoops
}

// removeLoop takes a loop device of our numbers away once nothing uses it. One that is not there is gone already, and one
// that is another program's, or becomes that meanwhile, is left alone.
func removeLoop(f sysfs.FS, number int, until time.Time, remove func(number int) error) error {
	name := loopName(number)
	return retry(until, func() error {
		if !f.Exists("block", name) {
			return nil
		}
		if file, err := backingOf(f, name); err != nil || !removable(file) {
			return err
		}
		if err := remove(number); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		return nil
	})
}

// deleteLoop has the kernel take a loop device away, which it does only to one that has no file and is not open.
func deleteLoop(number int) error { return loopCall(unix.LOOP_CTL_REMOVE, number) }

func loopCall(request uint, number int) error {
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	return unix.IoctlSetInt(int(control.Fd()), request, number)
}

// The numbers of our loop devices, far from those that others take: from loopsFrom, before loopsEnd.
const (
	loopsFrom = 3840
	loopsEnd  = loopsFrom + 16
)

func loopName(number int) string { return fmt.Sprintf("loop%d", number) }

// freeLoops lists those of our numbers that no loop device has. What a probe that was killed has left is removed first;
// what is still in use at until is another program's.
func freeLoops(f sysfs.FS, until time.Time, remove func(number int) error) ([]int, error) {
	var out []int
	for n := loopsFrom; n < loopsEnd; n++ {
		if err := removeLoop(f, n, until, remove); err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, err
		}
		if !f.Exists("block", loopName(n)) {
			out = append(out, n)
		}
	}
	return out, nil
}

// backingOf reads what file a loop device is on, "" if on none.
func backingOf(f sysfs.FS, name string) (string, error) {
	file, err := f.Read("block", name, "loop/backing_file")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return "", nil // the directory comes and goes with the file
	}
	return file, err
}

// ourFile tells whether the kernel's name of a loop device's file is that of a file of backing's: one that never had a
// name is called by its inode (fs/dcache.c, d_tmpfile, Linux 6.12).
func ourFile(file string) bool {
	name, deleted := strings.CutSuffix(path.Base(file), " (deleted)")
	inode, numbered := strings.CutPrefix(name, "#")
	_, err := strconv.ParseUint(inode, 10, 64)
	return deleted && (name == "memfd:"+backingName || numbered && err == nil)
}

// removable tells whether a loop device of our numbers may be removed, by its file: ours, or none, as before it is bound.
func removable(file string) bool { return file == "" || ourFile(file) }

// ourLoop tells whether a block device is a loop device of ours that is in use: by its number, and by its file.
func ourLoop(f sysfs.FS, name string) (bool, error) {
	text, ok := strings.CutPrefix(name, "loop")
	number, err := strconv.Atoi(text)
	if !ok || err != nil || number < loopsFrom || number >= loopsEnd {
		return false, nil
	}
	file, err := backingOf(f, name)
	return err == nil && ourFile(file), err
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
