package clone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mdclone/pkg/config"
	"mdclone/pkg/limits"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Status is the JSON of `status`.
type Status struct {
	Result     string          `json:"result"`
	Arrays     []ArrayStatus   `json:"arrays"`
	Unreadable []string        `json:"unreadable"` // what this user may not read, of which array is not known
	Reasons    []report.Reason `json:"reasons"`    // why it is not all
}

// ArrayStatus is one array.
type ArrayStatus struct {
	Name       string        `json:"name"`
	Device     string        `json:"device"` // "" if it is not assembled
	UUID       md.UUID       `json:"uuid"`
	State      string        `json:"state"` // md's array_state; "not-assembled"; "unknown" where this user cannot tell
	SyncAction string        `json:"sync_action"`
	RaidDisks  int           `json:"raid_disks"`
	Degraded   int           `json:"degraded"`
	Size       uint64        `json:"size_bytes"`
	ChunkBytes uint32        `json:"chunk_bytes"` // 0 if it could not be read, or without a bitmap
	DirtyBytes *uint64       `json:"dirty_bytes"` // nil if it could not be read
	Limits     LimitStatus   `json:"limits"`
	Clones     []DriveStatus `json:"clones"`
	Advice     []string      `json:"advice"` // what to know before a missing primary is replaced, or a clone leaves
	// RunsFromClone says that no primary is in sync: what is written now is on the clone alone.
	RunsFromClone bool     `json:"runs_from_clone"`
	Unreadable    []string `json:"unreadable"` // what this user may not read
	ClonesKnown   bool     `json:"-"`          // what is configured for it could be read
}

// LimitStatus is max_sectors_kb of the array and of what is on it, in KiB.
type LimitStatus struct {
	Pinned  uint64            `json:"pinned_max_sectors_kb"` // what it is to be held at; 0 for nothing
	Now     uint64            `json:"max_sectors_kb"`
	Holders map[string]uint64 `json:"holders"`
	// Queue, Members and Above are all limits that are watched: the array's, each member's, each holder's.
	Queue   limits.Queue            `json:"queue"`
	Members map[string]limits.Queue `json:"members"`
	Above   map[string]limits.Queue `json:"above"`
	// Findings say what holds a limit down, and which holder does not know of it.
	Findings []report.Reason `json:"findings"`
}

// Status looks at one array, or at all that are configured and, where none is, or not all can be read, at all RAID1 arrays that
// run. What goes wrong with one array is in the error, and does not hide the others.
func (e *Env) Status(which string) (Status, error) {
	out := Status{Arrays: []ArrayStatus{}, Unreadable: []string{}}
	confs, unread, err := e.configured()
	if err != nil {
		return out, err
	}
	arrays, err := e.running()
	if err != nil {
		return out, err
	}
	unnamed, err := e.unnamed(arrays)
	if err != nil {
		return out, err
	}
	out.Unreadable = append(out.Unreadable, unread...)
	if len(unnamed) > 0 {
		out.Unreadable = append(out.Unreadable, "the superblocks of "+join(unnamed)+", which tell the array")
	}
	look := statusLook{unread: len(unread) > 0, unnamed: len(unnamed) > 0}
	targets, err := e.shown(which, confs, arrays, look.unread)
	if err != nil {
		var own *report.Error
		if errors.As(err, &own) && len(out.Unreadable) > 0 {
			err = own.Hint("not readable for this user: %s", join(out.Unreadable))
		}
		return out, err
	}
	var errs []error
	for _, t := range targets {
		s, err := t.status(look)
		if err != nil && !e.FS.Exists(t.Array.Attr("array_state")) { // it was stopped meanwhile
			t.Array = md.Array{}
			s, err = t.status(look)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.Conf.Name, err))
			t.namesClones(&s)
		}
		out.Arrays = append(out.Arrays, s)
	}
	return out, errors.Join(errs...)
}

// namesClones has a status that could not be completed name the clones all the same.
func (t *Target) namesClones(s *ArrayStatus) {
	for _, u := range t.Conf.Clones[len(s.Clones):] {
		c := t.recorded(u, *s)
		c.Device, c.State, c.CopyBytes = nil, "", nil
		s.Clones = append(s.Clones, c)
	}
}

// statusLook is what this user cannot tell of any array.
type statusLook struct {
	unread  bool // there is configuration that may not be read
	unnamed bool // an array runs of which the superblocks may not be read
}

// shown are the arrays that status is about.
func (e *Env) shown(which string, confs []config.Array, arrays map[md.UUID]md.Array, unread bool) ([]*Target, error) {
	var out []*Target
	if which != "" {
		t, err := e.target(which, confs)
		if c, ok := confOf(which, confs); ok && slices.Contains([]string{"not-assembled", "kernel-too-old"}, reasonCode(err)) {
			return append(out, e.configuredTarget(c, arrays)), nil
		}
		return append(out, t), err
	}
	for _, c := range confs {
		out = append(out, e.configuredTarget(c, arrays))
	}
	if len(confs) > 0 && !unread {
		return out, nil
	}
	all, err := md.Arrays(e.FS) // in order
	for _, a := range all {
		for u, b := range arrays {
			if _, known := confOf(u.String(), confs); a == b && !known {
				out = append(out, &Target{env: e, Array: a, Conf: config.Array{Name: a.Name, UUID: u}})
			}
		}
	}
	return out, err
}

func (e *Env) configuredTarget(c config.Array, arrays map[md.UUID]md.Array) *Target {
	return &Target{env: e, Array: arrays[c.UUID], Conf: c, Configured: true}
}

// confOf finds what is configured by an array's name or UUID.
func confOf(which string, confs []config.Array) (config.Array, bool) {
	u, err := md.ParseUUID(which)
	for _, c := range confs {
		if c.Name == which || err == nil && c.UUID == u {
			return c, true
		}
	}
	return config.Array{}, false
}

// configured is what this user may read of the configuration, and unread what not. Everything else that is wrong with it is an
// error.
func (e *Env) configured() (confs []config.Array, unread []string, err error) {
	dir := filepath.Join(e.Root, config.Dir)
	if _, err := os.ReadDir(dir); errors.Is(err, fs.ErrPermission) {
		return nil, []string{dir}, nil
	}
	confs, errs := config.LoadEach(e.Root)
	unread, err = unreadOf(errs)
	return confs, unread, err
}

// unreadOf are the files that errs say this user may not read.
func unreadOf(errs []error) (files []string, err error) {
	for _, err := range errs {
		var at *fs.PathError
		if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &at) {
			return nil, report.Fail(report.Usage, "configuration", "%w", err)
		}
		files = append(files, at.Path)
	}
	return files, nil
}

// unnamed are the arrays that run and are none of arrays, as this user may not read what they are.
func (e *Env) unnamed(arrays map[md.UUID]md.Array) ([]string, error) {
	all, err := md.Arrays(e.FS)
	if err != nil {
		return nil, err
	}
	named := map[md.Array]bool{}
	for _, a := range arrays {
		named[a] = true
	}
	var out []string
	for _, a := range all {
		if named[a] {
			continue
		}
		if _, err := e.uuidOf(a); errors.Is(err, fs.ErrPermission) {
			out = append(out, a.Name)
		}
	}
	return out, nil
}

// What this user may not read.
const (
	unreadDisks  = "the superblocks and bitmaps on the disks"
	unreadConfig = "what is configured for it"
	unreadLedger = "what is recorded of its clones"
)

func (t *Target) status(look statusLook) (ArrayStatus, error) {
	s := ArrayStatus{
		Name: t.Conf.Name, UUID: t.Conf.UUID, State: "not-assembled", Clones: []DriveStatus{}, Unreadable: []string{}, Advice: []string{},
		Limits: LimitStatus{
			Holders: map[string]uint64{}, Members: map[string]limits.Queue{}, Above: map[string]limits.Queue{}, Findings: []report.Reason{},
		},
		ClonesKnown: t.Configured || !look.unread,
	}
	if !s.ClonesKnown {
		s.Unreadable = append(s.Unreadable, unreadConfig)
	}
	if t.Array.Name == "" {
		if look.unnamed {
			s.State = "unknown"
		} else if why := t.env.notRunning(t.Conf); reasonCode(why) == "kernel-too-old" {
			s.Advice = append(s.Advice, report.ReasonsOf(why)[0].Text)
		}
		return s, t.clones(&s, md.State{})
	}
	s.Device = t.Array.Path()
	state, err := t.Array.State()
	if err != nil {
		return s, err
	}
	s.State, s.SyncAction = state.ArrayState, state.SyncAction
	s.RaidDisks, s.Degraded, s.Size = state.RaidDisks, state.Degraded, state.ComponentSize
	if err := t.limitStatus(&s.Limits); err != nil {
		return s, err
	}
	peers, err := t.primaries(state, "")
	switch {
	case errors.Is(err, fs.ErrPermission):
		s.Unreadable = append(s.Unreadable, unreadDisks)
	case err != nil:
		return s, err
	case len(peers) == 0:
		s.RunsFromClone = state.Active()
	default:
		s.DirtyBytes = new(uint64)
		if b := peers[0].member.Bitmap; b != nil {
			s.ChunkBytes, *s.DirtyBytes = b.ChunkBytes, b.Bytes(b.Dirty)
		}
	}
	if err := t.clones(&s, state); err != nil {
		return s, err
	}
	own := ownSlots(state, s.Clones)
	s.Advice = replaceAdvice(t.Array.Name, state.EmptySlots(), own, t.Configured && len(own) > 0)
	if len(own) > 0 {
		if len(s.Advice) == 0 { // else a spare may be what replaces a primary
			s.Advice = append(s.Advice, spareAdvice(t.Array.Name, state.Spares(), s.Clones)...)
		}
		if why := losesMarks(); why != "" {
			s.Advice = append(s.Advice, why)
		}
	}
	return s, nil
}

func (t *Target) limitStatus(l *LimitStatus) error {
	stack, err := limits.ReadStack(t.Array)
	if err != nil {
		return err
	}
	if l.Pinned = t.pinnedKB(0); t.Configured {
		l.Pinned = t.wantedKB(stack)
	}
	l.Now, l.Queue = stack.Array.Queue.MaxSectorsKB, stack.Array.Queue
	for _, m := range stack.Members {
		l.Members[m.Name] = m.Queue
	}
	for _, h := range stack.Holders {
		l.Holders[h.Name], l.Above[h.Name] = h.Queue.MaxSectorsKB, h.Queue
	}
	l.Findings = t.findings(stack)
	return nil
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
