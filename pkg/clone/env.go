// Package clone is what only this product knows: what a returning drive is to its array, how it joins and how it
// leaves, and what is remembered in between. Decisions are pure functions over decoded facts; the rest is the thin edge
// that carries them out.
package clone

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

// Env is the machine that a command works on.
type Env struct {
	FS       sysfs.FS
	Root     string // "/", where etc, run and var/lib are
	Log      report.Log
	Progress *report.Progress
	Now      func() time.Time
	// Run runs a set-up program (mdadm) and returns what it printed on both streams. Only ctx ends it: a Ctrl-C on our
	// terminal does not reach it.
	Run func(ctx context.Context, name string, args ...string) (string, error)

	disks *md.Scanner // nil before the first look
}

// scanner looks at the disks.
func (e *Env) scanner() *md.Scanner {
	if e.disks == nil {
		e.disks = &md.Scanner{FS: e.FS, Patience: md.Patience, Silent: func(disk string) { e.Log.Warnf("%s", md.NotLookedAt(disk)) }}
	}
	return e.disks
}

// NewEnv is the running machine.
func NewEnv(log report.Log, progress *report.Progress) *Env {
	return &Env{
		FS: sysfs.New(), Root: "/", Log: log, Progress: progress, Now: time.Now,
		Run: func(ctx context.Context, name string, args ...string) (string, error) {
			cmd := exec.CommandContext(ctx, name, args...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			out, err := cmd.CombinedOutput()
			return string(out), err
		},
	}
}

// RunDir is for what must not survive a reboot; it is handed from the initramfs to the real root.
func (e *Env) RunDir() string { return filepath.Join(e.Root, config.RunDir) }

// VarDir is for what must survive one. An initramfs keeps it in RunDir, from where TakeOver gets it.
func (e *Env) VarDir() string {
	if e.EarlyBoot() {
		return e.handedOver()
	}
	return e.lasting()
}

func (e *Env) handedOver() string { return filepath.Join(e.Root, config.HandoverDir) }

// lasting is what was there at the last boot, if a boot loader puts it into an initramfs.
func (e *Env) lasting() string { return filepath.Join(e.Root, config.VarDir) }

// EarlyBoot tells whether the root directory is our initramfs: the hook leaves a mark in it.
func (e *Env) EarlyBoot() bool { return exists(filepath.Join(e.Root, config.EarlyMark)) }

// peer is an in-sync primary: its kernel name and what is on it.
type peer struct {
	name   string
	member *md.Member
}
