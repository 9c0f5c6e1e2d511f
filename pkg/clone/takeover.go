package clone

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// TakeOver brings what is recorded of the clones to where it is needed: in an initramfs what the boot loader brought from
// the machine's last run, if that is still true of a drive that is here; in the running system what the initramfs has
// recorded since. What was taken over is gone from where it was. Every command begins with it.
func (e *Env) TakeOver() error {
	from := e.handedOver()
	if e.EarlyBoot() {
		from = e.lasting()
	}
	names, err := filepath.Glob(filepath.Join(from, config.LedgerDir, "*.json"))
	if err != nil {
		return err
	}
	var errs []error
	if len(names) > 0 {
		errs = append(errs, e.takeEntries(names))
	}
	if !e.EarlyBoot() {
		errs = append(errs, e.takeHistory(filepath.Join(from, config.HistoryFile)))
	}
	return errors.Join(errs...)
}

func (e *Env) takeEntries(names []string) error {
	isTrue := func(*Entry) bool { return true }
	if e.EarlyBoot() {
		found, _, err := e.scanner().Scan()
		if err != nil {
			return err
		}
		isTrue = func(x *Entry) bool { return matches(x, found) }
	}
	var errs []error
	for _, name := range names {
		if err := e.takeEntry(name, isTrue); err != nil {
			errs = append(errs, fmt.Errorf("take over %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// takeEntry takes one entry over, if it is true. While another command works on its array it waits: what that records is
// newer.
func (e *Env) takeEntry(name string, isTrue func(*Entry) bool) error {
	u, err := md.ParseUUID(strings.TrimSuffix(filepath.Base(name), ".json"))
	if err != nil {
		return err
	}
	x, err := readEntry(name, u)
	if err != nil || x == nil || !isTrue(x) {
		return err
	}
	unlock, ok, err := e.lockBriefly(x.Array)
	if err != nil || !ok {
		return err
	}
	defer unlock()
	if x, err = readEntry(name, u); err != nil || x == nil { // another command was quicker
		return err
	}
	if err := e.record(*x); err != nil {
		return err
	}
	return removeDurably(name)
}

// matches tells whether an entry of an unknown age says what its drive is now.
func matches(x *Entry, found []md.Found) bool {
	for _, f := range found {
		if f.Member.Super.Device == x.Clone && f.Member.Super.Array == x.Array && x.Untouched(f.Member) {
			return true
		}
	}
	return false
}

// takeHistory appends the lines of another history, by one process at a time.
func (e *Env) takeHistory(name string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// not the history itself: anybody may read, and so lock, that
	lock, _, err := e.lockFile("lock-history")
	if err != nil || lock == nil { // another command takes it
		return err
	}
	defer unlockFile(lock)
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) { // another command was quicker
		return nil
	} else if err != nil {
		return err
	}
	text, err := io.ReadAll(f)
	if err == nil {
		err = e.addHistory(text)
	}
	if err != nil {
		return fmt.Errorf("take over %s: %w", name, err)
	}
	return os.Remove(name)
}
