package boot

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// consoles are all the consoles of the machine: what is written to them is shown on each, and on each a person may end a
// wait. Whatever is wrong with one of them must not hold the boot up.
type consoles struct {
	root string
	mu   sync.Mutex // a backup that outlives its wait still writes
	open []*console
	keys <-chan struct{} // Enter at the splash screen
}

type console struct {
	fd    int
	quiet bool // it takes nothing any more: a serial line that nobody reads
}

// openConsoles opens those that the kernel writes to (tty0 ttyS0).
func openConsoles(root string) *consoles {
	names := "console"
	if text, err := os.ReadFile(filepath.Join(root, "sys/class/tty/console/active")); err == nil && len(bytes.TrimSpace(text)) > 0 {
		names = string(text)
	}
	cs := &consoles{root: root}
	for _, name := range strings.Fields(names) {
		path := filepath.Join(root, "dev", name)
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		// what was typed before there was a wait does not end it; where there is no terminal there is nothing to drop
		_ = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
		cs.open = append(cs.open, &console{fd: fd})
	}
	return cs
}

// entered tells whether a line was entered on one of them since the last call, or at the splash screen. The terminal stays as
// it is: it is line by line then, which noise on a serial line does not complete as easily as it presses a key.
func (cs *consoles) entered() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	typed := false
	select {
	case _, typed = <-cs.keys:
	default:
	}
	// what is typed now is a passphrase (systemd-ask-password(1))
	if asked, _ := filepath.Glob(filepath.Join(cs.root, "run/systemd/ask-password/ask.*")); len(asked) > 0 {
		return typed
	}
	for _, c := range cs.open {
		var buf [256]byte
		n, err := unix.Read(c.fd, buf[:])
		typed = typed || err == nil && n > 0
	}
	return typed
}

// drainAtMost bounds how long a console that takes nothing is waited for, once.
const drainAtMost = 500 * time.Millisecond

// Write shows text on all of them. It never fails: that nobody can see what happens is no reason to end it.
func (cs *consoles) Write(text []byte) (int, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.open {
		if !c.quiet {
			c.quiet = !c.write(text)
		}
	}
	return len(text), nil
}

func (c *console) write(text []byte) bool {
	for len(text) > 0 {
		n, err := unix.Write(c.fd, text)
		switch err {
		case nil:
			text = text[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			ready, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}, int(drainAtMost.Milliseconds()))
			if err == nil && ready == 0 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func (cs *consoles) close() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.open {
		_ = unix.Close(c.fd)
	}
	cs.open = nil
}

// Consoles shows what is written to it on all consoles of the machine. It never fails.
func Consoles(root string) io.Writer { return openConsoles(root) }
