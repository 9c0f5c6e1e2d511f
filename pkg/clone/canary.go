package clone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// The canary: chunks that stay dirty in the array's bitmap until the slot of the clone that left is filled again, or the bitmap
// is made anew, or the array is shrunk.

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
	way, touched := s.touch(context.Background())
	canary, err := s.canary(before.Bitmap.Dirty, way, touched)
	if err != nil {
		return err
	}
	ends, changed := s.markEnds(before.Bitmap.Dirty.Len())
	after, err := s.readPrimaries()
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
	clean, marking := "", false
	err := s.whenIdle(func() (err error) {
		if clean, err = s.Array.Read("resync_start"); err != nil {
			return err
		}
		marking = true
		return s.mark(context.Background(), ends)
	})
	if err == nil {
		return ends, nil
	}
	s.env.Log.Warnf("the ends of %s could not be marked (%v): that it was shrunk and grown again would not be seen", s.Array.Name, err)
	if !marking {
		return none, nil
	}
	if now, err := s.Array.Read("resync_start"); err != nil || now != clean {
		return none, errors.Join(fmt.Errorf("resync_start of %s is left at %q and was %q", s.Array.Name, now, clean), err)
	}
	return none, nil
}

// whenIdle does what must not meet a sync, or says which one has not ended.
func (s *session) whenIdle(do func() error) error {
	state, err := s.Array.State()
	if err == nil {
		state, err = s.awaitIdle(context.Background(), state, patience)
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
		if err != nil && reasonCode(err) != ledgerDamaged {
			return err
		}
		if err != nil { // without it all of that one is compared anyway
			s.env.Log.Warnf("%v", err)
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
// touch wrote, each on every primary's disk. Where a file system wrote only chunks that were dirty already, it waits three ticks: what is left dirty
// then was written after the clone had left.
func (s *session) canary(before md.Chunks, way touchWay, touched error) (md.Chunks, error) {
	after, err := s.readPrimaries()
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
		if after, err = s.readPrimaries(); err != nil {
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

// canaryGone says what was done to the bitmap since a clone left, "" if its canary is there.
func canaryGone(x *Entry, b *md.Bitmap) string {
	if x.ChunkBytes != 0 && x.ChunkBytes != b.ChunkBytes {
		return fmt.Sprintf("the bitmap was made anew since it left, with chunks of %s", report.Bytes(uint64(b.ChunkBytes)))
	}
	for _, r := range x.Dirty {
		for i := r.First; i <= r.Last; i++ {
			if !b.Dirty.Has(i) {
				return fmt.Sprintf("chunk %d was left dirty when it was detached and is clean now: another drive sat in its slot, "+
					"the bitmap was made anew, or the array was shrunk", i)
			}
		}
	}
	return ""
}
