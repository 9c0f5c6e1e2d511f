// Package sysfs reads, writes and awaits kernel attributes below a root, which is /sys in life and a captured tree in
// tests.
package sysfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FS is a mounted sysfs.
type FS struct{ root string }

// New is the running kernel's, at /sys.
func New() FS { return At("/sys") }

// At is a sysfs at root.
func At(root string) FS { return FS{root: root} }

// Path is the file name of an attribute or directory, for messages and for open.
func (f FS) Path(elem ...string) string {
	return filepath.Join(append([]string{f.root}, elem...)...)
}

// pageSize bounds an attribute (include/linux/sysfs.h: "at most PAGE_SIZE").
const pageSize = 4096

// Read returns an attribute without its newline. One read(2): sysfs gives an attribute whole or not at all. A filled
// buffer is an error, not a silent cut.
func (f FS) Read(elem ...string) (string, error) {
	path := f.Path(elem...)
	fd, err := Again(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return readFD(fd, path)
}

// Again makes a system call until no signal interrupts it. Go's scheduler sends signals at any time, and md waits for
// its lock interruptibly (drivers/md/md.c, mddev_lock, Linux 6.12): EINTR says that nothing was done yet.
func Again[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

func readFD(fd int, path string) (string, error) {
	buf := make([]byte, pageSize+1)
	n, err := Again(func() (int, error) { return unix.Pread(fd, buf, 0) })
	if err != nil {
		return "", &os.PathError{Op: "read", Path: path, Err: err}
	}
	if n > pageSize {
		return "", fmt.Errorf("read %s: longer than a page", path)
	}
	return strings.TrimRight(string(buf[:n]), "\n"), nil
}

// Uint reads an attribute that is one decimal number, or begins with one ("200000 (system)").
func (f FS) Uint(elem ...string) (uint64, error) {
	text, err := f.Read(elem...)
	if err != nil {
		return 0, err
	}
	number, _, _ := strings.Cut(text, " ")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %q is not a number", f.Path(elem...), text)
	}
	return n, nil
}

// Write writes value in one write(2). The file is never created: O_CREAT would turn "no such attribute" into
// "permission denied".
func (f FS) Write(value string, elem ...string) error {
	path := f.Path(elem...)
	fd, err := Again(func() (int, error) { return unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return fmt.Errorf("write %q to %s: %w", value, path, err)
	}
	_, err = Again(func() (int, error) { return unix.Write(fd, []byte(value)) })
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("write %q to %s: %w", value, path, err)
	}
	return nil
}

// SetUint writes a number and reads it back: many attributes clamp in silence (queue/max_sectors_kb). A difference is a
// *KeptError.
func (f FS) SetUint(value uint64, elem ...string) error {
	if err := f.Write(strconv.FormatUint(value, 10), elem...); err != nil {
		return err
	}
	got, err := f.Uint(elem...)
	if err != nil {
		return err
	}
	if got != value {
		return &KeptError{Path: f.Path(elem...), Wanted: value, Got: got}
	}
	return nil
}

// KeptError says that the kernel took a write without an error and kept another value.
type KeptError struct {
	Path        string
	Wanted, Got uint64
}

// Error names wanted and got.
func (e *KeptError) Error() string {
	return fmt.Sprintf("write %s: wanted %d, the kernel kept %d", e.Path, e.Wanted, e.Got)
}

// Exists tells whether an attribute or directory is there.
func (f FS) Exists(elem ...string) bool {
	_, err := os.Stat(f.Path(elem...))
	return err == nil
}

// List returns the names in a directory, sorted; none if there is no such directory.
func (f FS) List(elem ...string) ([]string, error) {
	entries, err := os.ReadDir(f.Path(elem...))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// DiskOf is the kernel name of the disk that a partition is on, and of any other block device that itself.
func (f FS) DiskOf(name string) string {
	if !f.Exists("class/block", name, "partition") {
		return name
	}
	device, err := filepath.EvalSymlinks(f.Path("class/block", name))
	if err != nil { // it went away
		return name
	}
	return filepath.Base(filepath.Dir(device))
}
