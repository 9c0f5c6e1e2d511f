package clone

import (
	"errors"
	"fmt"
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
	names, err := filepath.Glob(filepath.Join(from, ledgerDir, "*.json"))
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
		found, _, err := md.Scan(e.FS)
		if err != nil {
			return err
		}
		isTrue = func(x *Entry) bool { return matches(x, found) }
	}
	var errs []error
	for _, name := range names {
		u, err := md.ParseUUID(strings.TrimSuffix(filepath.Base(name), ".json"))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) { // another command was quicker
			continue
		}
		var x *Entry
		if err == nil {
			x, err = decodeEntry(text, u)
		}
		if err == nil && isTrue(x) {
			if err = e.record(*x); err == nil {
				err = removeDurably(name)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("take over %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
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

// takeHistory appends the lines of another history. It is taken by its name first, so that no line is there twice.
func (e *Env) takeHistory(name string) error {
	taken := fmt.Sprintf("%s.%d", name, os.Getpid())
	if err := os.Rename(name, taken); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	text, err := os.ReadFile(taken)
	if err == nil {
		err = e.addHistory(text)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("take over %s: %w", name, err), os.Rename(taken, name))
	}
	return os.Remove(taken)
}
