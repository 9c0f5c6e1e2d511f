package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mdclone/pkg/boot"
	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// modulesFile lists the modules that the start loads, one a line; mdclone-gen writes it.
const modulesFile = config.Dir + "/modules"

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

// loadListed loads the listed modules. A driver whose hardware is not here may refuse, which is no error.
func loadListed(root string) error {
	release, err := md.Release()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "usr/lib/modules", release)); err != nil {
		return report.Fail(report.Failed, "wrong-kernel", "this rescue image has no modules for Linux %s, which runs here", release).
			Hint("start it with the kernel that it was made for, or make one for this kernel: mdclone-gen rescue --kernel %s", release)
	}
	text, err := os.ReadFile(filepath.Join(root, modulesFile))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range strings.Fields(string(text)) {
		if err := probe(name, ""); err != nil && essential(name) {
			errs = append(errs, fmt.Errorf("load module %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// essential says without which modules nothing works.
func essential(name string) bool { return name == "md_mod" || name == "raid1" }
