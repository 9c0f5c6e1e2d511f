package clone

import (
	"errors"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// A drive that is unplugged without having been detached stays a member under its old name, which md holds, in sync until it is
// written to. Back under another name it cannot join beside that: it has the same number (drivers/md/md.c,
// bind_rdev_to_array, Linux 6.12).

// unplugged names the member that a clone has left behind which filled slot, "" if there is none. One that md knows to be faulty
// has no slot any more: it is not that of a clone which left in good order, by x. A primary's is not for us to take out.
func unplugged(state md.State, slot int, x *Entry) string {
	good := x != nil && !x.Attached && !x.DetachedAt.IsZero()
	for _, m := range state.Members {
		if m.Gone && m.Has("write_mostly") && (m.Has("faulty") && !good || m.Slot == slot && !m.Has("faulty")) {
			return m.Name
		}
	}
	return ""
}

// stillThere is what there is to say of a clone that has left one behind.
func stillThere(array, name string) report.Reason {
	return report.Reason{Code: "unplugged", Text: "it was unplugged while it was in " + array + ", where it is " + name + " still: it is no complete clone"}
}

// leftBehind is what the session's drive has left behind.
func (s *session) leftBehind() (string, error) {
	state, err := s.Array.State()
	if err != nil {
		return "", err
	}
	x, err := s.env.entry(s.drive.Member.Super.Device)
	return unplugged(state, s.drive.Member.Super.Slot(), x), err
}

// forgetUnplugged takes it out.
func (s *session) forgetUnplugged(name string) error {
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	m, ok := state.Member(name)
	if !ok {
		return nil
	}
	s.env.Log.Infof("%s was unplugged from %s and is still in it; removing it", name, s.Array.Name)
	if err := s.choosePeer(); err != nil { // someone is to be left
		return err
	}
	if !m.Has("faulty") {
		if err := s.Array.Write("faulty", "dev-"+name, "state"); err != nil {
			return err
		}
	}
	if err := s.remove(name); err != nil {
		return err
	}
	_, err = s.awaitUnlisted()
	return err
}

// noneHere says that no clone drive is here, and what one that was unplugged too early is worth.
func (t *Target) noneHere() error {
	err := report.Fail(report.NoDrive, "absent", "no clone drive of %s is plugged in", t.Conf.Name).
		Hint("plug it in, or wait for it with --wait 5m")
	state, e := t.Array.State()
	if e != nil {
		return errors.Join(err, e)
	}
	for _, m := range state.Members {
		if m.Gone && m.Has("write_mostly") {
			err = err.Hint("%s was unplugged while it was in %s, and is no complete clone: the next backup brings it up to date", m.Name, t.Array.Name)
		}
	}
	return err
}
