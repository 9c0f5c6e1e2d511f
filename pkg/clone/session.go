package clone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

// Options are what a cycle is asked for.
type Options struct {
	Wait    time.Duration // for the drive to be plugged in
	Offline bool          // refuse if anything is on the array
	Verify  config.Verify // "" leaves it to the configuration and the verdict
	Keep    bool          // leave the clone attached
	Heal    bool          // a clone that ran alone may be healed
	Full    bool          // where only a full copy is right, make one
	Repair  bool          // what differs is to be made equal
	Clone   string        // a device or an md device UUID, where nothing is configured or one of several is meant
	Only    []md.UUID     // of the recorded clones, those that are meant; nil for all
}

// session is one clone's way through a cycle.
type session struct {
	*Target
	opts    Options
	drive   Drive
	verdict Verdict
	verify  config.Verify
	offline bool // nothing is on the array, and it may be made read-only

	slot    int
	before  uint64    // the drive's events before it was let in; 0 if nothing is recorded of that
	peer    string    // kernel name of the primary whose disk is read
	peers   []string  // of all primaries that were in sync when the session began
	copied  md.Chunks // dirty when the drive was let in: what the sync copies
	bitmap  *md.Bitmap
	synced  bool          // a sync ran, so copied is worth comparing
	moved   bool          // Events Cleared has passed the clone
	done    config.Verify // what was compared, without a difference
	inside  bool          // the drive is in the array because of us, or was before
	keeps   bool          // it was in sync in the array before, and is not to leave
	resting bool          // nothing can write to the array
	written uint64        // sectors written to the drive when the session began
	result  *Result
	acted   bool  // the array or the drive was changed: what goes wrong from then on is no refusal
	over    bool  // there is nothing to do
	follows bool  // other clones were let in before it
	err     error // why it ended early
}

// Seconds is how long each part of a cycle took.
type Seconds struct {
	Sync   float64 `json:"sync"`
	Settle float64 `json:"settle"`
	Verify float64 `json:"verify"`
	Detach float64 `json:"detach"`
	Total  float64 `json:"total"`
}

// Result is the account of one cycle, and its JSON.
type Result struct {
	Result            string          `json:"result"`
	Mode              string          `json:"mode"` // incremental, full, healed; "" if it came to nothing
	Array             string          `json:"array"`
	Clone             md.UUID         `json:"clone,omitzero"`
	Device            string          `json:"device,omitempty"`
	DirtyBytes        uint64          `json:"dirty_bytes"`
	CopiedBytes       uint64          `json:"copied_bytes"`
	VerifiedBytes     uint64          `json:"verified_bytes"`
	MismatchedSectors uint64          `json:"mismatched_sectors"`
	LeftDirtyBytes    uint64          `json:"left_dirty_bytes"` // what the next cycle copies once more
	Attached          bool            `json:"attached"`
	Offline           bool            `json:"offline"` // nothing could write to the array when it was compared and left
	Seconds           Seconds         `json:"seconds"`
	Reasons           []report.Reason `json:"reasons"`
}

// open begins a session with a drive, and judges it. Nothing is changed yet.
func (t *Target) open(d Drive, opts Options) (*session, error) {
	s := &session{Target: t, opts: opts, drive: d, result: &Result{Array: t.Conf.Name, Mode: "incremental", Device: d.Path}}
	s.result.Clone = d.Member.Super.Device
	return s, s.judge()
}

// judge reads the facts anew and keeps the verdict; an error says why the drive may not join.
func (s *session) judge() error {
	f, err := s.Facts(s.drive)
	if err != nil {
		return err
	}
	if !s.Configured && s.opts.Clone != "" {
		f.Recorded = f.looksLikeClone() // nothing is recorded, and the user named it
	}
	s.verdict = Judge(f)
	defer func() { s.doubted = s.doubted || s.verdict.WhyVerify != "" }()
	if s.opts.Verify == config.VerifyFull && s.verdict.code() == touchedCode && len(f.BadMembers) == 0 {
		s.verdict.Admit, s.verdict.Verify, s.verdict.WhyVerify = true, config.VerifyFull, "it was touched elsewhere"
	}
	if s.opts.Heal && s.verdict.Mend == MendHeal {
		s.verdict.Admit, s.verdict.Verify = true, config.VerifyFull
		s.verdict.WhyVerify = "it ran alone and is healed, and a drive that was rebuilt from it meanwhile would leave no trace"
	}
	if s.opts.Full && s.verdict.Mend == MendFull {
		s.verdict.Admit, s.verdict.Verify = true, config.VerifyChanged
	}
	if !s.verdict.Admit {
		s.verdict = s.advise(s.verdict, s.drive)
		e := &report.Error{Exit: report.Refused, Reasons: s.verdict.Reasons, Hints: s.verdict.Hints}
		return e
	}
	if s.opts.Offline && f.InUse {
		users, err := s.env.users(s.Array.Name)
		return errors.Join(err, notOffline(s.Array.Name, users))
	}
	s.offline = !f.InUse
	s.verify = s.verdict.Verify
	switch {
	case s.opts.Verify != "":
		s.verify = s.opts.Verify
		if s.verify == config.VerifyNone && s.verdict.Mend == MendHeal {
			s.env.Log.Warnf("%s: nothing is compared: whether the healing is complete is not seen", s.drive.Name)
		}
		if s.verify == config.VerifyChanged && s.verdict.Mend == MendHeal {
			s.env.Log.Warnf("%s: only what its bitmap names is compared; what was written to it without md, or by drives that were "+
				"rebuilt from it, is not seen", s.drive.Name)
		}
	case s.verify == config.VerifyChanged:
		s.verify = s.Conf.Verify
	case s.verdict.OnlyFull:
		s.env.Log.Infof("%s: all of it will be compared: %s", s.drive.Name, s.verdict.WhyVerify)
	case s.verdict.WhyVerify != "":
		s.env.Log.Infof("%s: all of it will be compared: %s (--verify changed skips that)", s.drive.Name, s.verdict.WhyVerify)
	}
	if s.verdict.OnlyFull && s.verify != config.VerifyFull {
		return report.Fail(report.Refused, "unrecorded-sync", "%s may join only if all of it is compared: %s", s.drive.Name, s.verdict.WhyVerify).
			Hint("backup --verify full")
	}
	return nil
}

func (v Verdict) code() string {
	if len(v.Reasons) == 0 {
		return ""
	}
	return v.Reasons[0].Code
}

// awaitDrives finds the clone drives that are plugged in, waiting for the first as long as was asked.
func (t *Target) awaitDrives(ctx context.Context, opts Options) ([]Drive, error) {
	events, err := sysfs.OpenUevents()
	if err != nil {
		return nil, err
	}
	defer events.Close()
	until := t.env.Now().Add(opts.Wait)
	for said := false; ; {
		found, err := t.findDrives(opts)
		if err != nil || len(found) > 0 {
			return found, err
		}
		left := until.Sub(t.env.Now())
		if left <= 0 {
			return nil, t.noDrive(opts)
		}
		if !said {
			t.env.Log.Infof("waiting up to %s for the clone drive of %s", left.Round(time.Second), t.Conf.Name)
			said = true
		}
		if err := events.Wait(ctx, min(left, 10*time.Second)); err != nil {
			return nil, interrupted(err)
		}
	}
}

// noDrive is why there is no drive to work on.
func (t *Target) noDrive(opts Options) error {
	clones, err := t.meant(opts)
	if err != nil {
		return err
	}
	for _, u := range clones {
		d, err := t.env.findTooSmall(u)
		if err != nil {
			return err
		}
		if d == nil {
			continue
		}
		if v, ok := copiedToSmaller(Facts{ArrayUUID: t.Conf.UUID, DriveName: d.Name, DriveErr: d.Err}); ok {
			return refused(v)
		}
	}
	return t.noneHere()
}

// findDrives looks once: for the drive that is named, or for the recorded clones, those that are in the array first.
func (t *Target) findDrives(opts Options) ([]Drive, error) {
	if strings.Contains(opts.Clone, "/") {
		d, err := t.env.readDrive(opts.Clone)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, report.Fail(report.Usage, "no-such-drive", "--clone: %w", err)
		}
		if d.Member == nil {
			v, _ := foreignDrive(Facts{ArrayUUID: t.Conf.UUID, DriveName: d.Name, DriveErr: d.Err})
			err = refused(v)
		}
		return []Drive{d}, err
	}
	clones, err := t.meant(opts)
	if err != nil {
		return nil, err
	}
	var inside, outside []Drive
	for _, u := range clones {
		d, err := t.env.findClone(u)
		switch {
		case err != nil:
			return nil, report.Fail(report.Refused, "two-drives", "%w", err)
		case d == nil:
		case t.attached(*d):
			inside = append(inside, *d)
		default:
			outside = append(outside, *d)
		}
	}
	return append(inside, outside...), nil
}

// meant are the clones that a command is about: the one that is named by its UUID, or those that are recorded.
func (t *Target) meant(opts Options) ([]md.UUID, error) {
	switch {
	case strings.Contains(opts.Clone, "/"):
		return nil, nil
	case opts.Clone != "":
		u, err := md.ParseUUID(opts.Clone)
		if err != nil {
			return nil, report.Fail(report.Usage, "usage", "--clone: %w", err)
		}
		return []md.UUID{u}, nil
	case len(t.Conf.Clones) == 0:
		return nil, report.Fail(report.Usage, "no-clone", "no clone of %s is recorded", t.Conf.Name).
			Hint("set one up with mdclone-early adopt, or name one with --clone")
	}
	var clones []md.UUID
	for _, u := range t.Conf.Clones {
		if opts.Only == nil || slices.Contains(opts.Only, u) {
			clones = append(clones, u)
		}
	}
	return clones, nil
}

func (t *Target) attached(d Drive) bool { return t.env.FS.Exists(t.Array.Attr("dev-" + d.Name)) }

// interrupted makes the end of a context exit code 130.
func interrupted(err error) error {
	if errors.Is(err, context.Canceled) {
		return report.Fail(report.Interrupted, "interrupted", "interrupted: the array is safe, a rerun resumes")
	}
	return err
}

// sectorsWritten reads how much was written to the drive since it appeared (Documentation/block/stat.rst, field 7).
func (s *session) sectorsWritten() (uint64, error) {
	return s.env.sectorsWritten(s.drive.Name)
}

func (e *Env) sectorsWritten(name string) (uint64, error) {
	const writeSectors = 6
	path := filepath.Join("class/block", name, "stat")
	text, err := e.FS.Read(path)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(text)
	if len(fields) <= writeSectors {
		return 0, fmt.Errorf("read %s: %q has too few fields", path, text)
	}
	n, err := strconv.ParseUint(fields[writeSectors], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}

// since is how many seconds have passed.
func (s *session) since(start time.Time) float64 { return s.env.Now().Sub(start).Seconds() }
