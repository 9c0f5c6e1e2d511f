package clone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/limits"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Status is the JSON of `status`.
type Status struct {
	Arrays []ArrayStatus `json:"arrays"`
}

// ArrayStatus is one array.
type ArrayStatus struct {
	Name       string        `json:"name"`
	Device     string        `json:"device"` // "" if it is not assembled
	UUID       md.UUID       `json:"uuid"`
	State      string        `json:"state"` // md's array_state; "not-assembled"
	SyncAction string        `json:"sync_action"`
	RaidDisks  int           `json:"raid_disks"`
	Degraded   int           `json:"degraded"`
	Size       uint64        `json:"size_bytes"`
	ChunkBytes uint32        `json:"chunk_bytes"` // 0 if it could not be read, or without a bitmap
	DirtyBytes uint64        `json:"dirty_bytes"`
	Limits     LimitStatus   `json:"limits"`
	Clones     []DriveStatus `json:"clones"`
	Advice     []string      `json:"advice"` // what to know before a missing primary is replaced
	// RunsFromClone says that no primary is in sync: what is written now is on the clone alone.
	RunsFromClone bool     `json:"runs_from_clone"`
	Unreadable    []string `json:"unreadable"` // what this user may not read
}

// LimitStatus is max_sectors_kb of the array and of what is on it, in KiB.
type LimitStatus struct {
	Pinned  uint64            `json:"pinned_max_sectors_kb"` // what the configuration asks for; 0 for none
	Now     uint64            `json:"max_sectors_kb"`
	Holders map[string]uint64 `json:"holders"`
	// Queue, Members and Above are all limits that are watched: the array's, each member's, each holder's.
	Queue   limits.Queue            `json:"queue"`
	Members map[string]limits.Queue `json:"members"`
	Above   map[string]limits.Queue `json:"above"`
	// Findings say what holds a limit down, and which holder does not know of it.
	Findings []report.Reason `json:"findings"`
}

// DriveStatus is one recorded clone.
type DriveStatus struct {
	UUID      md.UUID `json:"uuid"`
	Device    string  `json:"device"` // "" if it is not plugged in
	State     State   `json:"state"`
	CopyBytes uint64  `json:"copy_bytes"` // what the next clone copies
	// AgainBytes is how much of that it has already: bits are cleared only while all clones are in.
	AgainBytes uint64          `json:"again_bytes"`
	Slot       int             `json:"slot"` // its own; -1 if it is not known
	DetachedAt *time.Time      `json:"detached_at"`
	Reasons    []report.Reason `json:"reasons"`
	Hints      []string        `json:"-"`
}

// Status looks at one array, or at all that are configured and, where none is, at all RAID1 arrays that run.
func (e *Env) Status(which string) (Status, error) {
	out := Status{Arrays: []ArrayStatus{}}
	confs, err := config.Load(e.Root)
	if err != nil {
		return out, report.Fail(report.Usage, "configuration", "%w", err)
	}
	arrays, err := e.running()
	if err != nil {
		return out, err
	}
	var targets []*Target
	if which != "" {
		t, err := e.target(which, confs)
		if err != nil {
			return out, err
		}
		targets = append(targets, t)
	}
	for _, c := range confs {
		if which != "" {
			break
		}
		t := &Target{env: e, Array: arrays[c.UUID], Conf: c, Configured: true}
		targets = append(targets, t)
	}
	if which == "" && len(confs) == 0 {
		for u, a := range arrays {
			targets = append(targets, &Target{env: e, Array: a, Conf: config.Array{Name: a.Name, UUID: u}})
		}
	}
	for _, t := range targets {
		s, err := t.status()
		if err != nil {
			return out, fmt.Errorf("%s: %w", t.Conf.Name, err)
		}
		out.Arrays = append(out.Arrays, s)
	}
	return out, nil
}

func (t *Target) status() (ArrayStatus, error) {
	s := ArrayStatus{
		Name: t.Conf.Name, UUID: t.Conf.UUID, State: "not-assembled", Clones: []DriveStatus{}, Unreadable: []string{}, Advice: []string{},
		Limits: LimitStatus{
			Holders: map[string]uint64{}, Members: map[string]limits.Queue{}, Above: map[string]limits.Queue{}, Findings: []report.Reason{},
		},
	}
	if t.Array.Name == "" {
		for _, u := range t.Conf.Clones {
			s.Clones = append(s.Clones, DriveStatus{UUID: u, State: Absent, Slot: -1, Reasons: []report.Reason{}})
		}
		return s, nil
	}
	state, err := t.Array.State()
	if err != nil {
		return s, err
	}
	s.Device, s.State, s.SyncAction = t.Array.Path(), state.ArrayState, state.SyncAction
	s.RaidDisks, s.Degraded, s.Size = state.RaidDisks, state.Degraded, state.ComponentSize
	if err := t.limitStatus(&s.Limits); err != nil {
		return s, err
	}
	peers, err := t.primaries(state, "")
	switch {
	case errors.Is(err, fs.ErrPermission):
		s.Unreadable = append(s.Unreadable, "the superblocks and bitmaps on the disks")
	case err != nil:
		return s, err
	case len(peers) == 0:
		s.RunsFromClone = state.Active()
	case peers[0].member.Bitmap != nil:
		b := peers[0].member.Bitmap
		s.ChunkBytes, s.DirtyBytes = b.ChunkBytes, b.Bytes(b.Dirty)
	}
	for _, u := range t.Conf.Clones {
		c, err := t.cloneStatus(u, s)
		if err != nil {
			return s, err
		}
		s.Clones = append(s.Clones, c)
	}
	var own []int
	for _, c := range s.Clones {
		own = append(own, c.Slot)
	}
	s.Advice = replaceAdvice(t.Array.Name, state.EmptySlots(), own)
	return s, nil
}

func (t *Target) limitStatus(l *LimitStatus) error {
	stack, err := limits.ReadStack(t.Array)
	if err != nil {
		return err
	}
	l.Pinned, l.Now, l.Queue = t.Conf.PinKB(), stack.Array.Queue.MaxSectorsKB, stack.Array.Queue
	for _, m := range stack.Members {
		l.Members[m.Name] = m.Queue
	}
	for _, h := range stack.Holders {
		l.Holders[h.Name], l.Above[h.Name] = h.Queue.MaxSectorsKB, h.Queue
	}
	l.Findings = findings(stack, t.Conf)
	return nil
}

// findings explains an array's limits with what is configured for it.
func findings(stack limits.Stack, conf config.Array) []report.Reason {
	pinned := conf.MaxSectorsKB
	if pinned == config.MaxSectorsAuto {
		pinned = stack.Auto(conf.CloneMaxSectorsKB)
	}
	out := []report.Reason{}
	for _, f := range stack.Explain(pinned, conf.CloneMaxSectorsKB) {
		out = append(out, report.Reason{Code: f.Code, Text: f.Text})
	}
	return out
}

// cloneStatus judges one clone as it is now; where the disks cannot be read it says what sysfs knows.
func (t *Target) cloneStatus(u md.UUID, s ArrayStatus) (DriveStatus, error) {
	c := DriveStatus{UUID: u, State: Absent, Slot: -1, CopyBytes: s.DirtyBytes, Reasons: []report.Reason{}}
	x, err := t.env.entry(u)
	if err == nil && x != nil && !x.DetachedAt.IsZero() {
		c.DetachedAt, c.Slot = &x.DetachedAt, x.Slot
		if len(t.Conf.Clones) > 1 && !x.Attached {
			c.AgainBytes = min(x.DirtyBytes, c.CopyBytes)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return c, err
	}
	if len(s.Unreadable) > 0 {
		return c, nil
	}
	d, err := t.env.findClone(u)
	if err != nil {
		c.State, c.Reasons = Unsuitable, []report.Reason{{Code: "two-drives", Text: err.Error()}}
		return c, nil //nolint:nilerr // it is what there is to say of this clone
	}
	if d == nil {
		d, err = t.env.findTooSmall(u)
	}
	if err != nil || d == nil {
		return c, err
	}
	f, err := t.Facts(*d)
	if err != nil {
		return c, err
	}
	v := t.advise(Judge(f), *d)
	c.Device, c.State, c.Reasons, c.Hints = d.Path, v.State, append(c.Reasons, v.Reasons...), v.Hints
	c.CopyBytes, c.AgainBytes = v.CopyBytes, min(c.AgainBytes, v.CopyBytes)
	if d.Member != nil && d.Member.Super.Slot() >= 0 {
		c.Slot = d.Member.Super.Slot()
	}
	return c, nil
}

// Check is the verdict on one drive, without changing anything.
func (t *Target) Check(path string) (Drive, Verdict, error) {
	d, err := t.env.readDrive(path)
	if err != nil {
		return d, Verdict{}, report.Fail(report.Usage, "no-such-drive", "%w", err)
	}
	f, err := t.Facts(d)
	if err != nil {
		return d, Verdict{}, err
	}
	if len(t.Conf.Clones) == 0 && d.Member != nil {
		if !f.looksLikeClone() {
			t.env.Log.Warnf("%s is not write-mostly, as a clone is: one of the array's own disks? A backup takes it only once it is recorded",
				d.Name)
		}
		f.Recorded = true // nothing is recorded, and the question is what the bitmaps say of it
	}
	return d, t.advise(Judge(f), d), nil
}

// ArrayOf finds the array that a drive is, or once was, a member of.
func (e *Env) ArrayOf(path string) (string, error) {
	d, err := e.readDrive(path)
	if err != nil {
		return "", report.Fail(report.Usage, "no-such-drive", "%w", err)
	}
	if d.Member == nil {
		return "", report.Fail(report.Refused, "no-superblock", "%s: %w", path, d.Err)
	}
	return d.Member.Super.Array.String(), nil
}

// InUse says what uses the whole drive that a device is, or is part of: until that is nothing it must not be unplugged.
func (e *Env) InUse(path string) ([]string, error) {
	name, err := md.KernelName(e.FS, path)
	if err != nil {
		return nil, err
	}
	users, err := e.users(e.FS.DiskOf(name))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, u := range users {
		out = append(out, u.String())
	}
	return out, nil
}

// byLink finds an array's UUID as udev links it, for a user who cannot read the disks.
func byLink(root, array string) (md.UUID, bool) {
	links, err := filepath.Glob(filepath.Join(root, "dev/disk/by-id/md-uuid-*"))
	if err != nil {
		return md.UUID{}, false
	}
	for _, l := range links {
		target, err := os.Readlink(l)
		if err != nil || filepath.Base(target) != array {
			continue
		}
		u, err := md.ParseUUID(strings.TrimPrefix(filepath.Base(l), "md-uuid-"))
		return u, err == nil
	}
	return md.UUID{}, false
}

// RunAll carries do out on each array, one after the other, also when one fails: each clone has its own account. errs has
// one entry an array.
func RunAll(ctx context.Context, targets []*Target, do func(context.Context, *Target) ([]*Result, error)) (results []*Result, errs []error) {
	for _, t := range targets {
		if ctx.Err() != nil {
			err := report.Fail(report.Interrupted, "interrupted", "%s was not begun", t.Conf.Name)
			results, errs = append(results, t.refusal(err)), append(errs, err)
			continue
		}
		r, err := do(ctx, t)
		results, errs = append(results, r...), append(errs, err)
	}
	return results, errs
}
