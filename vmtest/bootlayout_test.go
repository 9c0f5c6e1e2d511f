//go:build vmtest

package vmtest

import (
	"regexp"
	"strings"
	"testing"

	"mdclone/pkg/report"
	"mdclone/vmtest/vm"
)

// A layoutCase is a machine whose disks are laid out otherwise than those of the other tests, and its boots.
type layoutCase struct {
	name    string
	layout  vm.Layout
	states  []string
	boots   []bootCase
	offline []offlineCase
}

var layouts = []layoutCase{
	{
		name: "LVM on LUKS", layout: vm.Layout{LUKS: true}, states: []string{"cut", "stale"},
		boots: []bootCase{
			{name: "power cut, clone first", state: "cut", disks: strings.Fields(first), data: "current", array: "01-", on: firstSuite},
			{
				name: "alone, stale", state: "stale", disks: []string{"clone"}, enter: true, args: []string{"mdclone.wait=600"},
				data: "old", array: "--2", wrote: true, on: never,
			},
		},
		offline: []offlineCase{
			{name: "cloned", state: "stale", disks: strings.Fields(last), shell: "mount", do: offline.atTheRelease, on: firstSuite},
		},
	},
	{
		// the kernel shows the array's partitions on each member too
		name: "partitions on the array", layout: vm.Layout{Metadata: "1.0", Partitioned: true}, states: []string{"cut", "ended", "stale"},
		boots: []bootCase{
			{name: "power cut, clone first", state: "cut", disks: strings.Fields(first), data: "current", array: "01-", on: firstSuite},
			{name: "ended in good order, clone first", state: "ended", disks: strings.Fields(first), data: "current", array: "01-", on: never},
			{name: "stale, first", state: "stale", disks: strings.Fields(first), data: "current", array: "01-", on: never},
			{
				name: "alone, stale", state: "stale", disks: []string{"clone"}, enter: true, args: []string{"mdclone.wait=600"},
				data: "old", array: "--2", wrote: true, on: firstSuite,
			},
		},
		offline: []offlineCase{
			{name: "cloned", state: "stale", disks: strings.Fields(last), shell: "mount", do: offline.atTheRelease, on: never},
		},
	},
	{
		// nothing but the array's own state keeps a boot script from mounting it
		name: "root on the array", layout: vm.Layout{Plain: true}, states: []string{"cut", "stale", "diverged"},
		boots: []bootCase{
			{name: "power cut, clone first", state: "cut", disks: strings.Fields(first), data: "current", array: "01-", on: firstSuite},
			quicker,
			{
				name: "alone, stale", state: "stale", disks: []string{"clone"}, enter: true, args: []string{"mdclone.wait=600"},
				data: "old", array: "--2", wrote: true, on: never,
			},
		},
		offline: []offlineCase{
			{name: "cloned", state: "stale", disks: strings.Fields(last), shell: "mount", do: offline.atTheRelease, on: firstSuite},
		},
	},
	{
		// root needs a passphrase, and the array its wait: its one disk says that the clone was attached, and that is away
		name: "LVM on LUKS on one primary", layout: vm.Layout{LUKS: true, Primaries: 1}, states: []string{"cut"},
		offline: []offlineCase{
			{
				name: "absent", state: "cut", disks: []string{"p1"}, args: []string{"mdclone.clone-wait=45"}, code: report.NoDrive, why: "no-drive",
				array: "0-", on: rareTools,
			},
		},
	},
	{
		name: "members on partitions", layout: vm.Layout{Partition: true}, states: []string{"cut", "stale", "diverged"},
		boots: []bootCase{
			{name: "power cut, clone first", state: "cut", disks: strings.Fields(first), data: "current", array: "01-", on: never},
			{name: "diverged, first", state: "diverged", disks: strings.Fields(first), data: "current", array: "01-", on: never},
			{
				name: "alone, stale", state: "stale", disks: []string{"clone"}, enter: true, args: []string{"mdclone.wait=600"},
				data: "old", array: "--2", wrote: true, on: never,
			},
			{
				name: "alone, diverged", state: "diverged", disks: []string{"clone"}, args: []string{"mdclone.wait=3"},
				data: "own", array: "--2", wrote: true, on: never,
			},
		},
	},
	{
		name: "one primary", layout: vm.Layout{Primaries: 1}, states: []string{"cut", "stale"},
		boots: []bootCase{
			{name: "power cut, clone first", state: "cut", disks: []string{"clone", "p1"}, data: "current", array: "0-", on: never},
			{name: "stale, first", state: "stale", disks: []string{"clone", "p1"}, data: "current", array: "0-", on: never},
			{
				name: "alone, stale", state: "stale", disks: []string{"clone"}, enter: true, args: []string{"mdclone.wait=600"},
				data: "old", array: "-1", wrote: true, on: never,
			},
		},
	},
}

// TestBootLayouts boots such machines.
func TestBootLayouts(t *testing.T) {
	t.Parallel()
	for i, system := range systems {
		if vm.HasDracut(system) && !soaking() {
			continue
		}
		t.Run(system, func(t *testing.T) {
			for _, c := range layouts {
				c.boots = runOn(i, c.boots, func(b bootCase) where { return b.on })
				c.offline = runOn(i, c.offline, func(o offlineCase) where { return o.on })
				if len(c.boots)+len(c.offline) == 0 {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					t.Parallel() // machines are built one after the other otherwise
					c.run(t, system)
				})
			}
		})
	}
}

func (c layoutCase) run(t *testing.T, system string) {
	l := Lab(t)
	all, err := l.CloneStates(t.Context(), system, c.layout, productFiles(t, l), c.states...)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range c.boots {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			b.run(t, l, all[b.state])
		})
	}
	for _, o := range c.offline {
		t.Run("offline: "+o.name, func(t *testing.T) {
			t.Parallel()
			o.run(t, l, system, all[o.state])
		})
	}
}

// passphraseWanted is what cryptsetup-initramfs, systemd and dracut's own script say.
var passphraseWanted = regexp.MustCompile("Please unlock disk|Please enter passphrase for|Enter passphrase for /dev/")

// unlock types the passphrase of a machine that asks for one.
func (r *rig) unlock(base vm.Machine) {
	r.t.Helper()
	if !base.Layout.LUKS {
		return
	}
	ctx := r.Context()
	err := r.AwaitConsoleMatch(ctx, passphraseWanted)
	if err == nil {
		err = r.Type(vm.Passphrase + "\n")
	}
	if err != nil {
		r.t.Fatal(err)
	}
	// cryptsetup asks before it turns the echo off, and forgets what was typed in between: what is shown is typed once more
	go func() {
		for shown := 1; r.AwaitConsoleMatch(ctx, regexp.MustCompile("(?s)"+strings.Repeat(vm.Passphrase+".*", shown))) == nil; shown++ {
			if r.Type(vm.Passphrase+"\n") != nil {
				return
			}
		}
	}()
}

// volumes are all devices of device-mapper; there must be one, but where root is straight on the array.
func (r *rig) volumes() []string {
	r.t.Helper()
	return strings.Fields(r.Script("cd /sys/block; case $(findmnt -no SOURCE /) in /dev/md*) ;; *) ls -d dm-* ;; esac"))
}
