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
	// by its path, as in the udev rules: what they run has no PATH
	bounded, cancel := context.WithTimeout(ctx, liftAtMost)
	defer cancel()
	if out, err := b.Run(bounded, "/sbin/mdadm", "--incremental", path); err != nil {
		errs = append(errs, fmt.Errorf("mdadm --incremental %s: %w: %s", path, err, out))
	}
	// mdadm's word and exit code do not tell whether the array runs
	f, array, err := b.facts(conf, []md.Found{{Name: d.Clone.Name, Path: path, Member: &md.Member{Super: d.Clone.Super}}})
	switch {
	case err != nil:
		errs = append(errs, err)
	case !f.In[d.Clone.Name]:
		errs = append(errs, fmt.Errorf("%s is in no array after mdadm --incremental", path))
	case running(f.State):
	default:
		errs = append(errs, start(array))
	}
	return errors.Join(append(errs, b.motd(conf, d))...)
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
