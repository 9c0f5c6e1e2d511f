package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// liftMark is followed by a clone's device UUID: the guard in the udev rules leaves that clone alone.
const liftMark = "unguarded-"

// liftAtMost bounds mdadm.
const liftAtMost = time.Minute

// lift starts the array from the clone. What fails on the way leaves the clone without guard and claim, so that the
// distribution's own last resort can take it.
func (b *Boot) lift(ctx context.Context, conf config.Array, d Decision) error {
	path := md.NodePath(d.Clone.Name)
	b.Log.Warnf("this machine runs from its clone: array %s is started from %s (%s), as %s", conf.Name, path,
		d.Clone.Super.Device, d.Why)
	// in that order: where the drop gets stuck, the next try must not take it for lifted
	errs := []error{b.drop(d.Clone.Super.Device), b.mark(liftMark+d.Clone.Super.Device.Dashed(), d.Clone.Name+"\n")}
	if err := os.Remove(b.file(doubted + conf.UUID.Dashed())); !errors.Is(err, os.ErrNotExist) { // what runs from it is in no doubt
		errs = append(errs, err)
	}
	// by its path, as in the udev rules: what they run has no PATH
	bounded, cancel := context.WithTimeout(ctx, liftAtMost)
	defer cancel()
	if out, err := b.Run(bounded, "/sbin/mdadm", "--incremental", path); err != nil {
		errs = append(errs, fmt.Errorf("mdadm --incremental %s: %w: %s", path, err, out))
	}
	// mdadm's word and exit code do not tell whether the array runs
	f, array, err := b.facts(conf, d.Clone.found())
	switch {
	case err != nil:
		errs = append(errs, err)
	case !f.In[d.Clone.Name]:
		errs = append(errs, fmt.Errorf("%s is in no array after mdadm --incremental", path))
	case running(f.State):
	default:
		errs = append(errs, start(array))
	}
	return errors.Join(errs...)
}

// found is a drive as a look at all of them finds it.
func (d Drive) found() []md.Found {
	return []md.Found{{Name: d.Name, Path: md.NodePath(d.Name), Member: &md.Member{Super: d.Super}}}
}

// retake stops an array that runs from old disks, which nobody has used, and starts it from the clone; from those disks again
// where that fails, as there would be no root file system.
func (b *Boot) retake(ctx context.Context, conf config.Array, array md.Array, d Decision) error {
	state, err := array.State()
	if err == nil {
		err = stop(ctx, array)
	}
	if err != nil {
		b.busy[conf.UUID] = true
		b.runsFromOld(conf, d)
		return err
	}
	b.Log.Warnf("%s, which mdadm had started from disks of array %s that are not its newest copy, is stopped", array.Name, conf.Name)
	err = b.lift(ctx, conf, d)
	f, failed, e := b.facts(conf, d.Clone.found())
	if e == nil && running(f.State) {
		return errors.Join(err, b.motd(conf, d))
	}
	b.busy[conf.UUID] = true
	b.failed(fmt.Errorf("array %s does not run from %s; it is started from its old disks again", conf.Name, d.Clone.Name))
	if e == nil && failed.Name != "" { // what is left of it has the array's name
		e = stop(ctx, failed)
	}
	return errors.Join(err, e, b.putBack(ctx, conf, d.Clone, state.Members))
}

// putBack starts an array from members that it was stopped with, and guards and holds the clone.
func (b *Boot) putBack(ctx context.Context, conf config.Array, clone Drive, members []md.MemberState) error {
	var errs []error
	// nothing is to let the newest copy into an array of old ones, which would be copied over it
	if err := os.Remove(b.file(liftMark + clone.Super.Device.Dashed())); !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	errs = append(errs, b.claim(conf, clone))
	bounded, cancel := context.WithTimeout(ctx, liftAtMost)
	defer cancel()
	for _, m := range members { // not yet --run: the first one need not be the freshest
		out, err := b.Run(bounded, "/sbin/mdadm", "--incremental", md.NodePath(m.Name))
		if err != nil {
			errs = append(errs, fmt.Errorf("mdadm --incremental %s: %w: %s", m.Name, err, out))
		}
	}
	found, _, err := b.scanner().Scan()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	f, array, err := b.facts(conf, found)
	if err == nil && !running(f.State) && array.Name != "" {
		err = start(array)
	}
	return errors.Join(append(errs, err)...)
}

// runsFromOld says that an array does, and what can be done.
func (b *Boot) runsFromOld(conf config.Array, d Decision) {
	b.failed(fmt.Errorf("array %s was started from its own disks by mdadm, but %s; to run from that, turn the machine off, unplug its own "+
		"disks, and boot", conf.Name, d.Why))
}

// motd makes each login say where the machine runs from: pam_motd(8) shows what is in this directory.
func (b *Boot) motd(conf config.Array, d Decision) error {
	path := filepath.Join(b.Root, "run/motd.d/mdclone")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "THIS MACHINE RUNS FROM ITS CLONE: array %s was started from the clone drive (%s),\nas %s.\n"+
		"What is written now is on the clone alone. See: mdclone-early status\n", conf.Name, md.NodePath(d.Clone.Name), d.Why)
	return errors.Join(err, f.Close())
}
