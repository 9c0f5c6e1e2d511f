package clone

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// leave detaches the clone. Where nobody could write to the array, nobody can yet.
func (s *session) leave() error {
	start := s.env.Now()
	defer func() { s.result.Seconds.Detach += s.since(start) }()
	if err := s.comesBack(); err != nil { // a spare may have come since
		return err
	}
	if err := s.sound(); err != nil { // a block may have gone bad since the copy
		return err
	}
	if m, err := s.Array.Member(s.drive.Name); err != nil || !m.InSync() {
		return errors.Join(driveFailed(s.drive.Name), err)
	}
	if err := s.endCheck(); err != nil { // one that was begun meanwhile
		return err
	}
	if err := s.stillAtRest(); err != nil {
		return err
	}
	if err := s.detach(true); err != nil {
		return err
	}
	s.inside, s.result.Offline = false, s.resting
	s.keepPinned()
	s.account()
	return nil
}

// stillAtRest looks whether an array that was read-only when all was compared still is: somebody may have made it writable.
func (s *session) stillAtRest() error {
	if !s.resting {
		return nil
	}
	now, err := s.Array.Read("array_state")
	if s.resting = now == "readonly"; err == nil && !s.resting {
		s.env.Log.Warnf("somebody has made %s writable: it was not at rest until the clone left", s.Array.Name)
	}
	return err
}

// watchSlot leaves the canary of a clone that is out.
func (s *session) watchSlot() error {
	start := s.env.Now()
	defer func() { s.result.Seconds.Detach += s.since(start) }()
	if err := s.thaw(); err != nil { // a read-only array takes no canary
		return err
	}
	if s.verdict.WhyVerify == differed { // by --verify none
		s.tellDoubt()
	}
	err := s.leaveCanary(true)
	if err == nil && !s.result.Offline {
		s.env.Log.Infof("%s was in use: the clone is what a power cut at that moment would have left", s.Array.Name)
	}
	state, e := s.Array.State()
	if e == nil {
		e = failedBehind(s.Array.Name, s.drive.Name, state, s.peers)
	}
	return errors.Join(err, e)
}

// detach takes the clone out in good order: it is looked at once more that it is the clone and not the last good copy,
// it is failed, removed and flushed, and what the primaries' disks then say is read back. Where it is to be a clone, it is an error if
// it has failed by itself, or could not be written everywhere.
func (s *session) detach(asClone bool) error {
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
	switch {
	case m.Has("faulty") && asClone:
		return driveFailed(s.drive.Name)
	case !m.Has("faulty"):
		if err := s.mayFail(state); err != nil {
			return err
		}
		if err := s.Array.Write("faulty", "dev-"+s.drive.Name, "state"); err != nil {
			return err
		}
	}
	bad, err := s.Array.BadBlocks(s.drive.Name)                        // nothing is written to it any more: this look is the last
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) { // somebody was quicker
		err = nil
	}
	if err = errors.Join(err, s.remove(s.drive.Name)); err != nil {
		return err
	}
	if bad && asClone {
		return report.Fail(report.Failed, "bad-blocks", "%s could not be written everywhere when it was about to leave %s: it is out, and no "+
			"complete clone", s.drive.Name, s.Array.Name).Hint("look at the kernel log (dmesg); run this again, or replace it")
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

// failedBehind says that primaries failed while the clone was leaving, of which nobody knew when it was let go; nil if none did.
func failedBehind(array, drive string, state md.State, peers []string) error {
	_, lost := whoIsLeft(state, peers)
	switch {
	case state.ArrayState == "broken": // md keeps the last one in sync, by its word
		return report.Fail(report.Failed, "last-primary", "%s failed while %s was leaving, and was the last of %s: %s, which is out, is a clone "+
			"and the only good copy", join(peers), drive, array, drive).Hint("boot from %s; keep the other drives as they are", drive)
	case len(lost) == 0:
		return nil
	}
	return report.Fail(report.Failed, "primary-failed", "%s of %s failed while %s was leaving, which is out, and a clone", join(lost), array, drive).
		Hint("replace what failed; until then mdclone-early attach lets the clone in, in its place")
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

// remove takes a failed or spare member out of the array. The kernel answers EBUSY until what is under way to it has
// ended, and announces that nowhere.
func (s *session) remove(name string) error {
	s.acted = true
	for end := s.env.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := s.Array.Write("remove", "dev-"+name, "state")
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV):
			return s.awaitGone(name)
		case !errors.Is(err, unix.EBUSY) || s.env.Now().After(end):
			return err
		}
	}
}

// awaitGone waits until a member's directory has left the array: the kernel takes it out in a work of its own.
func (s *session) awaitGone(name string) error {
	for end := s.env.Now().Add(patience); s.env.FS.Exists(s.Array.Attr("dev-" + name)); time.Sleep(5 * time.Millisecond) {
		if s.env.Now().After(end) {
			return fmt.Errorf("%s is still in %s after %s", name, s.Array.Name, patience)
		}
	}
	return nil
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

// readPrimary reads the primary that is looked at; what one that has failed meanwhile holds says nothing any more.
func (s *session) readPrimary() (*md.Member, error) {
	if err := s.choosePeer(); err != nil {
		return nil, err
	}
	m, err := md.ReadDevice(md.NodePath(s.peer))
	if err != nil {
		return nil, err
	}
	if m.Bitmap == nil {
		return nil, fmt.Errorf("%s: no usable bitmap: %w", s.peer, errors.Join(m.BitmapErr, fs.ErrNotExist))
	}
	return m, nil
}

// readPrimaries is readPrimary, with no more in its bitmap than what is on every primary's disk: the chunks that are dirty on
// all, and the earliest Events Cleared.
func (s *session) readPrimaries() (*md.Member, error) {
	m, err := s.readPrimary()
	if err != nil {
		return nil, err
	}
	state, err := s.Array.State()
	if err != nil {
		return nil, err
	}
	peers, err := s.primaries(state, s.drive.Name)
	if err != nil {
		return nil, err
	}
	for _, p := range peers {
		b := p.member.Bitmap
		if b == nil {
			return nil, fmt.Errorf("%s: no usable bitmap: %w", p.name, errors.Join(p.member.BitmapErr, fs.ErrNotExist))
		}
		m.Bitmap.Dirty = m.Bitmap.Dirty.And(b.Dirty)
		m.Bitmap.EventsCleared = min(m.Bitmap.EventsCleared, b.EventsCleared)
	}
	return m, nil
}

// giveUp takes the clone out of a cycle that was interrupted, so that it can be unplugged and a rerun resumes.
func (s *session) giveUp() error {
	m, err := s.Array.Member(s.drive.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err = errors.Join(err, s.thaw(), s.comesBack(), s.endCheck()); err != nil {
		return err
	}
	if bad := s.sound(); bad != nil {
		s.verdict.WhyVerify = bad.Error()
	}
	if m.InSync() {
		// nothing is lost by leaving in good order, only settled less well
		s.env.Log.Infof("interrupted: detaching %s", s.drive.Name)
	} else {
		s.env.Log.Infof("interrupted: taking %s out; the next run copies the rest", s.drive.Name)
	}
	if err := s.detach(false); err != nil {
		return err
	}
	return s.leaveCanary(m.InSync())
}
