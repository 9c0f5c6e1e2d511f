package sysfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Watch awaits changes of attributes that the kernel announces (sysfs_notify, seen by poll(2) as POLLPRI).
type Watch struct {
	fds   []unix.PollFd // attributes, then the read end of the wake-up pipe
	wake  int           // write end
	paths []string
}

// Watch opens the attributes to await. Changes from now on are seen by Wait.
func (f FS) Watch(paths ...string) (*Watch, error) {
	w := &Watch{wake: -1}
	for _, p := range paths {
		fd, err := unix.Open(f.Path(p), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			w.Close()
			return nil, &os.PathError{Op: "watch", Path: f.Path(p), Err: err}
		}
		w.fds = append(w.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLPRI | unix.POLLERR})
		w.paths = append(w.paths, f.Path(p))
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch: pipe: %w", err)
	}
	w.fds = append(w.fds, unix.PollFd{Fd: int32(pipe[0]), Events: unix.POLLIN})
	w.wake = pipe[1]
	w.rearm()
	return w, nil
}

// rearm reads each attribute: poll reports only what changed after the last read. An attribute that has gone away
// cannot be read; whoever looks at the state next sees that better than we could say it here.
func (w *Watch) rearm() {
	for i, p := range w.paths {
		_, _ = readFD(int(w.fds[i].Fd), p)
	}
}

// Wait returns when an attribute has changed since the last Wait, or after most; ctx's error if it ends first. What
// changed is for the caller to read.
func (w *Watch) Wait(ctx context.Context, most time.Duration) error {
	defer wakeBy(ctx, w.wake)()
	end := time.Now().Add(most)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		left := time.Until(end)
		if left < 0 {
			return nil
		}
		n, err := unix.Poll(w.fds, int(left.Milliseconds())+1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		if n > 0 && ctx.Err() == nil {
			w.rearm()
			return nil
		}
	}
}

// wakeBy has a byte written to fd when ctx ends. The function that it returns undoes that; after it, nothing is written any
// more, when the number may be another file's.
func wakeBy(ctx context.Context, fd int) func() {
	written := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(written)
		_, _ = unix.Write(fd, []byte{0})
	})
	return func() {
		if !stop() {
			<-written
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() {
	for _, p := range w.fds {
		_ = unix.Close(int(p.Fd))
	}
	if w.wake >= 0 {
		_ = unix.Close(w.wake)
	}
	w.fds, w.wake = nil, -1
}
