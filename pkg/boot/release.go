package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// asked tells whether a clone is still to be made.
func (b *Boot) asked() bool { return b.params.backup && !exists(b.file(released)) }

// holds tells whether the rule keeps everything off an array.
func (b *Boot) holds(conf config.Array) bool {
	return b.asked() || exists(b.file(doubted+conf.UUID.Dashed()))
}

// held tells whether it does so with any array.
func (b *Boot) held() bool { return b.asked() || len(b.doubts()) > 0 }

// doubts are the marks of doubted arrays.
func (b *Boot) doubts() []string {
	marks, _ := filepath.Glob(b.file(doubted + "*")) // the pattern is a good one
	return marks
}

// released is the mark that the udev rule no longer holds the arrays.
const released = "released"

// release lets what is on the arrays be started, which a change of them makes udev look at. Whoever comes to it first
// does it: without it there is no root file system.
func (b *Boot) release(ctx context.Context) error {
	if !b.held() {
		return nil
	}
	err := b.writable(ctx)
	if b.asked() {
		if !exists(b.file(outcomeFile)) {
			err = errors.Join(err, b.conclude(ctx, why(report.Failed, died, "the program that was to make it has died")))
		}
		b.Log.Infof("the arrays are released")
		err = errors.Join(err, b.mark(released, b.stage+"\n"))
	}
	for _, mark := range b.doubts() {
		err = errors.Join(err, os.Remove(mark))
	}
	// of a partition, LVM's rule looks at its appearance alone (69-lvm.rules, lvm2 2.03.31)
	for _, what := range [][2]string{{"change", "md*"}, {"add", "md*p[0-9]*"}} {
		out, e := b.Run(ctx, "udevadm", "trigger", "--action="+what[0], "--subsystem-match=block", "--sysname-match="+what[1])
		if e != nil {
			err = errors.Join(err, fmt.Errorf("udevadm trigger: %w: %s", e, out))
		}
	}
	return errors.Join(err, b.settle(ctx))
}

// writable waits until no array is read-only any more: a cycle that has lost the process that looks after it ends by itself,
// and what is on the array cannot be mounted before.
func (b *Boot) writable(ctx context.Context) error {
	// a cycle writes down what it is about to change
	if noted, err := filepath.Glob(b.file(config.TunablesPrefix + "*.json")); err != nil || len(noted) == 0 {
		return err
	}
	arrays, err := md.Arrays(b.FS)
	if err != nil {
		return err
	}
	end := time.Now().Add(b.bounds.orphan)
	var errs []error
	for _, a := range arrays {
		errs = append(errs, b.awaitWritable(ctx, a, end))
	}
	return errors.Join(errs...)
}

// awaitWritable makes an array writable that still is not at the end.
func (b *Boot) awaitWritable(ctx context.Context, a md.Array, end time.Time) error {
	w, err := b.FS.Watch(a.Attr("array_state"))
	if errors.Is(err, fs.ErrNotExist) { // it was stopped
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		state, err := a.Read("array_state")
		if err != nil || state != "readonly" { // or it was stopped
			return nil
		}
		b.once("%s is read-only, for a clone that is still being made; waiting up to %s for its end", a.Name, b.bounds.orphan)
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("%s is still read-only after %s; it is made writable", a.Name, b.bounds.orphan), setState(a, "active"))
		}
		if err := w.Wait(ctx, lookAgain); err != nil {
			return err
		}
	}
}
