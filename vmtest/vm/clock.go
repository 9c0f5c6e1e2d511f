package vm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// What the kernel says when it starts the initramfs, and when a machine's root file system is mounted; a remount has other
// words.
const (
	initStarted = "Run /init as init process"
	rootMounted = "EXT4-fs (dm-0): mounted filesystem"
)

// InitramfsTook is how long the machine's initramfs took until the root file system was mounted, in seconds by the kernel's
// own clock. What comes before is the same with all disks and parameters, and an emulated machine's clock may jump there.
func (v *VM) InitramfsTook(ctx context.Context) (float64, error) {
	from, err := v.KernelSaid(ctx, initStarted)
	to, e := v.KernelSaid(ctx, rootMounted)
	return to - from, errors.Join(err, e)
}

// KernelSaid is when the kernel's log had text first, in seconds since the kernel's start.
func (v *VM) KernelSaid(ctx context.Context, text string) (float64, error) {
	r, err := v.Run(ctx, "dmesg")
	if err != nil {
		return 0, err
	}
	if err := r.Err(); err != nil {
		return 0, err
	}
	return logged(r.Stdout, text)
}

// logged finds the time of a line of dmesg's: "[    1.234567] text".
func logged(log, text string) (float64, error) {
	for line := range strings.Lines(log) {
		at, rest, ok := strings.Cut(strings.TrimPrefix(line, "["), "] ")
		if ok && strings.Contains(rest, text) {
			return strconv.ParseFloat(strings.TrimSpace(at), 64)
		}
	}
	return 0, fmt.Errorf("the kernel's log has no %q", text)
}
