package main

import (
	"context"
	"errors"

	"mdclone/pkg/boot"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// prepare is the start: modules, arrays, limits. What fails is said, and the menu comes whatever happens.
func prepare(_ streams, _ []string) error {
	log := onConsoles()
	log.Fail(loadListed("/"))
	b := boot.New(log)
	b.Self = program
	_, err := b.Apart(context.Background(), gatherName)
	log.Fail(err)
	return nil
}

func onConsoles() report.Log { return report.Log{W: boot.Consoles("/"), Kmsg: report.OpenKmsg()} }

// gatherAtStart is what of that looks at disks.
func gatherAtStart(streams, []string) error {
	log := onConsoles()
	_, err := gather(log, true)
	log.Fail(err)
	return nil
}

// assemble is prepare by hand, when disks were plugged in since.
func assemble(s streams, args []string) error {
	if len(args) > 0 {
		return usage("assemble")
	}
	_, err := gather(report.Log{W: s.err}, false)
	return err
}

// gather assembles what can be, and holds the limits of what was. It returns the arrays that lack a disk.
func gather(log report.Log, patient bool) (lacking []string, err error) {
	ctx := context.Background()
	b := boot.New(log)
	lacking, err = boot.Gather(ctx, b, patient)
	arrays, e := md.Arrays(b.FS)
	if e != nil || len(arrays) == 0 {
		return lacking, errors.Join(err, e)
	}
	if out, err := b.Run(ctx, "mdclone-early", "pin"); err != nil {
		log.Warnf("mdclone-early pin: %v: %s", err, out)
	}
	return lacking, err
}
