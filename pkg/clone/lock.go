package clone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// How often, and how many times, a lock is looked at that is held for milliseconds only. The kernel knows no bounded wait.
const (
	lockTick  = 10 * time.Millisecond
	lockTurns = 500
)

// Lock makes this the only process that works on an array. A lock on the array's own node would do without a file, but
// an open node makes "readonly" answer EBUSY. One that is held without a number is given back soon, and waited for.
func (e *Env) Lock(array md.UUID) (unlock func(), err error) {
	for turn := 0; ; turn++ {
		f, owner, err := e.lockFile(lockOf(array))
		switch {
		case err != nil:
			return nil, err
		case f != nil:
			_, _ = fmt.Fprintf(f, "%d\n", os.Getpid()) // a full /run is no reason to stop
			return func() { unlockFile(f) }, nil
		case owner != "" || turn == lockTurns:
			return nil, report.Fail(report.Refused, "locked", "another mdclone-early works on array %s (process %s)", array, owner)
		}
		time.Sleep(lockTick)
	}
}

// lockBriefly is Lock for what takes milliseconds, such as taking over a record, and never waits: ok tells whether it is held.
func (e *Env) lockBriefly(array md.UUID) (unlock func(), ok bool, err error) {
	f, _, err := e.lockFile(lockOf(array))
	return func() { unlockFile(f) }, f != nil, err
}

func lockOf(array md.UUID) string { return "lock-" + array.Hex() }

// lockFile locks a file in RunDir, which nobody else but root can open, and empties it. Where another process has it, there is
// no file, and owner is what that has written to it.
func (e *Env) lockFile(name string) (f *os.File, owner string, err error) {
	if err := os.MkdirAll(e.RunDir(), 0o755); err != nil {
		return nil, "", err
	}
	path := filepath.Join(e.RunDir(), name)
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, "", err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		text := make([]byte, 16)
		n, _ := f.ReadAt(text, 0)
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, strings.TrimSpace(string(text[:n])), nil
		}
		return nil, "", fmt.Errorf("lock %s: %w", path, err)
	}
	_ = f.Truncate(0)
	return f, "", nil
}

func unlockFile(f *os.File) {
	_ = f.Truncate(0) // the next one to hold it may write nothing
	_ = f.Close()
}
