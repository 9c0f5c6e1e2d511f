package clone

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// checkAll has the kernel compare all members, and counts what differs.
func (s *session) checkAll(ctx context.Context) error {
	if err := s.readLast(ctx); err != nil {
		return err
	}
	count, err := s.pass(ctx, "check")
	if err != nil && s.failedInPass() != nil { // what a failed member cannot read counts as different
		return err
	}
	if err != nil && count > 0 {
		// doubted, and not counted: the next comparison counts it again, or another clone could not be read there
		err = errors.Join(err, s.suspect())
	}
	if err != nil {
		return err
	}
	if err := s.differs(count); err != nil {
		return err
	}
	s.result.VerifiedBytes += s.bitmap.SyncSize * 512
	if count == 0 {
		s.done = config.VerifyFull
		s.verdict.WhyVerify = ""
	}
	return nil
}

// differed is what is doubted of a clone after a comparison.
const differed = "it differed from the array when it was last compared"

// differs counts sectors in which the clone differs from the array, and records it at once: whatever ends this run, a clone that
// leaves then is compared in full before it counts as one again.
func (s *session) differs(sectors uint64) error {
	if sectors == 0 {
		return nil
	}
	s.result.MismatchedSectors += sectors
	return s.suspect()
}

// suspect records that all of the clone is to be compared before it counts as one again.
func (s *session) suspect() error {
	s.verdict.WhyVerify, s.doubted = differed, true
	return s.doubt(differed)
}

// readLast reads all of each primary that md would write anew from a clone, before it is compared with one that is doubted, this or
// another.
func (s *session) readLast(ctx context.Context) error {
	state, err := s.Array.State()
	if err != nil || !s.doubted {
		return err
	}
	for _, name := range writtenFromClones(state, s.peers) {
		if err := s.readAll(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// writtenFromClones are the primaries that would be: what md cannot read in a check it writes anew, 64 KiB around it too, from the
// lowest slot that it can read (drivers/md/raid1.c, process_checks, Linux 6.12).
func writtenFromClones(state md.State, primaries []string) []string {
	left, _ := whoIsLeft(state, primaries)
	clones := state.RaidDisks // the lowest slot of one
	for _, m := range state.Members {
		if m.InSync() && !slices.Contains(left, m.Name) {
			clones = min(clones, m.Slot)
		}
	}
	return slices.DeleteFunc(slices.Clone(left), func(name string) bool {
		return slices.ContainsFunc(left, func(other string) bool {
			m, _ := state.Member(other)
			return other != name && m.Slot < clones
		})
	})
}

// readAll reads all of a primary.
func (s *session) readAll(ctx context.Context, name string) error {
	m, err := md.ReadDevice(md.NodePath(name))
	if err != nil {
		return err
	}
	p, err := openPart(md.NodePath(name), m.Super.DataOffset)
	if err != nil {
		return err
	}
	defer p.disk.Close()
	s.env.Progress.Start("reading all of " + name)
	defer s.env.Progress.Done()
	block, size := md.AlignedBuffer(compareStep), int64(s.bitmap.SyncSize)*512
	for off := int64(0); off < size; off += compareStep {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.disk.ReadAligned(block[:min(compareStep, size-off)], p.start+off); err != nil {
			return report.Fail(report.Failed, "primary-unreadable", "%s of %s cannot be read everywhere, and md would write over "+
				"it what %s holds: %w", name, s.Array.Name, s.drive.Name, err).
				Hint("take the clone out (mdclone-early detach --verify none --clone %s) and copy what can be read of %s", s.drive.Path, name)
		}
		s.env.Progress.Update(uint64(off), uint64(size), "")
	}
	return nil
}

// repairAll has the kernel write what the first primary holds to all members where they differ, and compares again. What it
// reads is the member in sync with the lowest slot (drivers/md/raid1.c, process_checks, Linux 6.12): never a clone's.
func (s *session) repairAll(ctx context.Context) error {
	if s.result.MismatchedSectors == 0 {
		return nil
	}
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	if source := firstInSync(state); !slices.Contains(s.peers, source) {
		return report.Fail(report.Differs, "repair-source", "%s is not repaired: md would write what %s holds over the array's own disks",
			s.Array.Name, source).Hint("take the clone out (mdclone-early detach --verify none), then make it anew: mdclone-early backup --full")
	}
	s.env.Log.Infof("%s: %d sectors differ; the array's own are written over the clone's", s.Array.Name, s.result.MismatchedSectors)
	s.doubted = true
	if err := s.readLast(ctx); err != nil {
		return err
	}
	if _, err := s.pass(ctx, "repair"); err != nil {
		return err
	}
	s.result.MismatchedSectors = 0
	return s.checkAll(ctx)
}

// firstInSync names the member in sync that has the lowest slot, "" if there is none.
func firstInSync(state md.State) string {
	var first md.MemberState
	for _, m := range state.Members {
		if m.InSync() && (first.Name == "" || m.Slot < first.Slot) {
			first = m
		}
	}
	return first.Name
}

// pass goes over all of the array, "check" or "repair", and returns how many sectors differ; of one that was ended, as far as it came.
func (s *session) pass(ctx context.Context, action string) (uint64, error) {
	if err := s.notFrozen(report.Refused); err != nil {
		return 0, err
	}
	if err := s.openRange(); err != nil {
		return 0, err
	}
	// md takes the end of a range away as it gets there, and only then (drivers/md/md.c, md_do_sync, Linux 6.12)
	if err := s.tune("sync_max", strconv.FormatUint(s.bitmap.SyncSize, 10)); err != nil {
		return 0, err
	}
	err := s.Array.Write(action, "sync_action")
	if err == nil {
		err = s.awaitPass(ctx, action)
	}
	count, e := s.Array.FS.Uint(s.Array.Attr("mismatch_cnt"))
	if err == nil { // the next check counts from 0
		if now, why := s.Array.Read("sync_action"); now != "idle" {
			err = errors.Join(s.stopped(), why)
		}
	}
	// one that ends early leaves where it ended as the beginning of every later sync
	return count, errors.Join(err, e, s.openRange(), s.forget("sync_max"))
}

// notFrozen is an error where somebody froze the array's syncs: a check would end that (drivers/md/md.c, action_store, Linux 6.12), and
// so would the end of a freeze of ours.
func (s *session) notFrozen(exit report.Code) error {
	now, err := s.Array.Read("sync_action")
	if err == nil && now == "frozen" {
		err = report.Fail(exit, "frozen", "somebody froze the sync of %s", s.Array.Name)
	}
	return err
}

func (s *session) awaitPass(ctx context.Context, want string) error {
	w, err := s.Array.FS.Watch(s.Array.Attr("sync_action"), s.Array.Attr("sync_completed"))
	if err != nil {
		return err
	}
	defer w.Close()
	label := "comparing all of "
	if want != "check" {
		label = "repairing "
	}
	s.env.Progress.Start(label + s.drive.Name)
	defer s.env.Progress.Done()
	total := s.bitmap.SyncSize * 512
	begun, cut := false, false
	for end := s.env.Now().Add(patience); ; {
		action, err := s.Array.Read("sync_action")
		if err != nil {
			return err
		}
		if action == "frozen" {
			return report.Fail(report.Failed, "frozen", "somebody froze the sync of %s", s.Array.Name)
		}
		first, err := s.Array.Read("sync_min") // not 0 once one was ended: the next one begins there
		if err != nil {
			return err
		}
		begun, cut = begun || action == want, cut || first != "0"
		if action == "idle" {
			if err := s.failedInPass(); err != nil { // which may have ended it before anybody looked
				return err
			}
			seen, err := s.Array.Read("sync_max")
			if err != nil {
				return err
			}
			if cut {
				return s.stopped()
			}
			if begun || seen == "max" || s.env.Now().After(end) {
				return s.passFinished(want)
			}
		}
		text, err := s.Array.Read("sync_completed")
		if err != nil {
			return err
		}
		if done, _, counts := cutCompleted(text); counts {
			begun = true
			s.env.Progress.Update(done*512, total, "")
		}
		if err := w.Wait(ctx, watchTick); err != nil {
			return errors.Join(err, s.Array.Write("idle", "sync_action"))
		}
	}
}

// cutCompleted reads sync_completed, in sectors; ok is false for "none" and "delayed".
func cutCompleted(text string) (done, total uint64, ok bool) {
	now, all, found := strings.Cut(text, " / ")
	done, err := strconv.ParseUint(now, 10, 64)
	total, e := strconv.ParseUint(all, 10, 64)
	return done, total, found && err == nil && e == nil
}

// endCheck ends a comparison that somebody else, or a run of ours that was killed, has begun. Taking a member out would end it
// too, but leave where it ended as the beginning of every later sync.
func (s *session) endCheck() error {
	action, err := s.Array.Read("sync_action")
	if err != nil || action != "check" && action != "repair" {
		return err
	}
	s.env.Log.Warnf("%s: a %s is running; it is ended", s.Array.Name, action)
	return errors.Join(s.Array.Write("idle", "sync_action"), s.openRange())
}

// failedInPass says whether the clone or a primary failed in it.
func (s *session) failedInPass() error {
	m, err := s.Array.Member(s.drive.Name)
	if err != nil || !m.InSync() {
		return driveFailed(s.drive.Name)
	}
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	// what a failed member could not read counts as different (drivers/md/raid1.c, process_checks, Linux 6.12)
	if _, lost := whoIsLeft(state, s.peers); len(lost) > 0 {
		return primaryFailed(s.Array.Name, s.drive.Name, lost)
	}
	return nil
}

// passFinished makes sure that it came to its end, and the clone took part in all of it.
func (s *session) passFinished(want string) error {
	if err := s.failedInPass(); err != nil {
		return err
	}
	last, err := s.Array.Read("last_sync_action")
	if err != nil {
		return err
	}
	end, err := s.Array.Read("sync_max")
	if err != nil {
		return err
	}
	if last != want || end != "max" {
		return s.stopped()
	}
	return nil
}

func (s *session) stopped() *report.Error {
	return report.Fail(report.Failed, "check-stopped", "the comparison was ended before it had seen all of %s (by something else that "+
		"checks arrays, or by another member's failure)", s.Array.Name).Hint("run this again")
}

// wantsAll tells whether all of the clone is to be compared.
func (s *session) wantsAll() bool { return s.verify == config.VerifyFull }

// adoptCheck takes over what another session's comparison of all members has found.
func (s *session) adoptCheck(o *session) error {
	s.done, s.verdict.WhyVerify, s.result.VerifiedBytes = o.done, o.verdict.WhyVerify, o.result.VerifiedBytes
	return s.differs(o.result.MismatchedSectors)
}

// agree makes a mirror that differs an outcome of its own. The clone stays in, so that it can be looked at and repaired. One
// that failed beside the clone that was looked at is found here.
func (s *session) agree() error {
	if m, err := s.Array.Member(s.drive.Name); err != nil || !m.InSync() {
		return errors.Join(driveFailed(s.drive.Name), err)
	}
	if err := s.sound(); err != nil {
		return err
	}
	if s.result.MismatchedSectors == 0 {
		var err error
		if s.verdict.WhyVerify == differed {
			s.tellDoubt()
		}
		if s.done == config.VerifyFull {
			err = errors.Join(s.doubt(""), s.recordStay())
		}
		return errors.Join(s.allThere(), err)
	}
	e := report.Fail(report.Differs, "mismatch", "%s differs from the array in %d sectors; it was left attached, and is no "+
		"usable clone", s.drive.Name, s.result.MismatchedSectors).
		Hint("swap on the array can differ without harm while the system runs; compare offline to be certain")
	if s.someDiscard() {
		e = e.Hint("what was freed meanwhile (fstrim, discard) differs, as not all disks take discards")
	}
	if s.wantsAll() && len(s.peers) > 1 {
		e = e.Hint("all disks were compared with each other: it may be the array's own that differ")
	}
	return e
}

// tellDoubt says that the clone is doubted.
func (s *session) tellDoubt() {
	if !slices.ContainsFunc(s.verdict.Reasons, func(r report.Reason) bool { return r.Code == doubted }) {
		s.verdict.Reasons = append(s.verdict.Reasons, report.Reason{Code: doubted, Text: s.drive.Name + " is doubted: " + differed})
		s.env.Log.Warnf("%s is doubted: the next cycle compares all of it", s.drive.Name)
	}
}

// allThere says which primaries were lost since the session began: of a clone that stays attached nobody looks for that later.
func (s *session) allThere() error {
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	if lost := s.lost(state); lost != nil {
		return lost
	}
	return nil
}
