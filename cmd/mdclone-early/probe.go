package main

import (
	"errors"
	"fmt"
	"os"

	"mdclone/pkg/report"
)

const probeHelp = `Tests the running kernel: a member with a small limit joins a mirror under dm, and large requests are written
and read. Kernels before Linux 4.3 lost them ("bio too big device"). The mirror is made for this (array md1000001, dm
device mdclone-probe, two loop devices of the numbers 3840 to 3855, 8 MiB of memory) and removed. No other device is touched,
but a loop device of these numbers that nobody uses is taken for what an earlier test has left, and removed too. A running
mdadm --monitor may report the mirror.

0 if the kernel passes, 1 if it fails, 3 if it cannot be tested here.`

type probeCommand struct {
	*program `no-flag:"1"`
	Dir      string `long:"dir" value-name:"DIR" description:"make the mirror of unnamed files in DIR instead of memory"`
}

// Execute runs probe.
func (c *probeCommand) Execute(args []string) error {
	if err := report.NoMore(args); err != nil {
		return err
	}
	if c.Dir != "" {
		info, err := os.Stat(c.Dir)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%q is no directory", c.Dir)
		}
		if err != nil {
			return report.Fail(report.Usage, "usage", "--dir: %w", err)
		}
	}
	c.begin()
	r, err := c.env.Probe(c.ctx, c.Dir)
	text := ""
	if err == nil {
		text = fmt.Sprintf("Linux %s passes: %s\n", r.Kernel, r.Reasons[0].Text)
	}
	return errors.Join(err, c.print(r, text))
}
