package sysfs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Uevents is a socket on which the kernel announces new and changed devices (netlink(7), NETLINK_KOBJECT_UEVENT). It
// needs neither udev nor its database.
type Uevents struct{ fd, wakeR, wakeW int }

// kernelGroup is the multicast group of the kernel's own events; 2 would be udev's.
const kernelGroup = 1

// OpenUevents begins to listen.
func OpenUevents() (*Uevents, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("uevents: socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("uevents: bind: %w", err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("uevents: pipe: %w", err)
	}
	return &Uevents{fd: fd, wakeR: pipe[0], wakeW: pipe[1]}, nil
}

// Wait returns when something was announced, or after most; ctx's error if it ends first.
func (u *Uevents) Wait(ctx context.Context, most time.Duration) error {
	defer wakeBy(ctx, u.wakeW)()
	fds := []unix.PollFd{{Fd: int32(u.fd), Events: unix.POLLIN}, {Fd: int32(u.wakeR), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, int(most.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("uevents: poll: %w", err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// what is in them does not matter: the caller looks at the devices. An overrun (ENOBUFS) says the same.
	buf := make([]byte, 16<<10)
	for {
		if _, _, err := unix.Recvfrom(u.fd, buf, 0); errors.Is(err, unix.EAGAIN) {
			return nil
		} else if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("uevents: receive: %w", err)
		}
	}
}

// Close ends listening.
func (u *Uevents) Close() {
	for _, fd := range []int{u.fd, u.wakeR, u.wakeW} {
		_ = unix.Close(fd)
	}
}
