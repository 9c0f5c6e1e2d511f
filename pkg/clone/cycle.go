package clone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Backup is the whole cycle: find, admit, join, sync, verify, touch, settle, detach, canary.
func (t *Target) Backup(ctx context.Context, opts Options) ([]*Result, error) {
	return t.run(ctx, opts, func(ctx context.Context, c *crew) {
		if !opts.Keep {
			c.each((*session).comesBack)
			c.each((*session).standsIn)
		}
		c.bringIn(ctx)
		c.settle(ctx)
		if !opts.Keep {
			c.takeOut()
		}
		c.each((*session).wasOffline)
	})
}

// Attach is the first half: the clones are in sync and stay in.
func (t *Target) Attach(ctx context.Context, opts Options) ([]*Result, error) {
	opts.Keep = true
	return t.run(ctx, opts, func(ctx context.Context, c *crew) {
		c.bringIn(ctx)
		c.each(func(s *session) error { return s.compareCopied(ctx, s.copied, false) })
		c.each((*session).agree)
		c.each(func(s *session) error {
			if s.someDiscard() {
				s.env.Log.Warnf("not all disks of %s take discards: what is freed (fstrim, discard) while %s is attached differs", s.Array.Name,
					s.drive.Name)
			}
			return nil
		})
	})
}

// Detach is the second half. A clone that is not in the array is detached already.
func (t *Target) Detach(ctx context.Context, opts Options) ([]*Result, error) {
	return t.run(ctx, opts, func(ctx context.Context, c *crew) {
		c.each((*session).stillIn)
		c.each((*session).comesBack)
		c.bringIn(ctx)
		c.settle(ctx)
		c.takeOut()
	})
}

// Verify compares clones that are in the array with it: all of them or, with opts.Verify, what was copied to them and what is
// marked changed.
func (t *Target) Verify(ctx context.Context, opts Options) ([]*Result, error) {
	opts.Keep = true
	return t.run(ctx, opts, func(ctx context.Context, c *crew) {
		c.each((*session).mustBeIn)
		c.bringIn(ctx)
		c.each(func(s *session) error {
			s.synced = true
			if err := s.addCopied(); err != nil {
				return err
			}
			return s.compareCopied(ctx, s.copied, false)
		})
		if opts.Repair {
			c.each(func(s *session) error { return s.repairAll(ctx) })
		}
		c.each((*session).agree)
	})
}

// mustBeIn refuses a clone that is not in the array.
func (s *session) mustBeIn() error {
	s.result.Mode = "verify"
	if s.Target.attached(s.drive) {
		return nil
	}
	return report.Fail(report.Refused, "not-attached", "%s is not in %s, it is %s", s.drive.Name, s.Array.Name, s.verdict.State).
		Hint("mdclone-early backup --verify full brings it up to date and compares all of it; mdclone-early attach lets it in")
}

// stillIn looks whether there is anything to detach.
func (s *session) stillIn() error {
	m, err := s.Array.Member(s.drive.Name)
	if errors.Is(err, os.ErrNotExist) {
		left, err := s.leftBehind()
		if err != nil {
			return err
		}
		if left != "" {
			return errors.Join(report.Fail(report.Failed, "drive-failed", "%s was unplugged from %s, where it was %s, and is out; it is no "+
				"clone as it is", s.drive.Name, s.Array.Name, left).Hint("mdclone-early backup brings it up to date"), s.forgetUnplugged(left))
		}
		s.verdict.Reasons = append(outAlready(s.drive.Name, s.Array.Name, s.verdict.State), s.verdict.Reasons...)
		s.env.Log.Infof("%s", s.verdict.Reasons[0].Text)
		s.result.Mode, s.over = "none", true
		return nil
	}
	if err == nil && m.Has("faulty") {
		s.inside = true // until finish has taken it out
		err = report.Fail(report.Failed, "drive-failed", "%s had failed in %s and is taken out; it is no clone as it is",
			s.drive.Name, s.Array.Name).Hint("mdclone-early backup brings it up to date")
	}
	return err
}

// doubted is the reason of one whose clone has left although it is known to differ.
const doubted = "doubted"

// incomplete is the reason of an account whose clone has left before it held all.
const incomplete = "incomplete"

// outAlready is what there is to say of a clone that need not be detached.
func outAlready(drive, array string, is State) []report.Reason {
	out := []report.Reason{{Code: "not-attached", Text: fmt.Sprintf("%s is not in %s, it is %s", drive, array, is)}}
	if is == Interrupted {
		out = append(out, report.Reason{Code: incomplete, Text: drive + " is no complete clone: the next backup copies the rest"})
	}
	return out
}

// comesBack refuses to let a clone leave that could not come back: a spare would be copied to in its place.
func (s *session) comesBack() error {
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	if v, taken := takenBySpare(s.Array.Name, s.drive.Name, state); taken {
		return refused(v)
	}
	return nil
}

// standsIn refuses to take a clone out that was attached in the place of an own disk which is missing: only detach says so.
func (s *session) standsIn() error {
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	if m, in := state.Member(s.drive.Name); !in || !m.InSync() {
		return nil
	}
	if _, away := s.otherClones(s.drive.Member.Super.Device); len(state.EmptySlots()) > away {
		return report.Fail(report.Refused, "stands-in", "%s lacks a disk of its own: %s stays in, in its place", s.Array.Name, s.drive.Name).
			Hint("replace what is missing; mdclone-early detach takes the clone out when you say so")
	}
	return nil
}

// run is what every way through a cycle shares: one process an array, what is changed is put back, an interrupt
// leaves a safe state, and there is an account of each clone.
func (t *Target) run(ctx context.Context, opts Options, do func(context.Context, *crew)) ([]*Result, error) {
	if t.absent != nil {
		return []*Result{t.refusal(t.absent)}, t.absent
	}
	start := t.env.Now()
	if opts.Wait > 0 { // meanwhile others may work on the array
		if _, err := t.awaitDrives(ctx, opts); err != nil {
			return []*Result{t.refusal(err)}, err
		}
		opts.Wait = 0
	}
	unlock, err := t.env.Lock(t.Conf.UUID)
	if err != nil {
		return []*Result{t.refusal(err)}, err
	}
	defer unlock()
	if err := t.env.restoreLocked(t.Array, t.Conf.UUID, false); err != nil { // of a run that was killed since this one began
		t.env.Log.Warnf("%v", err)
	}
	drives, err := t.awaitDrives(ctx, opts)
	if err != nil {
		return []*Result{t.refusal(err)}, err
	}
	c := &crew{}
	for _, d := range drives {
		s, err := t.open(d, opts)
		s.err = err
		c.sessions = append(c.sessions, s)
	}
	do(ctx, c)
	return c.accounts(ctx, start)
}

// refusal is the account of a cycle that has found no drive to begin with.
func (t *Target) refusal(err error) *Result {
	r := &Result{Result: report.CodeOf(err).Result(), Array: t.Conf.Name, Reasons: report.ReasonsOf(err)}
	if len(t.Conf.Clones) == 1 {
		r.Clone = t.Conf.Clones[0]
	}
	return r
}

// account fills in what the drive was written.
func (s *session) account() {
	if now, err := s.sectorsWritten(); err == nil && now > s.written { // a drive that is gone has no count
		s.result.CopiedBytes = (now - s.written) * 512
	}
	s.stays()
}

// stays fills in whether the drive is in the array.
func (s *session) stays() {
	_, err := s.Array.Member(s.drive.Name)
	s.result.Attached = err == nil
}

// bringIn gets the clone in sync in its slot: by a join, or by waiting for a sync that runs already.
func (s *session) bringIn(ctx context.Context) error {
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	if err := s.choosePeer(); err != nil {
		return err
	}
	if state.ArrayState == "readonly" {
		return report.Fail(report.Refused, "readonly", "%s is read-only", s.Array.Name).
			Hint("mdadm --readwrite %s", s.Array.Path())
	}
	if s.bitmap == nil {
		return report.Fail(report.Refused, "no-bitmap", "%s has no bitmap: without one the clone cannot come back incrementally",
			s.Array.Name).Hint("mdadm --grow %s --bitmap=internal", s.Array.Path())
	}
	if err := s.env.mayRecord(); err != nil {
		return err
	}
	if why := losesMarks(); why != "" && s.verify != config.VerifyFull {
		s.env.Log.Warnf("%s", why)
	}
	s.copies(s.bitmap)
	if s.written, err = s.sectorsWritten(); err != nil {
		return err
	}
	m, in := state.Member(s.drive.Name)
	if in = in && !m.Has("faulty"); in {
		s.slot, s.result.Attached = m.Slot, true
		if x, err := s.env.entry(s.drive.Member.Super.Device); err == nil && x != nil {
			s.before = x.Events // as it left the last time, before it was let in
		}
		if s.keeps = m.InSync() && s.opts.Keep; m.InSync() { // an interrupt leaves it in: it is no clone before their end
			if err = s.equalPrimaries(ctx); err == nil {
				err = s.needAlone(ctx)
			}
			if s.inside = err == nil; s.inside {
				err = s.markedMeanwhile()
			}
		} else { // it may wait for what comes after the range
			s.inside = true
			err = s.openRange()
		}
		if err != nil {
			return err
		}
	} else if err := s.makeFit(ctx); err != nil {
		return err
	}
	s.hurry()
	if in && m.InSync() {
		return errors.Join(s.endCheck(), s.openRange(), s.sound())
	}
	start := s.env.Now()
	if !in {
		s.keepPinned() // what is put on the array while the drive is in it takes its limit from there
		if err := s.join(); err != nil {
			return err
		}
	}
	s.inside, s.synced = true, true
	if s.opts.Keep {
		if in { // by a run that was killed, which knew more
			if err := s.knownCopied(); err != nil {
				return err
			}
		}
		s.keepCopied()
	}
	if err := s.await(ctx, "copying to "+s.drive.Name, s.result.DirtyBytes); err != nil {
		return err
	}
	s.result.Seconds.Sync = s.since(start)
	if err := s.choosePeer(); err != nil {
		return err
	}
	if err := s.sound(); err != nil || s.result.Mode != "full" {
		return err
	}
	return s.copiedInFull()
}

// copies notes what a primary's bitmap says that the sync copies.
func (s *session) copies(b *md.Bitmap) {
	s.bitmap, s.copied = b, b.Dirty
	s.result.DirtyBytes = b.Bytes(b.Dirty)
}

// markedMeanwhile adds to what is compared what was marked while a resync was waited for, which has cleared other marks.
func (s *session) markedMeanwhile() error {
	m, err := s.readPrimary()
	if err == nil && m.Bitmap.ChunkBytes == s.bitmap.ChunkBytes {
		s.copied = s.copied.Or(m.Bitmap.Dirty)
		s.result.DirtyBytes = s.bitmap.Bytes(s.copied)
	}
	return err
}

// rely notes which primaries the session counts on, the freshest first.
func (s *session) rely(peers []peer) {
	s.peer, s.peers = peers[0].name, nil
	for _, p := range peers {
		s.peers = append(s.peers, p.name)
	}
}

// makeFit makes array and drive ready for a join.
func (s *session) makeFit(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if m, err := s.Array.Member(s.drive.Name); err == nil && m.Has("faulty") {
		s.env.Log.Infof("%s failed earlier and is still in %s; removing it", s.drive.Name, s.Array.Name)
		if err := s.remove(s.drive.Name); err != nil {
			return err
		}
		if err := s.judge(); err != nil {
			return err
		}
	}
	left, err := s.leftBehind()
	if err != nil {
		return err
	}
	if left != "" {
		if err := s.forgetUnplugged(left); err != nil {
			return err
		}
		if err := s.judge(); err != nil {
			return err
		}
	}
	// while others were copied to, it may have been unplugged and used elsewhere
	now, err := s.env.readDrive(s.drive.Path)
	if err != nil {
		return err
	}
	if now.Member == nil || !bytes.Equal(now.Member.Raw, s.drive.Member.Raw) {
		switch {
		case now.Member == nil:
			return report.Fail(report.Refused, "no-superblock", "%s: %w", now.Path, now.Err)
		case now.Member.Super.Device != s.drive.Member.Super.Device:
			return report.Fail(report.Refused, "other-drive", "%s is another drive now (%s)", now.Path, now.Member.Super.Device)
		}
		s.drive = now
		if err := s.judge(); err != nil {
			return err
		}
	}
	if err := s.needAlone(ctx); err != nil {
		return err
	}
	if err := s.openRange(); err != nil || s.verdict.Mend == MendNothing {
		return err
	}
	return s.mend(ctx)
}

// choosePeer chooses the primary whose disk is read: the freshest, until it fails, then another.
func (s *session) choosePeer() error {
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(state.Members, func(m md.MemberState) bool { return m.Name == s.peer && m.InSync() }) {
		return nil
	}
	peers, err := s.primaries(state, s.drive.Name)
	if err != nil {
		return err
	}
	switch {
	case len(peers) == 0 && s.peer == "":
		return report.Fail(report.Refused, "no-primary", "no primary of %s is in sync", s.Array.Name)
	case len(peers) == 0:
		return noneLeft(s.Array.Name, s.drive.Name, state, s.peers)
	case s.peer == "":
		s.rely(peers)
		s.bitmap = peers[0].member.Bitmap
	default:
		s.env.Log.Warnf("%s failed; %s is the primary that is looked at", s.peer, peers[0].name)
		s.peer = peers[0].name
	}
	return nil
}

// verifyAll is --verify full.
func (s *session) verifyAll(ctx context.Context) error {
	if !s.wantsAll() {
		return nil
	}
	start := s.env.Now()
	err := s.checkAll(ctx)
	s.result.Seconds.Verify += s.since(start)
	return err
}
