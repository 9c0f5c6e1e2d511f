package clone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mdclone/pkg/limits"
	"mdclone/pkg/report"
)

// ProbeResult is the JSON of `probe`; limits are in KiB.
type ProbeResult struct {
	Result  string            `json:"result"`
	Kernel  string            `json:"kernel"`
	Verdict limits.Verdict    `json:"verdict"`
	Limits  map[string]uint64 `json:"max_sectors_kb"`
	Reasons []report.Reason   `json:"reasons"`
}

const keepPin = "keep the pin: the array's limit must be the clone's before anything is stacked on it (mdclone-gen install)"

// Probe tests the running kernel for the loss of requests that are larger than what an array below dm takes since a
// member with a smaller limit joined it ("bio too big device", Linux before 4.3). It makes a mirror of its own, with
// files in memory or in dir, and leaves nothing of it behind, however it ends.
func (e *Env) Probe(ctx context.Context, dir string) (*ProbeResult, error) {
	r := &ProbeResult{Verdict: limits.Unknown, Limits: map[string]uint64{}}
	t, err := e.trial(ctx, dir)
	var text string
	if err == nil {
		r.Verdict, text = t.Judge()
		r.Limits = map[string]uint64{
			"member": t.MemberKB, "array_before": t.ArrayBefore, "array_after": t.ArrayAfter, "holder": t.HolderKB,
		}
	}
	switch {
	case err != nil:
		err = interrupted(err)
	case r.Verdict == limits.Fails:
		err = report.Fail(report.Failed, "bio-too-big", "this kernel loses large requests when an array's limit falls: %s", text).Hint(keepPin)
	case r.Verdict == limits.Unknown:
		err = report.Fail(report.Failed, "inconclusive", "this kernel could not be tested: %s", text).Hint("look at the kernel log (dmesg)")
	}
	var u unix.Utsname
	if e := unix.Uname(&u); e != nil {
		err = errors.Join(err, e)
	}
	r.Kernel = unix.ByteSliceToString(u.Release[:])
	r.Result, r.Reasons = report.CodeOf(err).Result(), report.ReasonsOf(err)
	if err == nil {
		r.Reasons = []report.Reason{{Code: string(r.Verdict), Text: text}}
	}
	return r, err
}

// trial makes the mirror, tries it, and has the guard remove it: as after a kill, so that both ways are one.
func (e *Env) trial(ctx context.Context, dir string) (t limits.Trial, err error) {
	if err := e.probeModules(ctx); err != nil {
		return t, err
	}
	lock, err := limits.LockScratch(e.FS)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return t, report.Fail(report.Refused, "locked", "another probe runs, or is being removed")
	}
	if err != nil {
		return t, notTestable(err)
	}
	defer lock.Close()
	s, err := limits.NewScratch(e.FS)
	if err != nil {
		return t, notTestable(err)
	}
	args := []string{"unprobe"}
	for _, n := range s.Loops() {
		args = append(args, strconv.Itoa(n))
	}
	g, err := startGuardWith([]*os.File{lock}, args...)
	if err != nil {
		return t, err
	}
	t, err = s.Run(ctx, dir)
	if lacks(err) {
		err = notTestable(err)
	}
	return t, errors.Join(err, s.Close(), g.end())
}

// lacks tells whether a trial ended for want of what it is made of, which says nothing of the kernel.
func lacks(err error) bool {
	return slices.ContainsFunc([]error{unix.ENOSPC, unix.EOPNOTSUPP, fs.ErrNotExist, fs.ErrPermission, limits.ErrNoLoops},
		func(want error) bool { return errors.Is(err, want) })
}

func notTestable(err error) error {
	return report.Fail(report.Refused, "not-testable", "this kernel cannot be tested here: %w", err).
		Hint("%s", keepPin)
}

// probeModules makes sure that what the scratch mirror is made of is there, and loads what is not.
func (e *Env) probeModules(ctx context.Context) error {
	if unix.Geteuid() != 0 {
		return report.Fail(report.Refused, "not-root", "probe makes devices, which only root may do")
	}
	missing := e.missingModules()
	if len(missing) == 0 {
		return nil
	}
	out, err := e.Run(ctx, "modprobe", append([]string{"-a"}, missing...)...)
	if missing = e.missingModules(); len(missing) == 0 {
		return nil
	}
	if err == nil {
		err = errors.New("modprobe found nothing to do")
	}
	return notTestable(fmt.Errorf("it lacks %s, which could not be loaded: %w %s", strings.Join(missing, ", "), err, strings.TrimSpace(out)))
}

// missingModules lists modules of the probe that are neither loaded nor built in.
func (e *Env) missingModules() []string {
	var out []string
	personalities, _ := os.ReadFile(filepath.Join(e.Root, "proc/mdstat")) // without md there is none
	if !strings.Contains(string(personalities), "[raid1]") {
		out = append(out, "raid1")
	}
	misc, _ := os.ReadFile(filepath.Join(e.Root, "proc/misc"))
	for _, m := range []struct{ device, module string }{{"loop-control", "loop"}, {"device-mapper", "dm-mod"}} {
		if !strings.Contains(string(misc), m.device) {
			out = append(out, m.module)
		}
	}
	return out
}

// numbers reads a guard's arguments.
func numbers(args []string) ([]int, error) {
	var out []int
	for _, a := range args {
		n, err := strconv.Atoi(a)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}
