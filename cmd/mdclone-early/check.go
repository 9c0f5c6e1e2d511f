package main

import (
	"errors"
	"fmt"

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
	CopyBytes *uint64         `json:"copy_bytes"` // nil where its array does not run
	Reasons   []report.Reason `json:"reasons"`
}

// Execute runs check.
func (c *checkCommand) Execute(args []string) error {
	if err := report.NoMore(args); err != nil {
		return err
	}
	c.begin()
	array, drive := "", c.Args.Names[len(c.Args.Names)-1]
	if len(c.Args.Names) == 2 {
		array = c.Args.Names[0]
	}
	got, err := c.env.Check(array, drive)
	if err != nil {
		return err
	}
	return c.conclude(got)
}

// conclude reports a verdict, whose exit code counts whether it could be printed or not.
func (c *checkCommand) conclude(got *clone.Checked) error {
	out, text := accountOf(got)
	err := c.print(out, text)
	if v := got.Verdict; !v.Admit {
		err = errors.Join(&report.Error{Exit: report.Refused, Reasons: v.Reasons, Hints: v.Hints}, err)
	}
	return err
}

func accountOf(got *clone.Checked) (out checked, text string) {
	d, v := got.Drive, got.Verdict
	out = checked{
		Result: report.Refused.Result(), Array: got.Array, Device: d.Path, State: v.State,
		Reasons: append([]report.Reason{}, v.Reasons...),
	}
	if got.Kernel != "" {
		out.CopyBytes = &v.CopyBytes
	}
	if d.Member != nil {
		out.Clone = &d.Member.Super.Device
	}
	if text = fmt.Sprintf("%s: %s", d.Path, v.State); !v.Admit {
		return out, text + "\n"
	}
	out.Result = report.Done.Result()
	text += fmt.Sprintf(": may join %s, %s to copy\n", got.Kernel, report.Bytes(v.CopyBytes))
	for _, r := range v.Reasons {
		text += "  " + r.Text + "\n"
	}
	return out, text
}
