package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"mdclone/pkg/clone"
	"mdclone/pkg/report"
	"mdclone/vmtest/vm"
)

// start is one way in which a machine with a clone boots.
type start struct {
	name  string
	clone bool     // it is plugged in, and found first
	args  []string // kernel parameters
	made  bool     // the clone is brought up to date before anything is started
}

// starts are all of them, in the order of the table and of a round. The others are compared with the first. What vouches
// for the clone is not there, so that all of it would be compared; boot-once brings that along.
var starts = []start{
	{name: "clone away"},
	{name: "clone plugged in", clone: true},
	{name: "clone first", clone: true, made: true, args: []string{"mdclone=backup", "mdclone.verify=changed"}},
}

// bootState is the state of the disks before each boot: the clone has left in good order, then something was changed.
const bootState = "stale"

// measureBoots boots a full machine in all ways, alternating.
func measureBoots(ctx context.Context, lab *vm.Lab, suite string, product []vm.File, rounds int, log func(string, ...any)) ([][]sample, error) {
	if rounds == 0 {
		return nil, nil
	}
	log("making a machine of %s with a clone", suite)
	states, err := lab.CloneStates(ctx, suite, vm.Layout{}, product)
	if err != nil {
		return nil, err
	}
	var all [][]sample
	for range rounds {
		var round []sample
		for _, way := range starts {
			s, err := way.measure(ctx, lab, states[bootState])
			if err != nil {
				return nil, fmt.Errorf("boot, %s: %w", way.name, err)
			}
			log("boot, %s: root is mounted after %.2f s", way.name, s.seconds)
			round = append(round, s)
		}
		all = append(all, round)
	}
	return all, nil
}

// measure boots the machine once, from new layers over its disks.
func (w start) measure(ctx context.Context, lab *vm.Lab, base vm.Machine) (_ sample, err error) {
	dir, err := os.MkdirTemp("", "mdclone-bench")
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c, err := base.Config(ctx, dir)
	if err != nil {
		return sample{}, err
	}
	is := func(d vm.Disk) bool { return d.Serial == vm.CloneSerial }
	at := slices.IndexFunc(c.Disks, is)
	drive := c.Disks[at]
	c.Disks = slices.DeleteFunc(c.Disks, is)
	if w.clone {
		c.Disks = slices.Insert(c.Disks, 0, drive)
	}
	c.Args = append(append(c.Args, vm.LightArg), w.args...)
	v, err := lab.Start(ctx, c)
	if err != nil {
		return sample{}, err
	}
	s, err := w.read(ctx, v)
	if err != nil {
		err = fmt.Errorf("%w\nconsole:\n%s", err, v.Console())
	}
	return s, errors.Join(err, v.Kill())
}

// read asks the machine that is up what its boot took.
func (w start) read(ctx context.Context, v *vm.VM) (s sample, err error) {
	if s.seconds, err = v.InitramfsTook(ctx); err != nil || !w.made {
		return s, err
	}
	text, err := v.ReadFile(ctx, "/run/mdclone/boot.json")
	if err != nil {
		return s, err
	}
	var outcome struct {
		Code    report.Code
		Account clone.Result
	}
	if err := json.Unmarshal(text, &outcome); err != nil {
		return s, fmt.Errorf("read what came of the boot: %w: %s", err, text)
	}
	if outcome.Code != report.Done || outcome.Account.CopiedBytes == 0 || outcome.Account.VerifiedBytes == 0 {
		return s, fmt.Errorf("no clone was made and compared: %s", text)
	}
	s.parts, s.written = outcome.Account.Seconds, float64(outcome.Account.CopiedBytes)
	return s, nil
}
