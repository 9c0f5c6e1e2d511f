package md

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"mdclone/pkg/sysfs"
)

// ioctl passes a pointer to a plain struct.
func ioctl[T any](fd int, request uintptr, arg *T) error {
	_, err := sysfs.Again(func() (uintptr, error) {
		r, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(arg)))
		if e != 0 {
			return 0, e
		}
		return r, nil
	})
	return err
}

// IoctlPlain makes an ioctl that takes no argument.
func IoctlPlain(fd int, request uint) error {
	_, err := sysfs.Again(func() (struct{}, error) { return struct{}{}, unix.IoctlSetInt(fd, request, 0) })
	return err
}
