package vm

import (
	"context"
	"fmt"

	"mdclone/pkg/md"
)

// PinKB is a limit to pin a machine's array to: less than what its disks take by themselves, so that it can only come from
// the pin.
const PinKB = "128"

// Generation is the file in a cloned machine's root file system that tells whose data was booted.
const Generation = "/etc/generation"

// Light is a /sbin/init that only starts the agent: what comes before it is the machine's own, and what comes after it
// takes most of a boot's time.
var Light = File{Path: "/usr/local/sbin/light", Mode: 0o755, Data: []byte(`#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -o remount,rw /
modprobe virtio_console
/usr/local/sbin/agent
`)}

// LightArg is the kernel parameter that starts it.
const LightArg = "init=/usr/local/sbin/light"

// Cloned is the full machine with a clone that is in sync, laid out as y says, configured and installed; product is what
// Product returns, more are packages that it has besides.
func (l *Lab) Cloned(ctx context.Context, system string, y Layout, product []File, more ...string) (Machine, error) {
	return l.CloneMachine(ctx, system, y, func(clone md.UUID) []File {
		conf := fmt.Sprintf("array = %s\nclone = %s\nmax-sectors-kb = %s\n", MachineArray, clone, PinKB)
		return append([]File{
			{Path: "/etc/mdclone/root.conf", Data: []byte(conf)},
			{Path: Generation, Data: []byte("old\n")},
			Light,
		}, product...)
	}, more...)
}
