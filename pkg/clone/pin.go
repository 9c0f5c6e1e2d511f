package clone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"mdclone/pkg/config"
	"mdclone/pkg/limits"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// PinOutcome is what Pin says to udev.
type PinOutcome string

// The outcomes of a pin.
const (
	PinOK   PinOutcome = "ok"
	PinLate PinOutcome = "late" // something on the array was made with a larger limit
)

// Pin sets the array's limit to kb KiB; 0 leaves it to the configuration, and where that says auto, to the smallest
// limit among members and recorded clones.
func (t *Target) Pin(kb uint64) (limits.PinResult, PinOutcome, error) {
	if t.absent != nil {
		return limits.PinResult{}, "", t.absent
	}
	if kb == 0 {
		stack, err := limits.ReadStack(t.Array)
		if err != nil {
			return limits.PinResult{}, "", err
		}
		kb = t.wantedKB(stack)
	}
	r, err := limits.Pin(t.Array, kb)
	if err != nil {
		return r, "", err
	}
	if len(r.Late) > 0 {
		return r, PinLate, nil
	}
	return r, PinOK, nil
}

// HoldAt has every later pin of this uptime that names no limit take kb KiB; 0 leaves it to the configuration again.
func (t *Target) HoldAt(kb uint64) error {
	if kb == 0 {
		return removeDurably(t.pinPath())
	}
	if err := os.MkdirAll(t.env.RunDir(), 0o755); err != nil {
		return err
	}
	return os.WriteFile(t.pinPath(), strconv.AppendUint(nil, kb, 10), 0o644) // status reads it, whoever asks
}

func (t *Target) pinPath() string { return filepath.Join(t.env.RunDir(), "pin-"+t.Conf.UUID.Dashed()) }

// pinnedKB is what HoldAt was told, else otherwise.
func (t *Target) pinnedKB(otherwise uint64) uint64 {
	text, err := os.ReadFile(t.pinPath())
	if err != nil {
		return otherwise
	}
	kb, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil {
		return otherwise
	}
	return kb
}

// wantedKB is what the array is to be held at: what was typed, else what is configured, else what all can take.
func (t *Target) wantedKB(stack limits.Stack) uint64 {
	if kb := t.pinnedKB(t.Conf.MaxSectorsKB); kb != config.MaxSectorsAuto {
		return kb
	}
	return stack.Auto(t.Conf.CloneMaxSectorsKB)
}

// Findings says what holds the array's limits down after a pin, and which device above it does not know of it.
func (t *Target) Findings(r limits.PinResult) ([]report.Reason, error) {
	stack, err := limits.ReadStack(t.Array)
	return append(lowered(r), t.findings(stack)...), err
}

// findings explains the array's limits with what they are to be.
func (t *Target) findings(stack limits.Stack) []report.Reason {
	out := []report.Reason{}
	for _, f := range stack.Explain(t.wantedKB(stack), t.Conf.CloneMaxSectorsKB) {
		out = append(out, report.Reason{Code: f.Code, Text: f.Text})
	}
	return out
}

// lowered says that a pin is not at what was asked for.
func lowered(r limits.PinResult) []report.Reason {
	if r.Members == 0 || r.Wanted <= r.Members {
		return []report.Reason{}
	}
	return []report.Reason{{Code: "lowered", Text: fmt.Sprintf("wanted %d, the members take %d", r.Wanted, r.Members)}}
}

// keepPinned pins once more where a configured array may have lost its pin, or is about to get a member. It never stands
// in the way of a cycle: whether a drive fits is the verdict's to say.
func (t *Target) keepPinned() {
	if !t.Configured {
		return
	}
	r, _, err := t.Pin(0)
	switch {
	case errors.Is(err, limits.ErrNotActive):
	case err != nil:
		t.env.Log.Warnf("%v", err)
	case r.After != r.Before:
		t.env.Log.Infof("%s: max_sectors_kb was %d, pinned again at %d", t.Array.Name, r.Before, r.After)
	}
}

// Under lists the configured arrays that a block device is, or is stacked on. For a device that is none of ours it is
// empty. The error is of files that are wrong: each is of one array, as its name says, and the others are still ours.
func (e *Env) Under(path string) ([]*Target, error) {
	name, err := md.KernelName(e.FS, nodeOf(path))
	if err != nil {
		return nil, nil //nolint:nilerr // no block device
	}
	below, err := limits.Below(e.FS, name)
	if err != nil || len(below) == 0 {
		return nil, nil //nolint:nilerr // it has gone
	}
	confs, errs := config.LoadEach(e.Root)
	var out []*Target
	for _, n := range below {
		if t, err := e.target("/dev/"+n, confs); err == nil && t.Configured {
			out = append(out, t)
		}
	}
	return out, errors.Join(errs...)
}
