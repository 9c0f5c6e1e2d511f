package main

import (
	"context"

	"mdclone/pkg/clone"
	"mdclone/pkg/config"
)

const verifyHelp = `Compares the clone, which must be in the array (mdclone-early attach), with the array: all of it by md's own check, or with
--changed what was copied when it came in and what is marked changed since. Exit code 5 and the number of sectors if they
differ; --repair then makes them equal.`

type verifyCommand struct {
	cycleOptions
	Changed bool `long:"changed" description:"only what was copied when it came in, and what is marked changed"`
	Repair  bool `long:"repair" description:"write what the first of the array's own disks holds over what differs, on all members"`
}

// Execute runs verify.
func (c *verifyCommand) Execute(args []string) error {
	o, err := c.options(0, "")
	o.Verify, o.Repair = config.VerifyFull, c.Repair
	if c.Changed {
		o.Verify = config.VerifyChanged
	}
	return c.each(args, err, false, func(ctx context.Context, t *clone.Target) ([]*clone.Result, error) { return t.Verify(ctx, o) })
}
