package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// step looks at all configured arrays and does what is to be done. pending tells whether waiting makes sense.
func (b *Boot) step(ctx context.Context, waits, late bool) (pending bool, err error) {
	pending, unsettled, err := b.stepOnce(ctx, waits, late, false)
	if unsettled { // no longer under the lock, which udev's programs take
		var e error
		err = errors.Join(err, b.settle(ctx))
		pending, _, e = b.stepOnce(ctx, waits, late, true)
		err = errors.Join(err, e)
	}
	return pending, err
}

// stepOnce looks once; settled says that udev has finished, unsettled that it has to, and that another look is due then.
func (b *Boot) stepOnce(ctx context.Context, waits, late, settled bool) (pending, unsettled bool, err error) {
	confs := b.confs()
	if len(confs) == 0 {
		return false, false, nil
	}
	unlock, err := b.lock()
	if err != nil {
		return false, false, err
	}
	defer unlock()
	found, unreadable, err := b.scanner().Scan()
	if err != nil {
		return false, false, err
	}
	unheard := b.unheard(unreadable)
	if unheard != "" {
		b.once("%s does not answer yet: what is on it may be the newest copy", unheard)
	}
	var errs []error
	for _, conf := range confs {
		f, array, err := b.facts(conf, found)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", conf.Name, err))
			continue
		}
		f.Waits, f.Holds, f.Held = waits, b.claims(), (b.holds(conf) || b.quicker(f)) && !b.busy[conf.UUID]
		f.Settled = settled
		if err := b.timing(&f, late); err != nil {
			errs = append(errs, err)
		}
		d := Decide(f)
		if unheard != "" {
			d = d.onlyClaims(f)
		}
		unsettled = unsettled || d.Do == Settle
		pending = pending || d.Do == Wait || d.Do == Stop || unheard != ""
		if err := b.carryOut(ctx, f, array, d); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", conf.Name, err))
			pending = pending || errors.Is(err, errAgain)
		}
	}
	if pending {
		for name, err := range unreadable { // one of them may be what is waited for
			if !errors.Is(err, md.ErrSilent) { // which was said
				b.once("%s is not looked at: %v", name, err)
			}
		}
	}
	return pending, unsettled, errors.Join(errs...)
}

// silentMark, before a disk's name, is the mark that init-premount has waited for it in vain.
const silentMark = "silent-"

// unheard is a disk that does not answer and for which nobody has waited long enough, "" if there is none. Without it a stage
// that has little patience only claims what it sees; init-premount or the end of local-block decides.
func (b *Boot) unheard(unreadable map[string]error) string {
	if !b.early() {
		return ""
	}
	for name, err := range unreadable {
		if disk := b.FS.DiskOf(name); b.stage != stageWait && errors.Is(err, md.ErrSilent) && !exists(b.file(silentMark+disk)) {
			return disk
		}
	}
	return ""
}

// confs is the configuration, as much of it as is good. One stage says what is not.
func (b *Boot) confs() []config.Array {
	confs, errs := config.LoadEach(b.Root)
	for _, err := range errs {
		if text := err.Error(); b.stage == stageWait && b.first(text) {
			b.Log.Warnf("%s", text)
		}
	}
	return confs
}

// claims tells whether a clone that an event shows is held at once: in the initramfs, where mdadm may be run any moment, but
// not while its clone is being made.
func (b *Boot) claims() bool {
	return b.early() && exists(b.file(premount)) && !b.asked()
}

func (b *Boot) carryOut(ctx context.Context, f Facts, array md.Array, d Decision) error {
	var errs []error
	conf := f.Conf
	for _, c := range d.Claim {
		errs = append(errs, b.claim(conf, c))
	}
	switch d.Do {
	case Wait:
		if b.stage != stageWait { // the others only look, again and again
			break
		}
		errs = append(errs, b.mark(doubted+conf.UUID.Dashed(), "")) // what mdadm may start meanwhile
		b.showOnce(ctx, "%s; waiting %s; Enter on the console ends that", d.Why, b.waitText(conf))
	case Start, Degraded:
		b.Log.Infof("starting %s (array %s): %s", array.Name, conf.Name, d.Why)
		err := b.startOwn(ctx, f, array)
		if err == nil && d.Old != "" {
			err = b.mayBeOld(conf, d.Old)
		}
		errs = append(errs, err)
	case Lift:
		errs = append(errs, b.lift(ctx, f, d))
	case Retake:
		errs = append(errs, b.retake(ctx, f, array, d))
	case Stop:
		errs = append(errs, b.stopUnlifted(ctx, f, array, d))
	case Restart:
		b.Log.Infof("starting array %s: %s", conf.Name, d.Why)
		errs = append(errs, b.restart(ctx, f))
	case Tell:
		if b.stage == stageWait {
			b.runsFromOld(conf, d)
		}
	case Nothing:
		if d.Why != "" && b.stage == stageWait {
			b.once("array %s is not started: %s", conf.Name, d.Why)
		}
	}
	return errors.Join(append(errs, b.runsAgain(f))...)
}

// deadMark is followed by the UUID of an array that could not be started from its own disks: that is tried once.
const deadMark = "dead-"

// once says what more than one look finds.
func (b *Boot) once(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); b.first(text) {
		b.Log.Infof("%s", text)
	}
}

// failed is once for an error.
func (b *Boot) failed(err error) {
	if b.first(err.Error()) {
		b.Log.Fail(err)
	}
}

// first tells whether text has not been said yet, and takes it for said.
func (b *Boot) first(text string) bool {
	said := b.said[text]
	b.said[text] = true
	return !said
}

// start starts an array that mdadm has put together. read-auto is how mdadm does it: nothing is written until the first
// write (drivers/md/md.c, array_state_store, Linux 6.12).
func start(a md.Array) error {
	for end := time.Now().Add(passesAtMost); ; {
		err := setState(a, readAuto)
		if err == nil {
			return nil
		}
		state, e := a.Read("array_state")
		if e == nil && running(state) { // mdadm was quicker
			return nil
		}
		if e != nil || time.Now().After(end) {
			return err
		}
		time.Sleep(lookAgain) // that a disk can be read again is not announced
	}
}

// passesAtMost is how long an error of a disk that passes, as while a link is reset, keeps an array from being started.
const passesAtMost = 5 * time.Second

// answersAtMost bounds what waits in the kernel: whoever holds md's lock on an array may wait for a disk.
const answersAtMost = 30 * time.Second

// setState writes an array's state.
func setState(a md.Array, state string) error {
	return Answered(a.Name+": "+state, func() error { return a.Write(state, "array_state") })
}

// Answered is what do returns, if it does so in 30 s; else do is left behind, as nothing ends what waits for a disk in the kernel,
// and the error names it.
func Answered(name string, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(answersAtMost):
		return fmt.Errorf("%s: no answer for %s", name, answersAtMost)
	}
}

// closedAtMost is how long an array that is in use is waited for: udev's programs look at what is on it.
const closedAtMost = 10 * time.Second

// StopArray stops an array that nobody uses.
func StopArray(ctx context.Context, a md.Array) error {
	for end := time.Now().Add(closedAtMost); ; {
		err := Answered("stop "+a.Path(), a.Stop)
		if !errors.Is(err, unix.EBUSY) || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		time.Sleep(20 * time.Millisecond) // the last close of a device is not announced
	}
}

// doubted, before an array's UUID, is the mark that the udev rule holds it whoever starts it, see Doubtful.
const doubted = "doubted-"

// started looks at the arrays that run before init-premount has looked, or that others have started since.
func (b *Boot) started() error {
	found, _, err := b.scanner().Scan()
	if err != nil {
		return err
	}
	var errs []error
	for _, conf := range b.confs() {
		f, _, err := b.facts(conf, found)
		doubtful := Doubtful(f)
		if exists(b.file(premount)) { // what lacks members since then is a stage's decision, or what mdadm was left to start
			doubtful = unlifted(f) && unwritten(f.State) && !b.letGo(f)
		}
		if err == nil && doubtful {
			b.Log.Infof("what is on array %s waits: what mdadm has started it from may not be its newest copy", conf.Name)
			err = b.mark(doubted+conf.UUID.Dashed(), "")
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// quicker tells whether mdadm has just started the array from its clone alone, and udev's rule may have to see that yet: the
// initramfs goes on to look for the root file system, and for what is encrypted on the array.
func (b *Boot) quicker(f Facts) bool {
	return b.stage == stageBlock && unlifted(f) && !b.letGo(f)
}

// letGo tells whether a person has let the clone go from which the array runs, to start it at a prompt.
func (b *Boot) letGo(f Facts) bool {
	return slices.ContainsFunc(f.Drives, func(d Drive) bool {
		pid, drive, err := b.holder(claimMark + d.Super.Device.Dashed())
		return f.In[d.Name] && err == nil && pid == 0 && drive == d.Name
	})
}

// drivesOf are an array's members.
func drivesOf(conf config.Array, found []md.Found) (drives []Drive) {
	for _, d := range found {
		if d.Member.Super.Array == conf.UUID {
			drives = append(drives, Drive{d.Name, d.Member.Super})
		}
	}
	return drives
}

// facts reads what the decision on one array rests on.
func (b *Boot) facts(conf config.Array, found []md.Found) (Facts, md.Array, error) {
	f := Facts{
		Conf: conf, Drives: drivesOf(conf, found), In: map[string]bool{}, Lifted: map[md.UUID]bool{}, Broken: map[md.UUID]bool{},
		Dead: exists(b.file(deadMark + conf.UUID.Dashed())),
	}
	for _, u := range conf.Clones {
		f.Lifted[u], f.Broken[u] = exists(b.file(liftMark+u.Dashed())), exists(b.file(brokenMark+u.Dashed()))
	}
	_, stopped := b.stopped(conf)
	f.Stopped = f.own(func(name string) bool { return slices.Contains(stopped, name) })
	arrays, err := md.Arrays(b.FS)
	if err != nil {
		return f, md.Array{}, err
	}
	var ours md.Array
	for _, a := range arrays {
		s, err := a.State()
		if errors.Is(err, fs.ErrNotExist) { // stopped this moment
			continue
		}
		if err != nil {
			return f, ours, err
		}
		has := false
		for _, d := range f.Drives {
			_, in := s.Member(d.Name)
			has = has || in
		}
		if !has || running(f.State) {
			continue
		}
		ours, f.State, f.In = a, s.ArrayState, map[string]bool{}
		for _, m := range s.Members {
			f.In[m.Name] = true
		}
	}
	return f, ours, nil
}
