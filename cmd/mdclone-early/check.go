package main

import (
	"fmt"
	"strings"

	"mdclone/pkg/clone"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

const checkHelp = `Judges a drive without changing anything: is it a clone of this array, what does it miss, and can the array and what is on
it take its limits? 0 if it may join, 3 if not. Without ARRAY it is the one that the drive names.`

type checkCommand struct {
	*program `no-flag:"1"`
	Args     struct {
		Names []string `positional-arg-name:"[ARRAY] DRIVE" required:"1-2"`
	} `positional-args:"1"`
}

// checked is the JSON of check.
type checked struct {
	Result    string          `json:"result"`
	Array     string          `json:"array"`
	Device    string          `json:"device"`
	Clone     *md.UUID        `json:"clone"`
	State     clone.State     `json:"state"`
	CopyBytes uint64          `json:"copy_bytes"`
	Reasons   []report.Reason `json:"reasons"`
}

// Execute runs check.
func (c *checkCommand) Execute(args []string) error {
	if err := report.NoMore(args); err != nil {
		return err
	}
	c.begin()
	array, drive := c.Args.Names[0], c.Args.Names[len(c.Args.Names)-1]
	if len(c.Args.Names) == 1 {
		var err error
		if array, err = c.env.ArrayOf(drive); err != nil {
			return err
		}
	}
	targets, err := c.env.Targets(array)
	if err != nil {
		return err
	}
	d, v, err := targets[0].Check(drive)
	if err != nil {
		return err
	}
	return c.report(targets[0], d, v)
}

func (c *checkCommand) report(t *clone.Target, d clone.Drive, v clone.Verdict) error {
	out := checked{
		Result: report.Done.Result(), Array: t.Conf.Name, Device: d.Path, State: v.State, CopyBytes: v.CopyBytes,
		Reasons: append([]report.Reason{}, v.Reasons...),
	}
	if d.Member != nil {
		out.Clone = &d.Member.Super.Device
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s", d.Path, v.State)
	if v.Admit {
		fmt.Fprintf(&text, ": may join %s, %s to copy", t.Array.Name, report.Bytes(v.CopyBytes))
	}
	text.WriteByte('\n')
	if v.Admit {
		for _, r := range v.Reasons {
			fmt.Fprintf(&text, "  %s\n", r.Text)
		}
		return c.print(out, text.String())
	}
	out.Result = report.Refused.Result()
	if err := c.print(out, text.String()); err != nil {
		return err
	}
	return &report.Error{Exit: report.Refused, Reasons: v.Reasons, Hints: v.Hints}
}
