package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"mdclone/pkg/boot"
	"mdclone/pkg/clone"
	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// powerTool is reboot or poweroff: it stops the arrays first, and does not go on while one is in use, but with -f.
func powerTool(name string) func(s streams, args []string) error {
	command := map[string]int{"reboot": unix.LINUX_REBOOT_CMD_RESTART, "poweroff": unix.LINUX_REBOOT_CMD_POWER_OFF}[name]
	return func(s streams, args []string) error {
		force := len(args) == 1 && args[0] == "-f"
		if len(args) > 0 && !force {
			return usage(name + " [-f]")
		}
		fmt.Fprintln(s.out, "stopping the arrays ...")
		err := boot.Answered("sync", func() error { unix.Sync(); return nil })
		if err = errors.Join(err, stopArrays(s)); err != nil {
			if !force {
				return fmt.Errorf("%w (what uses it is to be ended first; %s -f does not care)", err, name)
			}
			fmt.Fprintf(s.err, "%s: %v\n", name, err)
		}
		return unix.Reboot(command)
	}
}

// stopArrays stops all arrays, so that no member is left dirty. One that somebody works on, or uses, is left as it is.
func stopArrays(s streams) error {
	env := clone.NewEnv(report.Log{W: s.err}, nil)
	confs, err := config.Load(env.Root)
	errs := []error{err}
	for _, c := range confs {
		unlock, err := env.Lock(c.UUID)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer unlock()
	}
	arrays, err := md.Arrays(env.FS)
	if err = errors.Join(append(errs, err)...); err != nil {
		return err
	}
	for _, a := range arrays {
		err := stopArray(a)
		if err == nil {
			fmt.Fprintf(s.out, "%s is stopped\n", a.Path())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func stopArray(a md.Array) error {
	state, err := a.State()
	if err != nil {
		return err
	}
	if state.SyncAction != "" && state.SyncAction != "idle" {
		return fmt.Errorf("%s is being synced or compared (%s)", a.Path(), state.SyncAction)
	}
	return boot.StopArray(context.Background(), a)
}
