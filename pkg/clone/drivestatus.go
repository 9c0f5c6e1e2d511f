package clone

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// DriveStatus is one recorded clone.
type DriveStatus struct {
	UUID      md.UUID `json:"uuid"`
	Device    *string `json:"device"`     // "" if it is not plugged in; nil if that is not known
	State     State   `json:"state"`      // null if it is not known
	CopyBytes *uint64 `json:"copy_bytes"` // what the next clone copies; nil if it is not known
	// AgainBytes is how much of that it has already: bits are cleared only while all clones are in.
	AgainBytes uint64          `json:"again_bytes"`
	Slot       int             `json:"slot"`        // its own; -1 if it is not known
	DetachedAt *time.Time      `json:"detached_at"` // nil while it is in, and where it has left in another way
	Reasons    []report.Reason `json:"reasons"`
	Hints      []string        `json:"-"`
	entry      *Entry          // what the ledger has, nil if that is nothing
	unrecorded bool            // the ledger may not be read
}

// clones looks at the recorded clones of an array; state is the zero one if it is not assembled.
func (t *Target) clones(s *ArrayStatus, state md.State) error {
	_, unreadable, err := t.env.scanner().Scan()
	if err != nil {
		return err
	}
	blind := false
	for _, e := range unreadable {
		blind = blind || errors.Is(e, fs.ErrPermission)
	}
	for _, u := range t.Conf.Clones {
		c := t.recorded(u, *s)
		t.judge(&c, state, blind)
		if blind && c.State == "" && !slices.Contains(s.Unreadable, unreadDisks) {
			s.Unreadable = append(s.Unreadable, unreadDisks)
		}
		if c.unrecorded && !slices.Contains(s.Unreadable, unreadLedger) {
			s.Unreadable = append(s.Unreadable, unreadLedger)
		}
		if c.CopyBytes == nil || s.RunsFromClone {
			c.CopyBytes, c.AgainBytes = nil, 0
		}
		s.Clones = append(s.Clones, c)
	}
	return nil
}

// recorded is what the ledger tells of a clone. A damaged one hides neither the clone nor any other.
func (t *Target) recorded(u md.UUID, s ArrayStatus) DriveStatus {
	c := DriveStatus{UUID: u, State: Absent, Device: new(string), Slot: -1, CopyBytes: s.DirtyBytes, Reasons: []report.Reason{}}
	x, err := t.env.entry(u)
	if c.entry = x; x != nil && x.Slot >= 0 {
		c.Slot = x.Slot
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		c.unrecorded = true
	case err != nil:
		c.fails(err)
	case x != nil && !x.DetachedAt.IsZero():
		if x.Attached { // when it left after that is not known
			break
		}
		c.DetachedAt = &x.DetachedAt
		if len(t.Conf.Clones) > 1 && c.CopyBytes != nil {
			c.AgainBytes = min(x.DirtyBytes, *c.CopyBytes)
		}
	}
	return c
}

func (c *DriveStatus) fails(err error) {
	c.Reasons = append(c.Reasons, report.ReasonsOf(err)...)
	var own *report.Error
	if errors.As(err, &own) {
		c.Hints = append(c.Hints, own.Hints...)
	}
}

// bySysfs is what md alone tells of one of n clones, to a user who may not read the disks.
func (c *DriveStatus) bySysfs(state md.State, n int) {
	c.Device, c.State, c.CopyBytes = nil, "", nil
	in := clonesIn(state, n)
	if len(in) == 0 {
		return
	}
	c.DetachedAt = nil
	c.Reasons = append(c.Reasons, report.Reason{Code: "by-slot", Text: "told by the slots of the array alone: its superblock may not be read"})
	c.State = InSync
	for _, m := range in {
		if !m.InSync() {
			c.State = Syncing
		}
	}
	if n == 1 {
		path := md.NodePath(in[0].Name)
		c.Device, c.Slot = &path, in[0].Slot
		return
	}
	if c.State != InSync {
		c.State = "" // which of them it is of is not known
	}
}

// clonesIn are the members that are an array's n clones, by what adopt gives to them alone: the last slots, and write-mostly.
// Where not all of them are so nothing is certain: a clone may be plugged in without being a member, and a disk that was put
// into its slot be write-mostly by somebody's choice.
func clonesIn(s md.State, n int) []md.MemberState {
	if n == 0 || n >= s.RaidDisks {
		return nil
	}
	var in []md.MemberState
	for slot := s.RaidDisks - n; slot < s.RaidDisks; slot++ {
		m, ok := s.AtSlot(slot)
		if !ok || !m.Has("write_mostly") {
			return nil
		}
		in = append(in, m)
	}
	return in
}

// judge finds a clone's drive and says what it is now; blind tells that there are disks which this user may not read.
func (t *Target) judge(c *DriveStatus, state md.State, blind bool) {
	d, err := t.env.findClone(c.UUID)
	if err != nil {
		c.Device, c.State = nil, Unsuitable
		c.Reasons = append(c.Reasons, report.Reason{Code: "two-drives", Text: err.Error()})
		return
	}
	if d == nil {
		d, err = t.env.findTooSmall(c.UUID)
	}
	switch {
	case err != nil:
		c.Device, c.State = nil, ""
		c.fails(err)
		return
	case d == nil && blind:
		c.bySysfs(state, len(t.Conf.Clones))
		return
	case d == nil:
		if name := unplugged(state, c.Slot, c.entry); name != "" {
			c.DetachedAt, c.Reasons = nil, append(c.Reasons, stillThere(t.Array.Name, name))
		}
		return
	}
	c.Device = &d.Path
	if d.Member != nil && d.Member.Super.Slot() >= 0 {
		c.Slot = d.Member.Super.Slot()
	}
	if t.Array.Name == "" {
		c.State, c.CopyBytes = Unsuitable, nil
		c.Reasons = append(c.Reasons, report.Reason{Code: "not-assembled", Text: "what it misses is known when its array is assembled"})
		return
	}
	var f Facts
	if _, err := t.factsBesideLedger(&f, *d); err != nil { // a damaged record of its own is in the reasons already
		c.State, c.CopyBytes = "", nil
		c.fails(err)
		return
	}
	v := t.advise(Judge(f), *d)
	c.State, c.Reasons, c.Hints = v.State, append(c.Reasons, v.Reasons...), append(c.Hints, v.Hints...)
	c.CopyBytes, c.AgainBytes = &v.CopyBytes, min(c.AgainBytes, v.CopyBytes)
	if f.Attached != nil {
		c.DetachedAt = nil
	}
	if c.unrecorded && v.Admit { // what is recorded may refuse it
		c.State, c.CopyBytes = "", nil
	}
}
