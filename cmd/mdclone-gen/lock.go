package main

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/report"
)

// lockPath is locked by the mdclone-gen that changes the running machine. Nobody but root can open it.
const lockPath = "/run/mdclone-gen.lock"

// lock makes this the only mdclone-gen that changes the machine, until unlock or its end: of two at once each would write its
// own list of what is installed.
func (m machine) lock() (unlock func(), err error) { return m.lockWithin(0) }

// lockWithin is lock that waits so long for another one to end.
func (m machine) lockWithin(patience time.Duration) (unlock func(), err error) {
	f, err := m.lockFile()
	if err != nil {
		return nil, err
	}
	end := time.Now().Add(patience)
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end) {
		time.Sleep(100 * time.Millisecond) // a blocking flock has no bound
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, report.Fail(report.Refused, "locked", "another mdclone-gen works on %s; nothing was changed", m.root).
				Hint("run the same command again when it has ended")
		}
		return nil, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return func() { // not by closing it alone: a process that is being started has it open too, until its exec
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		f.Close()
	}, nil
}

// lockFile is what is locked. Of another root, whose /run may be kept, it is the root folder, as in a chroot without /run.
func (m machine) lockFile() (*os.File, error) {
	if m.root == "/" {
		f, err := os.OpenFile(lockPath, os.O_RDWR|os.O_CREATE, 0o600)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return os.Open(m.root)
}
