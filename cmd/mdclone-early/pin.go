package main

import (
	"errors"
	"fmt"
	"strings"

	"mdclone/pkg/clone"
	"mdclone/pkg/config"
	"mdclone/pkg/limits"
	"mdclone/pkg/report"
)

const pinHelp = `Sets the array's max_sectors_kb to what its members and the clone can take, before anything is stacked on it, and reads it
back. Says "late" and which, where a holder was made with a larger limit. N is held until the machine is turned off, or until
this is run without it.`

type pinCommand struct {
	*program `no-flag:"1"`
	KB       string `long:"max-sectors-kb" value-name:"N" description:"KiB; else as configured, else the smallest of all members and the clone"`
	Export   bool   `long:"export" description:"print MDCLONE_PIN=ok|late|fail for udev; silence for a device that is none of ours"`
	Args     struct {
		Array string `positional-arg-name:"ARRAY"`
	} `positional-args:"1"`
}

// pinned is the JSON of one array's pin.
type pinned struct {
	Array  string            `json:"array"`
	Pin    clone.PinOutcome  `json:"pin"`
	Wanted uint64            `json:"wanted_kb"` // what was asked for, or is configured; more than the members take is not kept
	Before uint64            `json:"before_kb"`
	Now    uint64            `json:"max_sectors_kb"`
	Late   map[string]uint64 `json:"late"`
	// Findings are status's: what holds a limit down, and which holder does not know of it.
	Findings []report.Reason `json:"findings"`
}

// Execute runs pin.
func (c *pinCommand) Execute(args []string) error {
	kb, err := config.ParseKB(c.KB)
	if err != nil {
		err = report.Fail(report.Usage, "usage", "--max-sectors-kb: %w", err)
	}
	if err = errors.Join(report.NoMore(args), err); err != nil {
		return err
	}
	if c.Export { // for udev, which may be before /var is mounted
		c.restore()
		return c.export(kb)
	}
	c.begin()
	targets, err := c.env.Targets(c.Args.Array)
	if err != nil {
		return err
	}
	all := []pinned{}
	worst := report.Done
	var text strings.Builder
	var errs []error
	for _, t := range targets {
		var r limits.PinResult
		var outcome clone.PinOutcome
		var found []report.Reason
		err := t.HoldAt(kb)
		if err == nil {
			r, outcome, err = t.Pin(kb)
		}
		if err == nil {
			found, err = t.Findings(r)
		}
		if err != nil {
			errs, worst = append(errs, err), report.Worse(worst, report.CodeOf(err))
			continue
		}
		all = append(all, pinnedOf(t, r, outcome, found))
		fmt.Fprintf(&text, "%s: max_sectors_kb %d, was %d: %s\n", t.Conf.Name, r.After, r.Before, outcome)
		for _, f := range found {
			fmt.Fprintf(&text, "  %s\n", f.Text)
		}
	}
	return c.conclude(worst, all, errs, text.String())
}

// conclude reports what was pinned; what went wrong with that counts whether it could be printed or not.
func (c *pinCommand) conclude(worst report.Code, all []pinned, errs []error, text string) error {
	err := errors.Join(errs...)
	reasons := report.ReasonsOf(err)
	if err != nil {
		err = report.WithCode(worst, err)
	}
	return errors.Join(err, c.print(struct {
		Result  string          `json:"result"`
		Arrays  []pinned        `json:"arrays"`
		Reasons []report.Reason `json:"reasons"`
	}{worst.Result(), all, reasons}, text))
}

func pinnedOf(t *clone.Target, r limits.PinResult, outcome clone.PinOutcome, found []report.Reason) pinned {
	p := pinned{Findings: found, Array: t.Conf.Name, Pin: outcome, Wanted: r.Wanted, Before: r.Before, Now: r.After, Late: map[string]uint64{}}
	for _, h := range r.Late {
		p.Late[h.Name] = h.Queue.MaxSectorsKB
	}
	return p
}

// export is for a udev rule: it must never be in the way of a boot, so whatever is wrong goes to the log and into the
// property, and the exit code is 0. The device is an array, or one that is stacked on arrays: a table that is loaded
// anew takes their limits as they are then.
func (c *pinCommand) export(kb uint64) error {
	targets, err := c.env.Under(c.Args.Array)
	c.env.Log.Fail(err)
	if len(targets) == 0 { // none of ours: silence
		return nil
	}
	worst := clone.PinOK
	for _, t := range targets {
		r, outcome, err := t.Pin(kb)
		switch {
		case errors.Is(err, limits.ErrNotActive):
			return nil
		case err != nil:
			c.env.Log.Fail(err)
			outcome = "fail"
		case outcome == clone.PinLate:
			c.env.Log.Warnf("%s is pinned at %d KiB, but %s was made before with %d", t.Array.Name, r.After, r.Late[0].Name,
				r.Late[0].Queue.MaxSectorsKB)
		}
		if worst == clone.PinOK || outcome == "fail" {
			worst = outcome
		}
	}
	_, err = fmt.Fprintf(c.stdout, "MDCLONE_PIN=%s\n", worst)
	return err
}
