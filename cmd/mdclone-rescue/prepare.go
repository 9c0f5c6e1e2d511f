package main

import (
	"context"
	"errors"

	"mdclone/pkg/boot"
	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// prepare is the start: modules, arrays, limits. What fails is said, and the menu comes whatever happens.
func prepare(_ streams, _ []string) error {
	log := onConsoles()
	b := boot.New(log)
	b.Self = "/" + config.RescueProgram
	for _, part := range []string{loadName, gatherName} {
		_, err := b.Apart(context.Background(), part)
		log.Fail(err)
	}
	return nil
}

// loadAtStart is what of that loads modules: a driver may wait for a disk that does not answer, in the kernel.
func loadAtStart(streams, []string) error {
	onConsoles().Fail(loadListed("/"))
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
	for _, a := range arrays { // as at boot: a limit that was typed stays
		if out, err := b.Run(ctx, "mdclone-early", "pin", "--export", a.Path()); err != nil || out != "" && out != "MDCLONE_PIN=ok" {
			log.Warnf("mdclone-early pin %s: %v: %s", a.Path(), err, out)
		}
	}
	return lacking, err
}
