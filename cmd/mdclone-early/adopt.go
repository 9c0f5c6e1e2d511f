package main

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"mdclone/pkg/clone"
	"mdclone/pkg/config"
	"mdclone/pkg/report"
)

const adoptHelp = `Set-up, once a drive: gives the array a write-intent bitmap, if it has none or one with other chunks than --chunk says, and one
more slot, where the last is not empty; adds the drive write-mostly, records both in /etc/mdclone/NAME.conf, and makes the first full copy. The clone stays attached; mdclone-early detach
takes it out, mdclone-gen install then guards it at boot.

A drive that carries anything is refused without --overwrite; one that is in use, always, but for
a spare of this array.`

type adoptCommand struct {
	*program  `no-flag:"1"`
	Name      string `long:"name" value-name:"NAME" description:"name of the configuration, where the array has none yet; else the array's own"`
	Chunk     string `long:"chunk" value-name:"SIZE|auto" default:"auto" description:"bytes that one bit of the bitmap covers: 64K, 1M, ..."`
	Overwrite bool   `long:"overwrite" description:"everything on the drive may be lost"`
	Args      struct {
		Array string `positional-arg-name:"ARRAY" required:"1"`
		Drive string `positional-arg-name:"DRIVE" required:"1"`
	} `positional-args:"1"`
}

// Execute runs adopt.
func (c *adoptCommand) Execute(args []string) error {
	chunk, err := parseChunk(c.Chunk)
	if c.Name != "" {
		if e := config.CheckName(c.Name); e != nil {
			err = errors.Join(err, report.Fail(report.Usage, "usage", "--name: %w", e))
		}
	}
	if c.Args.Array == "" || c.Args.Drive == "" { // a variable that is not set is not to mean any array
		err = errors.Join(err, report.Fail(report.Usage, "usage", "the names of an array and of a drive are wanted"))
	}
	if err = errors.Join(report.NoMore(args), err); err != nil {
		return err
	}
	c.begin()
	targets, err := c.env.Targets(c.Args.Array)
	if err != nil {
		return err
	}
	r, err := targets[0].Adopt(c.ctx, c.Args.Drive, clone.AdoptOptions{Name: c.Name, Chunk: chunk, Overwrite: c.Overwrite})
	text := ""
	if err == nil {
		text = fmt.Sprintf("%s: %s is a clone now (%s), attached and in sync; configured in /etc/mdclone/%s.conf\n", r.Array, r.Device,
			r.Clone, r.Array)
		c.env.Log.Infof("mdclone-gen install guards it at boot; mdclone-early detach takes it out")
	}
	return errors.Join(err, c.print(r, text))
}

// parseChunk reads a size of a bitmap chunk in bytes: a power of two from 4 KiB to 1 GiB, or auto (0).
func parseChunk(s string) (uint64, error) {
	if s == "auto" {
		return 0, nil
	}
	shift := 0
	number := s
	for i, suffix := range []string{"K", "M", "G"} {
		if n, ok := strings.CutSuffix(s, suffix); ok {
			shift, number = 10*(i+1), n
		}
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if n <<= shift; err != nil || bits.OnesCount64(n) != 1 || n < 4<<10 || n > 1<<30 {
		return 0, report.Fail(report.Usage, "usage", "--chunk: %q is no power of two from 4K to 1G, and not auto", s)
	}
	return n, nil
}
