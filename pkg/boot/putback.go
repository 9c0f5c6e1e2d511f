package boot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// stoppedMark is followed by the UUID of an array that was stopped and does not run again yet, as when the stage that did it was
// left behind: its file has, a line each, what spoke for its clone, if that is why, and the members to put back.
const stoppedMark = "stopped-"

// stopFor stops the array that has these members.
func (b *Boot) stopFor(ctx context.Context, f Facts, array md.Array, members map[string]bool, why string) error {
	was, before := b.stopped(f.Conf)
	own := f.own(func(name string) bool { return members[name] || slices.Contains(before, name) })
	if why == "" {
		why = was
	}
	if len(own) > 0 {
		if err := b.mark(stoppedMark+f.Conf.UUID.Dashed(), why+"\n"+strings.Join(own, " ")+"\n"); err != nil {
			b.failed(err) // as where /run is full: then it must not happen
		}
	}
	return StopArray(ctx, array)
}

// stopLeft stops what is left of an array that does not run.
func (b *Boot) stopLeft(ctx context.Context, f Facts, why string) error {
	now, array, err := b.facts(f.Conf, found(f.Drives))
	if err != nil || array.Name == "" || running(now.State) {
		return err
	}
	return b.stopFor(ctx, f, array, now.In, why)
}

// stopped is what the mark says; no members if there is none.
func (b *Boot) stopped(conf config.Array) (why string, members []string) {
	text, err := os.ReadFile(b.file(stoppedMark + conf.UUID.Dashed()))
	if err != nil {
		return "", nil
	}
	why, rest, _ := strings.Cut(string(text), "\n")
	return why, strings.Fields(rest)
}

// own are the kernel names of an array's own disks that fit.
func (f Facts) own(fits func(name string) bool) (names []string) {
	for _, d := range f.Drives {
		if fits(d.Name) && !f.Conf.HasClone(d.Super.Device) {
			names = append(names, d.Name)
		}
	}
	return names
}

// members are the kernel names of those that are in the array, or were until an earlier look stopped it.
func (f Facts) members() []string {
	in := map[string]bool{}
	maps.Copy(in, f.In)
	for _, name := range f.Stopped {
		in[name] = true
	}
	return slices.Sorted(maps.Keys(in))
}

// runsAgain removes the mark of an array that does.
func (b *Boot) runsAgain(f Facts) error {
	name := b.file(stoppedMark + f.Conf.UUID.Dashed())
	if !exists(name) || b.busy[f.Conf.UUID] { // one that could not be stopped in time may stop yet
		return nil
	}
	now, _, err := b.facts(f.Conf, found(f.Drives))
	if err != nil || !running(now.State) {
		return err
	}
	return os.Remove(name)
}

// restart starts an array that was stopped, without the clone for which it was, if that is why. That is tried once.
func (b *Boot) restart(ctx context.Context, f Facts) error {
	var errs []error
	if slices.ContainsFunc(f.Drives, func(d Drive) bool { return f.In[d.Name] && f.Conf.HasClone(d.Super.Device) }) {
		errs = append(errs, b.stopLeft(ctx, f, "")) // md takes no more disks into that
	}
	for _, d := range f.Drives {
		if f.Lifted[d.Super.Device] {
			errs = append(errs, b.guard(f.Conf, d))
		}
	}
	var failed error
	if why, _ := b.stopped(f.Conf); why == "" {
		failed = b.putBack(ctx, f, f.Stopped)
	} else {
		failed = b.fallBack(ctx, f, f.Stopped, why)
	}
	if failed != nil {
		errs = append(errs, failed, b.mark(deadMark+f.Conf.UUID.Dashed(), ""))
	}
	return errors.Join(errs...)
}

// fallBack starts an array from its own disks, which had been stopped for a clone; why is what spoke for that.
func (b *Boot) fallBack(ctx context.Context, f Facts, members []string, why string) error {
	b.failed(fmt.Errorf("array %s is started from its own disks again", f.Conf.Name))
	return errors.Join(b.putBack(ctx, f, members), b.motd("ARRAY %s MAY RUN FROM OLD DISKS: it could not be started from its clone,\n"+
		"though %s.\n", f.Conf.Name, why))
}

// putBack starts an array from members that were in it.
func (b *Boot) putBack(ctx context.Context, f Facts, members []string) error {
	failed := b.incremental(ctx, members...)
	now, array, err := b.facts(f.Conf, found(f.Drives))
	switch {
	case err != nil:
	case array.Name == "":
		err = fmt.Errorf("none of %s is in an array", strings.Join(members, ", "))
	case !running(now.State):
		err = start(array)
	}
	if err == nil { // whatever mdadm said of it
		return nil
	}
	return errors.Join(failed, err)
}
