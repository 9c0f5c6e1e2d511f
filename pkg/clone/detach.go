package clone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// detach takes the clone out in good order: it is looked at once more that it is the clone and not the last good copy,
// it is failed, removed and flushed, and what the primaries' disks then say is read back.
func (s *session) detach() error {
	on, err := md.ReadDevice(s.drive.Path)
	if err != nil {
		return err
	}
	if on.Super.Device != s.drive.Member.Super.Device {
		return report.Fail(report.Failed, "other-drive", "%s is another drive now (%s)", s.drive.Name, on.Super.Device)
	}
	if err := s.choosePeer(); err != nil {
		return err
	}
	state, err := s.Array.State() // the last thing that is read before the write
	if err != nil {
		return err
	}
	m, ok := state.Member(s.drive.Name)
	if !ok {
		return report.Fail(report.Failed, "not-attached", "%s is no member of %s any more", s.drive.Name, s.Array.Name)
	}
	if !m.Has("faulty") {
		if err := s.mayFail(state); err != nil {
			return err
		}
		if err := s.Array.Write("faulty", "dev-"+s.drive.Name, "state"); err != nil {
			return err
		}
	}
	if err := s.remove(); err != nil {
		return err
	}
	if err := md.Flush(s.drive.Path); err != nil {
		return fmt.Errorf("flush %s: %w", s.drive.Path, err)
	}
	return nil
}

// mayFail is the last look before the write: failing the last good member answers EBUSY and breaks the array for every
// later write. A complete clone stays, too, where a primary has failed since the session began.
func (s *session) mayFail(state md.State) error {
	left, lost := whoIsLeft(state, s.peers)
	m, _ := state.Member(s.drive.Name)
	switch {
	case len(left) == 0:
		return noneLeft(s.Array.Name, s.drive.Name, state, lost)
	case len(lost) > 0 && m.InSync():
		return primaryFailed(s.Array.Name, s.drive.Name, lost)
	}
	s.peer = left[0]
	return nil
}

func primaryFailed(array, drive string, lost []string) *report.Error {
	return report.Fail(report.Failed, "primary-failed", "%s of %s failed meanwhile: %s stays in, in its place", join(lost), array, drive).
		Hint("replace what failed; mdclone-early detach takes the clone out when you say so")
}

// noneLeft says what a clone is worth whose primaries are lost.
func noneLeft(array, drive string, state md.State, lost []string) *report.Error {
	if m, _ := state.Member(drive); m.InSync() {
		return report.Fail(report.Failed, "last-copy", "no other member of %s is in sync: %s stays in, it is the last good copy", array, drive)
	}
	return report.Fail(report.Failed, "last-primary", "%s failed meanwhile, and was the last of %s: %s is no complete clone, and nothing "+
		"was taken out", join(lost), array, drive).
		Hint("keep both drives as they are and look at the kernel log; once %s can be read again, stop %s, assemble it from there, and a backup "+
			"copies the rest", join(lost), array)
}

// lostMeanwhile says that primaries, of those that were there when the session began, are lost; nil if none is. md keeps the
// last one in its slot, in sync by its word, whatever becomes of it: what tells then are bad blocks and the array's state.
func lostMeanwhile(array, drive string, state md.State, peers []string, bad func(name string) bool) *report.Error {
	left, lost := whoIsLeft(state, peers)
	if m, _ := state.Member(drive); !m.InSync() && (state.ArrayState == "broken" || !slices.ContainsFunc(left, func(n string) bool { return !bad(n) })) {
		left, lost = nil, peers
	}
	switch {
	case len(lost) == 0:
		return nil
	case len(left) == 0:
		return noneLeft(array, drive, state, lost)
	}
	return primaryFailed(array, drive, lost)
}

// whoIsLeft tells which members of names are still in sync and which are not.
func whoIsLeft(state md.State, names []string) (left, lost []string) {
	for _, n := range names {
		if m, ok := state.Member(n); ok && m.InSync() {
			left = append(left, n)
		} else {
			lost = append(lost, n)
		}
	}
	return left, lost
}

// remove takes a failed or spare drive out of the array. The kernel answers EBUSY until what is under way to it has
// ended, and announces that nowhere.
func (s *session) remove() error {
	for end := s.env.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := s.Array.Write("remove", "dev-"+s.drive.Name, "state")
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV):
			return s.awaitGone()
		case !errors.Is(err, unix.EBUSY) || s.env.Now().After(end):
			return err
		}
	}
}

// awaitGone waits until the drive's directory has left the array: the kernel takes it out in a work of its own.
func (s *session) awaitGone() error {
	for end := s.env.Now().Add(patience); s.env.FS.Exists(s.Array.Attr("dev-" + s.drive.Name)); time.Sleep(5 * time.Millisecond) {
		if s.env.Now().After(end) {
			return fmt.Errorf("%s is still in %s after %s", s.drive.Name, s.Array.Name, patience)
		}
	}
	return nil
}

// leaveCanary touches the array that the clone has left and records what the drive and the primaries look like now. The
// chunks recorded were clean, or are written anew, since the slot is empty: their bits stay set until it is filled.
func (s *session) leaveCanary(complete bool) error {
	before, err := s.awaitUnlisted()
	if err != nil {
		return err
	}
	if err := s.doubtOthers(before.Bitmap); err != nil {
		return err
	}
	way, touched := s.touch()
	canary, err := s.canary(before.Bitmap.Dirty, way, touched)
	if err != nil {
		return err
	}
	ends, changed := s.markEnds(before.Bitmap.Dirty.Len())
	after, err := s.readPrimary()
	if err != nil {
		return errors.Join(changed, err)
	}
	canary = canary.Or(ends)
	doubt := s.verdict.WhyVerify
	if old, err := s.env.entry(s.drive.Member.Super.Device); err != nil {
		return err
	} else if doubt == "" && old != nil {
		doubt = old.Doubt // only a comparison of all of it ends that, and then it is recorded
	}
	if canary.Count() == 0 {
		s.env.Log.Warnf("no canary could be left on %s (%v): that another drive sat in the slot meanwhile would not be seen by it",
			s.Array.Name, touched)
		if !s.moved {
			doubt = "nothing would have shown that another drive sat in its slot"
		}
	}
	left, err := md.ReadDevice(s.drive.Path)
	if err != nil {
		return err
	}
	if left.Super.Device != s.drive.Member.Super.Device {
		return report.Fail(report.Failed, "other-drive", "%s is another drive now (%s)", s.drive.Name, left.Super.Device)
	}
	return errors.Join(changed, s.env.record(Entry{
		Clone: left.Super.Device, Array: left.Super.Array, FirstCopy: true, Complete: complete,
		DetachedAt: s.env.Now().UTC(), Slot: left.Super.Slot(), Events: left.Super.Events, Updated: left.Super.Updated,
		Super: left.Raw, EventsCleared: after.Bitmap.EventsCleared, ChunkBytes: after.Bitmap.ChunkBytes, Dirty: canary.Ranges(),
		DirtyBytes: after.Bitmap.Bytes(after.Bitmap.Dirty),
		Verified:   s.done, Doubt: doubt,
	}))
}

// markEnds makes the array's first and last chunk, of n, canaries as well. The first is what a sync of another drive in the slot
// clears first. The last goes when the array is shrunk, and is not there again when it was grown and stopped
// (drivers/md/md-bitmap.c, __bitmap_resize, Linux 6.12). An error says that something is left changed.
func (s *session) markEnds(n uint64) (md.Chunks, error) {
	none, ends := md.NewChunks(n), md.NewChunks(n)
	ends.Add(0)
	ends.Add(n - 1)
	clean, err := s.Array.Read("resync_start")
	if err == nil {
		err = s.whenIdle(func() error { return s.mark(context.Background(), ends) })
	}
	if err == nil {
		return ends, nil
	}
	s.env.Log.Warnf("the ends of %s could not be marked (%v): that it was shrunk and grown again would not be seen", s.Array.Name, err)
	if now, err := s.Array.Read("resync_start"); err != nil || now != clean {
		return none, errors.Join(fmt.Errorf("resync_start of %s is left at %q and was %q", s.Array.Name, now, clean), err)
	}
	return none, nil
}

// whenIdle does what must not meet a sync, or says which one has not ended.
func (s *session) whenIdle(do func() error) error {
	state, err := s.Array.State()
	if err == nil {
		state, err = s.awaitIdle(state)
	}
	if err != nil {
		return err
	}
	if state.SyncAction != "idle" {
		return fmt.Errorf("sync_action is %s", state.SyncAction)
	}
	return do()
}

// doubtOthers looks for the canaries of the array's other clones that are away, before bits are set that may be theirs: what
// they tell is lost then, and all of such a clone is compared when it is back.
func (s *session) doubtOthers(b *md.Bitmap) error {
	for _, u := range s.Conf.Clones {
		if u == s.drive.Member.Super.Device {
			continue
		}
		x, err := s.env.entry(u)
		if err != nil {
			return err
		}
		if x == nil || x.Attached || x.Doubt != "" {
			continue
		}
		if why := canaryGone(x, b); why != "" {
			s.env.Log.Warnf("all of clone %s will be compared when it is back: %s", u, why)
			x.Doubt = why
			if err := s.env.record(*x); err != nil {
				return err
			}
		}
	}
	return nil
}

// canary finds chunks that are dirty for good: those that were clean before the touch, and chunk 0 where that is what the
// touch wrote. Where a file system wrote only chunks that were dirty already, it waits three ticks: what is left dirty
// then was written after the clone had left.
func (s *session) canary(before md.Chunks, way touchWay, touched error) (md.Chunks, error) {
	after, err := s.readPrimary()
	if err != nil {
		return md.Chunks{}, err
	}
	canary := after.Bitmap.Dirty.Minus(before)
	if touched != nil {
		return md.NewChunks(after.Bitmap.Dirty.Len()), nil
	}
	if way.kind != touchFreeze {
		if after.Bitmap.Dirty.Has(0) {
			canary.Add(0)
		}
		return canary, nil
	}
	for end := s.env.Now().Add(4 * s.timeBase()); canary.Count() == 0; time.Sleep(settlePoll) {
		if after, err = s.readPrimary(); err != nil {
			return md.Chunks{}, err
		}
		if s.env.Now().After(end) {
			canary = after.Bitmap.Dirty
			break
		}
		canary = after.Bitmap.Dirty.Minus(before)
	}
	return canary, nil
}

// awaitUnlisted waits until the primary's superblock on disk says that the clone is gone; md's thread writes it.
func (s *session) awaitUnlisted() (*md.Member, error) {
	for end := s.env.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		m, err := s.readPrimary()
		if err != nil {
			return nil, err
		}
		if !lists(m, s.drive.Member) {
			return m, nil
		}
		if s.env.Now().After(end) {
			return nil, report.Fail(report.Failed, "still-listed", "%s still lists %s in the array", s.peer, s.drive.Name)
		}
	}
}

func (s *session) readPrimary() (*md.Member, error) {
	m, err := md.ReadDevice(md.NodePath(s.peer))
	if err != nil {
		return nil, err
	}
	if m.Bitmap == nil {
		return nil, fmt.Errorf("%s: no usable bitmap: %w", s.peer, errors.Join(m.BitmapErr, fs.ErrNotExist))
	}
	return m, nil
}

// giveUp takes the clone out of a cycle that was interrupted, so that it can be unplugged and a rerun resumes.
func (s *session) giveUp() error {
	m, err := s.Array.Member(s.drive.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err = errors.Join(err, s.thaw()); err != nil {
		return err
	}
	if bad := s.sound(); bad != nil {
		s.verdict.WhyVerify = bad.Error()
	}
	if s.result.MismatchedSectors > 0 {
		s.verdict.WhyVerify = differed
	}
	if m.InSync() {
		// nothing is lost by leaving in good order, only settled less well
		s.env.Log.Infof("interrupted: detaching %s", s.drive.Name)
	} else {
		s.env.Log.Infof("interrupted: taking %s out; the next run copies the rest", s.drive.Name)
	}
	if err := s.detach(); err != nil {
		return err
	}
	return s.leaveCanary(m.InSync())
}
