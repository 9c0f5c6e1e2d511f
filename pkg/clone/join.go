package clone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// patience bounds what takes the kernel milliseconds on an idle machine.
const patience = time.Minute

// watchTick is how often a wait looks although the kernel announced nothing: for progress, and for what it never
// announces.
const watchTick = 100 * time.Millisecond

// ready makes sure that nothing stands in the way of a sync.
func (s *session) ready(ctx context.Context) error {
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	if s.follows { // the sync of the clone before it may be ending still, if that failed
		if state, err = s.awaitIdle(ctx, state, patience); err != nil {
			return err
		}
	}
	if state.SyncAction != "idle" {
		return report.Fail(report.Refused, "busy", "%s is busy: sync_action is %s", s.Array.Name, state.SyncAction).
			Hint("wait until /proc/mdstat shows no resync or check, then run this again")
	}
	if state.ArrayState == "read-auto" {
		if err := s.activate(); err != nil {
			return err
		}
	}
	return s.equalPrimaries(ctx)
}

// activate ends how Debian starts arrays: until the first write nothing is synced either.
func (s *session) activate() error { return s.Array.Write("active", "array_state") }

// equalPrimaries waits for the end of a resync, which makes the array's own disks equal after a crash: a clone that leaves, or
// is copied to, before that may be neither's. md calls all of them in sync meanwhile.
func (s *session) equalPrimaries(ctx context.Context) error {
	w, err := s.Array.FS.Watch(s.Array.Attr("sync_action"), s.Array.Attr("sync_completed"))
	if err != nil {
		return err
	}
	defer w.Close()
	var idleSince time.Time
	for said := false; ; said = true {
		from, err := s.Array.Read("resync_start")
		if err != nil {
			return err
		}
		action, err := s.Array.Read("sync_action")
		if err != nil {
			return err
		}
		switch {
		case from == "none" && action != "resync":
			return nil
		case action != "idle" && action != "frozen": // 6.1 recovers before it resyncs
			idleSince = time.Time{}
		case idleSince.IsZero():
			idleSince = s.env.Now()
		case s.env.Now().Sub(idleSince) > patience:
			return report.Fail(report.Refused, "busy", "%s must be resynced first, and is not (sync_action is %s)", s.Array.Name, action).
				Hint("echo idle > /sys/block/%s/md/sync_action, then wait until /proc/mdstat shows no resync", s.Array.Name)
		}
		if !said {
			s.env.Log.Infof("%s: waiting until its own disks are equal", s.Array.Name)
			s.env.Progress.Start("resync of " + s.Array.Name)
			defer s.env.Progress.Done()
			state, err := s.Array.Read("array_state")
			if err == nil && state == "read-auto" {
				err = s.activate()
			}
			if err = errors.Join(err, s.openRange()); err != nil {
				return err
			}
		}
		if text, err := s.Array.Read("sync_completed"); err == nil {
			if done, total, ok := cutCompleted(text); ok {
				s.env.Progress.Update(done*512, total*512, "")
			}
		}
		if err := w.Wait(ctx, watchTick); err != nil {
			return err
		}
	}
}

// awaitIdle waits until no sync runs, and returns the state then.
func (s *session) awaitIdle(ctx context.Context, state md.State, atMost time.Duration) (md.State, error) {
	w, err := s.Array.FS.Watch(s.Array.Attr("sync_action"))
	if err != nil {
		return state, err
	}
	defer w.Close()
	for end := s.env.Now().Add(atMost); state.SyncAction != "idle" && s.env.Now().Before(end); {
		if err := w.Wait(ctx, watchTick); err != nil {
			return state, err
		}
		if state, err = s.Array.State(); err != nil {
			return state, err
		}
	}
	return state, nil
}

// openRange undoes a range that a check left behind when it was cut: it stops every later sync at its end, for ever.
func (s *session) openRange() error {
	for _, r := range []struct{ attr, open string }{{"sync_max", "max"}, {"sync_min", "0"}} {
		text, err := s.Array.Read(r.attr)
		if err != nil {
			return err
		}
		if text == r.open {
			continue
		}
		s.env.Log.Infof("%s: %s was left at %s, setting it to %s", s.Array.Name, r.attr, text, r.open)
		if r.attr == "sync_min" {
			err = s.fromStart()
		} else {
			err = s.Array.Write(r.open, r.attr)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fromStart has later syncs begin at the array's first sector. That cannot be changed while one runs, which is past it, and
// not for the moment in which md looks whether one is due, as after the end of a check (drivers/md/md.c, min_sync_store and
// md_check_recovery, Linux 6.12).
func (s *session) fromStart() error {
	w, err := s.Array.FS.Watch(s.Array.Attr("sync_action"))
	if err != nil {
		return err
	}
	defer w.Close()
	for end := s.env.Now().Add(patience); ; {
		err := s.Array.Write("0", "sync_min")
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		action, e := s.Array.Read("sync_action")
		if e != nil {
			return e
		}
		if action != "idle" && action != "frozen" {
			return nil
		}
		if s.env.Now().After(end) {
			return err
		}
		if err := w.Wait(context.Background(), watchTick); err != nil {
			return err
		}
	}
}

// join lets the drive into its own slot, incrementally or not at all.
func (s *session) join() error {
	super := s.drive.Member.Super
	primary, err := s.readPrimary()
	if err != nil {
		return err
	}
	s.copies(primary.Bitmap) // it was marked meanwhile, or written while a resync was waited for
	// a clone that ran alone may be ahead: events that the array has not reached cannot be passed
	s.slot, s.before = s.verdict.Slot, min(super.Events, primary.Super.Events)
	if s.verdict.Mend != MendJoin && s.verdict.Mend != MendFull { // else it was kept as it was found
		if err := s.keepSuper(); err != nil {
			return err
		}
	}
	before, err := s.expectAttached()
	if err != nil {
		return err
	}
	if err := s.Array.ReAdd(s.drive.Path, super); err != nil {
		if before != nil {
			err = errors.Join(err, s.env.record(*before)) // it is still out, as it was
		}
		if errors.Is(err, unix.EINVAL) {
			exit := report.Refused
			if s.verdict.Mend != MendNothing { // its superblock or the bitmap was mended already
				exit = report.Failed
			}
			return report.Fail(exit, "kernel-refused", "the kernel would not take %s without a full copy: %w", s.drive.Name, err)
		}
		return err
	}
	s.acted = true
	got, err := s.awaitSlot()
	if err == nil && got == s.slot {
		if err := s.recordStay(); err != nil {
			s.env.Log.Warnf("that %s joined cannot be recorded, so all of it will be compared when it is detached: %v", s.drive.Name, err)
		}
		return nil
	}
	if reasonCode(err) == "last-primary" {
		return err
	}
	if s.failed() {
		return errors.Join(driveFailed(s.drive.Name), s.takeBack())
	}
	if err == nil {
		err = fmt.Errorf("the kernel put %s into slot %d, not %d", s.drive.Name, got, s.slot)
	}
	return errors.Join(report.Fail(report.Failed, "join", "%s did not join: %w", s.drive.Name, err), s.takeBack())
}

// expectAttached notes in the ledger that what it says of the drive's last leave holds no more, and what is doubted of
// it. It returns the entry as it was.
func (s *session) expectAttached() (before *Entry, err error) {
	if before, err = s.env.entry(s.drive.Member.Super.Device); err != nil {
		return nil, err
	}
	super := s.drive.Member.Super
	x := Entry{Clone: super.Device, Array: super.Array, FirstCopy: true, Slot: super.Slot(), Events: super.Events}
	if before != nil {
		x = *before
	}
	x.Attached, x.Doubt = true, s.verdict.WhyVerify
	return before, s.env.record(x)
}

// recordStay notes that the drive is in the array by a join of ours, or is as good as that.
func (s *session) recordStay() error {
	x, err := s.env.entry(s.drive.Member.Super.Device)
	if err != nil || x == nil {
		return err
	}
	stay, err := s.env.stay(s.Array, s.drive.Name)
	if err != nil || x.Attached && x.Joined == stay {
		return err
	}
	x.Attached, x.Joined = true, stay
	return s.env.record(*x)
}

// doubt records why all of the clone must be compared, or with "" that nothing is doubted any more.
func (s *session) doubt(why string) error {
	x, err := s.env.entry(s.drive.Member.Super.Device)
	if err != nil || x == nil || x.Doubt == why {
		return err
	}
	x.Doubt = why
	return s.env.record(*x)
}

// awaitSlot waits until md's thread has given the drive a slot. Until then it is a spare, on disk too, so an interrupt
// waits these milliseconds: a drive in its slot leaves in good order.
func (s *session) awaitSlot() (int, error) {
	w, err := s.Array.FS.Watch(s.Array.Attr("dev-"+s.drive.Name, "state"))
	if err != nil {
		return -1, err
	}
	defer w.Close()
	for end := s.env.Now().Add(patience); ; {
		m, err := s.Array.Member(s.drive.Name)
		if err != nil {
			return -1, err
		}
		if m.Slot >= 0 {
			return m.Slot, nil
		}
		if m.Has("faulty") { // it gets none any more
			return -1, driveFailed(s.drive.Name)
		}
		state, err := s.Array.State()
		if err != nil {
			return -1, err
		}
		if lost := s.lost(state); lost != nil && reasonCode(lost) == "last-primary" { // md takes it out of its slot, or never gives it one
			return -1, lost
		}
		if s.env.Now().After(end) {
			return -1, fmt.Errorf("it is still a spare after %s", patience)
		}
		// slot is not announced by the kernel; state is, a moment earlier
		if err := w.Wait(context.Background(), 20*time.Millisecond); err != nil {
			return -1, err
		}
	}
}

// takeBack removes a drive whose join went wrong and gives it back the superblock it came with.
func (s *session) takeBack() error {
	m, err := s.Array.Member(s.drive.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if m.InSync() {
		return s.detach(false)
	}
	if m.Slot >= 0 && !m.Has("faulty") {
		if err := s.Array.Write("faulty", "dev-"+s.drive.Name, "state"); err != nil {
			return err
		}
	}
	if err := s.remove(s.drive.Name); err != nil {
		return err
	}
	now, err := md.ReadDevice(s.drive.Path)
	if err != nil {
		return err
	}
	if now.Super.Device != s.drive.Member.Super.Device || now.Super.Slot() >= 0 {
		return nil // it is not the spare that the cut join leaves
	}
	block := md.AlignedBuffer(md.SuperSize)
	copy(block, s.drive.Member.Raw)
	return writeSuper(s.drive.Path, now.Raw, now.Super.SuperOffset, block)
}

// keepSuper saves the drive's superblock, which the join overwrites, for takeBack and for a person.
func (s *session) keepSuper() error {
	name := "superblock-" + s.drive.Member.Super.Device.Hex()
	dir := s.env.VarDir() // a power cut in the spare window leaves nothing else
	if s.env.EarlyBoot() {
		dir = s.env.RunDir()
	}
	return writeDurably(filepath.Join(dir, name), s.drive.Member.Raw)
}

// await waits until the sync is over and says how it went. It is the clone's own state that counts: a primary that
// fails meanwhile keeps `degraded` above 0.
func (s *session) await(ctx context.Context, label string, total uint64) error {
	w, err := s.Array.FS.Watch(s.Array.Attr("dev-"+s.drive.Name, "state"), s.Array.Attr("sync_action"),
		s.Array.Attr("sync_completed"))
	if err != nil {
		return err
	}
	defer w.Close()
	s.env.Log.Infof("%s is inconsistent while it is copied to, and does not boot: do not unplug it", s.drive.Name)
	s.env.Progress.Start(label)
	defer s.env.Progress.Done()
	for idleSince := (time.Time{}); ; {
		m, err := s.Array.Member(s.drive.Name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && m.Has("faulty") {
			// until bad blocks are on disk too, the drive reads as faulty (drivers/md/md.c, state_show, Linux 6.12)
			if bad, e := s.Array.BadBlocks(s.drive.Name); e == nil && bad {
				return s.sound()
			}
			return driveFailed(s.drive.Name)
		}
		if err != nil {
			return err
		}
		action, err := s.Array.Read("sync_action")
		if err != nil {
			return err
		}
		switch {
		case action == "frozen":
			return report.Fail(report.Failed, "frozen", "somebody froze the sync of %s", s.Array.Name)
		case action != "idle":
			idleSince = time.Time{}
		case m.InSync() && m.Slot == s.slot:
			return nil
		default:
			if idleSince.IsZero() {
				idleSince = s.env.Now()
			}
			if err := s.stalled(idleSince); err != nil {
				return err
			}
		}
		written, err := s.sectorsWritten()
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // gone: the next turn says so
			return err
		}
		s.env.Progress.Update((written-min(s.written, written))*512, total, s.note())
		if err := w.Wait(ctx, watchTick); err != nil {
			return err
		}
	}
}

// stalled says why a sync that has been idle since then does not go on; nil as long as it may.
func (s *session) stalled(since time.Time) error {
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	if lost := s.lost(state); lost != nil && reasonCode(lost) == "last-primary" { // from another one md goes on
		return lost
	}
	if s.env.Now().Sub(since) > patience {
		return report.Fail(report.Failed, "sync-stopped", "the sync of %s stopped before %s was in sync", s.Array.Name, s.drive.Name)
	}
	return nil
}

// note is what is worth saying behind the progress: a sync that waits for another array's.
func (s *session) note() string {
	if text, err := s.Array.Read("sync_completed"); err == nil && text == "delayed" {
		return "delayed by another array's sync"
	}
	return ""
}

// sound makes sure that no member has a sector that could not be written: such a mirror ends in sync, with a clear
// bitmap, and differs.
func (s *session) sound() error {
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	for _, m := range state.Members {
		other := m.Name != s.drive.Name && !slices.Contains(s.peers, m.Name)
		if other && m.Failed() {
			continue // another clone that has failed is out of the mirror
		}
		bad, err := s.Array.BadBlocks(m.Name)
		if other && errors.Is(err, fs.ErrNotExist) {
			continue // or is gone
		}
		if err != nil {
			return err
		}
		if bad {
			return report.Fail(report.Failed, "bad-blocks", "%s has bad blocks: what lies there is not mirrored", m.Name).
				Hint("mdadm --examine-badblocks /dev/%s lists them; replace that drive", m.Name)
		}
	}
	return nil
}
