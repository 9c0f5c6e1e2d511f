package md

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl passes a pointer to a plain struct.
func ioctl[T any](fd int, request uintptr, arg *T) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(arg))); e != 0 {
		return e
	}
	return nil
}
