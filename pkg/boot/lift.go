package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// liftMark is followed by a clone's device UUID: the guard in the udev rules leaves that clone alone.
const liftMark = "unguarded-"

// liftedMark is followed by the UUID of an array that runs from a clone: the udev rules keep mdadm from its other members, which a
// POLICY line in mdadm.conf would have it put in, part of their data newer and part older.
const liftedMark = "lifted-"

// liftAtMost bounds mdadm.
const liftAtMost = time.Minute

// brokenMark is followed by the device UUID of a clone from which its array could not be started: that is tried once.
const brokenMark = "broken-"

// errAgain is that of a look after which another one may find what to do.
var errAgain = errors.New("it is looked at once more")

// lift starts the array from the clone. Where that fails, the array's own disks are put back into it, and the clone is kept out;
// if there are none, the clone is left without guard and claim, for the distribution's own last resort.
func (b *Boot) lift(ctx context.Context, f Facts, d Decision) error {
	u := d.Clone.Super.Device
	b.Log.Infof("starting array %s from its clone %s (%s), as %s", f.Conf.Name, d.Clone.Name, u, d.Why)
	// in that order: where the drop gets stuck, the next try must not take it for lifted
	if err := b.drop(u); err != nil {
		return err
	}
	errs := []error{b.mark(liftMark+u.Dashed(), d.Clone.Name+"\n")}
	if v := look(f); len(v.primaries) == 0 { // what runs then is from the clone, and in no doubt
		if err := os.Remove(b.file(doubted + f.Conf.UUID.Dashed())); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, b.mark(liftedMark+f.Conf.UUID.Dashed(), "")) // before an own disk can be seen
	failed := b.startFrom(ctx, f, d.Clone)
	if failed != nil && b.runsWithout(f, d.Clone) { // mdadm was quicker, with what came this moment: that may have to be stopped
		return errors.Join(append(errs, failed, b.guard(f.Conf, d.Clone), errAgain)...)
	}
	if failed != nil { // a fresher one that is being rebuilt, in the array, keeps md from starting it
		b.Log.Infof("%s does not start: %v; once more, from the clone alone", f.Conf.Name, failed)
		if failed = b.stopLeft(ctx, f, d.Why); failed == nil {
			failed = b.startFrom(ctx, f, d.Clone)
		}
	}
	if failed == nil {
		b.Log.Warnf("this machine runs from the clone: array %s was started from %s (%s), as %s", f.Conf.Name, md.NodePath(d.Clone.Name),
			u, d.Why)
		b.showSplash(ctx, "this machine runs from the clone")
		return errors.Join(append(errs, b.motd("THIS MACHINE RUNS FROM THE CLONE: array %s was started from the clone drive (%s),\nas %s.\n"+
			"What is written now is on the clone alone. See: mdclone-early status\n", f.Conf.Name, md.NodePath(d.Clone.Name), d.Why))...)
	}
	b.failed(fmt.Errorf("array %s cannot be started from its clone: %w", f.Conf.Name, failed))
	errs = append(errs, b.unmark(liftedMark+f.Conf.UUID.Dashed()))
	// md takes no more disks into an array that it could not start (drivers/md/md.c, md_add_new_disk, Linux 6.12)
	errs = append(errs, b.mark(brokenMark+u.Dashed(), ""), b.stopLeft(ctx, f, d.Why))
	if members := f.members(); len(members) > 0 {
		// nothing is to let the newest copy into an array of old ones, which would be copied over it
		errs = append(errs, b.guard(f.Conf, d.Clone), b.fallBack(ctx, f, members, d.Why))
	}
	return errors.Join(errs...)
}

// lifted answers udev, which has seen a member by that name of an array that was started from a clone, and is none itself: it is to
// stay out while the array runs from clones alone. Once it does not, that is over.
func (b *Boot) lifted(name string) error {
	m, err := md.ReadDevice(md.NodePath(name))
	if err != nil {
		return err
	}
	for _, conf := range b.confs() {
		if conf.UUID != m.Super.Array {
			continue
		}
		seen, _, err := b.scanner().Scan()
		if err != nil {
			return err
		}
		f, _, err := b.facts(conf, seen)
		switch {
		case err != nil:
			return err
		case !fromClones(f):
			return b.unmark(liftedMark + conf.UUID.Dashed())
		case !f.In[name]:
			_, err = fmt.Fprintln(b.Stdout, "MDCLONE_LIFTED=1")
			return err
		}
	}
	return nil
}

// fromClones tells whether an array runs, and none of its own disks has all of its data.
func fromClones(f Facts) bool {
	if !running(f.State) {
		return false
	}
	for _, d := range f.Drives {
		if f.In[d.Name] && !f.Conf.HasClone(d.Super.Device) && whole(d) {
			return false
		}
	}
	return true
}

// guard takes back what a lift has changed for a clone.
func (b *Boot) guard(conf config.Array, clone Drive) error {
	return errors.Join(b.unmark(liftMark+clone.Super.Device.Dashed()), b.unmark(liftedMark+conf.UUID.Dashed()), b.claim(conf, clone))
}

// runsWithout tells whether the array runs, and a drive is not in it.
func (b *Boot) runsWithout(f Facts, drive Drive) bool {
	now, _, err := b.facts(f.Conf, found(f.Drives))
	return err == nil && running(now.State) && !now.In[drive.Name]
}

// startOwn starts an array that has its own disks, from those that can be read. md reads the bitmap of one of them alone, so each
// is tried alone where that is damaged; what is left out then is for a person to look at.
func (b *Boot) startOwn(ctx context.Context, f Facts, array md.Array) error {
	failed := start(array)
	if failed == nil {
		return nil
	}
	v := look(f)
	for _, p := range v.primaries {
		if v.good == nil || !whole(p) || !f.In[p.Name] || p.Super.Events+1 < v.good.Super.Events {
			continue
		}
		b.Log.Infof("%s does not start: %v; once more, from %s alone", f.Conf.Name, failed, p.Name)
		failed = b.stopLeft(ctx, f, "")
		if failed == nil {
			failed = b.startFrom(ctx, f, p)
		}
		if failed == nil {
			b.Log.Warnf("array %s was started from %s alone: look at its other disks", f.Conf.Name, p.Name)
			return nil
		}
	}
	members := f.members()
	if err := b.stopLeft(ctx, f, ""); err != nil {
		return errors.Join(failed, err)
	}
	if err := b.putBack(ctx, f, members); err == nil {
		return nil
	}
	return errors.Join(failed, b.mark(deadMark+f.Conf.UUID.Dashed(), ""), errAgain) // there may be a clone to start it from
}

// startFrom has mdadm start an array from a drive, and looks whether it runs from that.
func (b *Boot) startFrom(ctx context.Context, f Facts, drive Drive) error {
	failed := b.incremental(ctx, drive.Name)
	// mdadm's word and exit code do not tell whether the array runs, nor from what
	now, array, err := b.facts(f.Conf, found(f.Drives))
	if err == nil && now.In[drive.Name] && !running(now.State) {
		if err = start(array); err == nil {
			now, _, err = b.facts(f.Conf, found(f.Drives))
		}
	}
	switch {
	case err != nil:
		return errors.Join(failed, err)
	case !now.In[drive.Name]:
		return errors.Join(failed, fmt.Errorf("%s is in no array", drive.Name))
	case !running(now.State):
		return errors.Join(failed, fmt.Errorf("%s is %s", array.Name, now.State))
	}
	return nil
}

// incremental has mdadm put drives into their array, in less than liftAtMost together.
func (b *Boot) incremental(ctx context.Context, names ...string) error {
	bounded, cancel := context.WithTimeout(ctx, liftAtMost)
	defer cancel()
	var errs []error
	for _, name := range names { // not --run: the first one need not be the freshest
		// by its path, as in the udev rules: what they run has no PATH
		if said, err := b.Run(bounded, "/sbin/mdadm", "--incremental", md.NodePath(name)); err != nil {
			errs = append(errs, fmt.Errorf("mdadm --incremental %s: %w: %s", name, err, said))
		}
	}
	return errors.Join(errs...)
}

// found are drives as a look at all of them finds them.
func found(drives []Drive) (out []md.Found) {
	for _, d := range drives {
		out = append(out, md.Found{Name: d.Name, Path: md.NodePath(d.Name), Member: &md.Member{Super: d.Super}})
	}
	return out
}

// retake stops an array that runs from old disks, which nobody has used, and starts it from the clone; from those disks again
// where that fails, as there would be no root file system.
func (b *Boot) retake(ctx context.Context, f Facts, array md.Array, d Decision) error {
	if err := b.stopFor(ctx, f, array, f.In, d.Why); err != nil {
		b.busy[f.Conf.UUID] = true
		b.runsFromOld(f.Conf, d)
		return err
	}
	b.Log.Warnf("%s, which mdadm had started from disks of array %s that are not its newest copy, is stopped", array.Name, f.Conf.Name)
	return b.lift(ctx, f, d)
}

// stopUnlifted stops an array that runs from its clone, and holds that before the next mdadm looks.
func (b *Boot) stopUnlifted(ctx context.Context, f Facts, array md.Array, d Decision) error {
	if err := StopArray(ctx, array); err != nil {
		b.busy[f.Conf.UUID] = true
		return errors.Join(err, b.motd("THIS MACHINE RUNS FROM THE CLONE: array %s could not be stopped, and %s.\nSee: mdclone-early status\n",
			f.Conf.Name, d.Why))
	}
	b.Log.Warnf("%s is stopped: %s", array.Name, d.Why)
	errs := []error{b.unmark(liftedMark + f.Conf.UUID.Dashed())}
	for _, c := range f.Drives {
		if f.In[c.Name] {
			errs = append(errs, b.claim(f.Conf, c))
		}
	}
	if err := b.incremental(ctx, f.own(func(string) bool { return true })...); err != nil { // those that came meanwhile were refused
		b.Log.Infof("%v", err)
	}
	return errors.Join(errs...)
}

// runsFromOld says that an array does, and what can be done.
func (b *Boot) runsFromOld(conf config.Array, d Decision) {
	b.failed(fmt.Errorf("array %s was started from its own disks by mdadm, but %s; to run from that, turn the machine off, unplug its own "+
		"disks, and boot", conf.Name, d.Why))
}

// mayBeOld says that an array was started from what may not be its newest copy, and what can be done.
func (b *Boot) mayBeOld(conf config.Array, why string) error {
	const text = "ARRAY %s MAY RUN FROM OLD DISKS: %s.\nIf the machine has run from that clone: turn it off, unplug the other disks, and boot.\n"
	b.Log.Warnf(strings.ReplaceAll(strings.TrimSpace(text), "\n", " "), conf.Name, why)
	return b.motd(text, conf.Name, why)
}

// motd has each login say something, once: pam_motd(8) shows what is in this directory.
func (b *Boot) motd(format string, args ...any) error {
	path := filepath.Join(b.Root, "run/motd.d/mdclone")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	said, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	text := fmt.Sprintf(format, args...)
	if strings.Contains(string(said), text) { // by an earlier look
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
