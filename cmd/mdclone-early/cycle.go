package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mdclone/pkg/clone"
	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

const (
	backupHelp = `The whole cycle: find the clone, judge it, let it in, copy what changed, compare that, settle the bitmap, detach. With
nothing on the array no tick of the bitmap is waited for (in a rescue shell, without the ledger, all of it is compared); in the
running system that takes a few seconds, and the clone is what a power cut would have left.

It is "re-add or nothing": where only a full copy would be right it refuses (3) and says why.

EXAMPLES
  mdclone-early backup --wait 10m           waits for the drive to be plugged in
  mdclone-early backup --heal root          root's clone was booted meanwhile
  mdclone-early backup root --verify full   compares all of it`
	attachHelp = `The first half of backup: the clone is in sync and stays in. Do not unplug it before detach.`
	detachHelp = `The second half of backup: settles the bitmap and takes the clone out, never anything else. It is safe to unplug then.`
)

// cycleOptions are shared by backup, attach and detach.
type cycleOptions struct {
	*program `no-flag:"1"`
	Clone    string `long:"clone" value-name:"DRIVE" description:"the clone, as a device or md device UUID, where none is configured or one of several is meant"`
	Args     struct {
		Array string `positional-arg-name:"ARRAY"`
	} `positional-args:"1"`
	only []md.UUID // of the clones, those that are meant; nil for all
}

type waitOption struct {
	Wait time.Duration `long:"wait" value-name:"DURATION" description:"wait so long for the drive to be plugged in (30s, 5m)"`
}

type verifyOption struct {
	Verify string `long:"verify" value-name:"none|changed|full" description:"what to compare after the copy; else as configured, and all where nothing vouches for the drive"`
}

type backupCommand struct {
	cycleOptions
	waitOption
	verifyOption
	Offline bool `long:"offline" description:"refuse (3) if anything is on the array"`
	Heal    bool `long:"heal" description:"a clone that was booted on its own: undo what it wrote, incrementally, and compare all of it"`
	Full    bool `long:"full" description:"where only a full copy is right, make one"`
	Keep    bool `long:"keep" description:"leave the clone attached"`
	// at boot, where those that are left out were made before
	Only []string `long:"only" hidden:"1"`
	// there, whoever runs this brings what is said to all consoles and the kernel's log
	NoKernelLog bool `long:"no-kernel-log" hidden:"1"`
}

type attachCommand struct {
	cycleOptions
	waitOption
	verifyOption
}

type detachCommand struct {
	cycleOptions
	verifyOption
}

func newBackupCommand(p *program) *backupCommand {
	return &backupCommand{cycleOptions: cycleOptions{program: p}}
}

func newAttachCommand(p *program) *attachCommand {
	return &attachCommand{cycleOptions: cycleOptions{program: p}}
}

func newDetachCommand(p *program) *detachCommand {
	return &detachCommand{cycleOptions: cycleOptions{program: p}}
}

// options checks what go-flags cannot.
func (c *cycleOptions) options(wait time.Duration, verify string) (clone.Options, error) {
	o := clone.Options{Clone: c.Clone, Wait: wait}
	if wait < 0 {
		return o, report.Fail(report.Usage, "usage", "--wait %s is negative", wait)
	}
	if verify != "" {
		v, err := config.ParseVerify(verify)
		if err != nil {
			return o, report.Fail(report.Usage, "usage", "%w", err)
		}
		o.Verify = v
	}
	return o, nil
}

// Execute runs backup.
func (c *backupCommand) Execute(args []string) error {
	if c.NoKernelLog {
		c.env.Log.Kmsg = nil
	}
	o, err := c.options(c.Wait, c.Verify)
	o.Offline, o.Keep, o.Heal, o.Full = c.Offline, c.Keep, c.Heal, c.Full
	for _, text := range c.Only {
		u, e := md.ParseUUID(text)
		o.Only, err = append(o.Only, u), errors.Join(err, e)
	}
	c.only = o.Only
	return c.each(args, err, !c.Keep, func(ctx context.Context, t *clone.Target) ([]*clone.Result, error) { return t.Backup(ctx, o) })
}

// Execute runs attach.
func (c *attachCommand) Execute(args []string) error {
	o, err := c.options(c.Wait, c.Verify)
	return c.each(args, err, false, func(ctx context.Context, t *clone.Target) ([]*clone.Result, error) { return t.Attach(ctx, o) })
}

// Execute runs detach.
func (c *detachCommand) Execute(args []string) error {
	o, err := c.options(0, c.Verify)
	return c.each(args, err, true, func(ctx context.Context, t *clone.Target) ([]*clone.Result, error) { return t.Detach(ctx, o) })
}

// account is the JSON of a run over several arrays.
type account struct {
	Result  string          `json:"result"`
	Arrays  []*clone.Result `json:"arrays"`
	Reasons []report.Reason `json:"reasons"`
}

// each runs do on every array that is meant and gives one account at the end; "safe to unplug" is said once.
func (c *cycleOptions) each(args []string, err error, unplug bool, do func(context.Context, *clone.Target) ([]*clone.Result, error)) error {
	if err = errors.Join(report.NoMore(args), err); err != nil {
		return err
	}
	c.begin()
	targets, err := c.env.Targets(c.Args.Array)
	if err != nil {
		return err
	}
	if c.only != nil {
		targets = slices.DeleteFunc(targets, func(t *clone.Target) bool { return !slices.ContainsFunc(c.only, t.Conf.HasClone) })
	}
	if c.Args.Array == "" && c.Clone == "" {
		targets = withClones(targets)
	}
	results, errs := clone.RunAll(c.ctx, targets, do)
	worst, done := report.Done, 0
	for _, e := range errs {
		worst = report.Worse(worst, report.CodeOf(e))
		if e == nil {
			done++
		}
	}
	text := ""
	for _, r := range results {
		if r.Result == report.Done.Result() {
			text += r.Summary() + "\n"
		}
	}
	if worst == report.Done && unplug {
		text += c.unplugging(results)
	}
	all := errors.Join(errs...)
	var out any = account{worst.Result(), results, report.ReasonsOf(all)}
	if len(results) == 1 && len(targets) == 1 {
		out = results[0]
	}
	if e := c.print(out, text); e != nil { // what came of the clones counts for more
		all = errors.Join(all, e)
		if worst == report.Done {
			worst = report.Failed
		}
	}
	if all == nil {
		return nil
	}
	if len(targets) > 1 {
		c.env.Log.Infof("%d of %d arrays are done", done, len(targets))
	}
	return report.WithCode(worst, all)
}

// withClones are those that have one, if any has: the others are configured for their limits alone.
func withClones(targets []*clone.Target) []*clone.Target {
	if some := slices.DeleteFunc(slices.Clone(targets), func(t *clone.Target) bool { return len(t.Conf.Clones) == 0 }); len(some) > 0 {
		return some
	}
	return targets
}

// unplugging says, once for all arrays, that the drives may be unplugged, or what still uses one of them.
func (c *cycleOptions) unplugging(results []*clone.Result) string {
	for _, r := range results {
		users, err := c.env.InUse(r.Device)
		if err != nil {
			return fmt.Sprintf("not known to be safe to unplug: %v\n", err)
		}
		if len(users) > 0 {
			return fmt.Sprintf("not safe to unplug: the drive of %s is in use: %s\n", r.Device, strings.Join(users, ", "))
		}
	}
	return "safe to unplug\n"
}
