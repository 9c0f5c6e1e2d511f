//go:build vmtest

package vmtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mdclone/vmtest/vm"
)

// peek keeps what the initramfs has of the ledger.
const peek = `#!/bin/sh
[ "$1" = prereqs ] || [ ! -d /var/lib/mdclone ] || cp -a /var/lib/mdclone /run/peek
`

// grubRig is a full machine with GRUB, and a disk from which it starts by itself.
type grubRig struct {
	*Machine
	l    *vm.Lab
	conf vm.Config // of its starts by itself
	boot string    // the guest's name of that disk
}

// newGrubRig starts it once from the outside, as an installer would, runs the script before where $BOOT is GRUB's disk, and
// sets GRUB up.
func newGrubRig(t *testing.T, suite, before string) *grubRig {
	t.Helper()
	r := &grubRig{l: Lab(t)}
	base, err := r.l.GrubMachine(t.Context(), suite, append([]vm.File{
		{Path: "/etc/mdclone/root.conf", Data: []byte("array = " + vm.MachineArray + "\nclone = 00000000:11111111:22222222:33333333\n")},
		{Path: "/etc/initramfs-tools/scripts/init-bottom/peek", Mode: 0o755, Data: []byte(peek)},
		{Path: "/etc/default/grub.d/light.cfg", Data: []byte("GRUB_CMDLINE_LINUX_DEFAULT='" + vm.LightArg + " mdclone.clone-wait=1'\n")},
		vm.Light,
		{Path: "/var/lib/mdclone/ledger/feed.json", Data: []byte("{}\n")},
	}, productFiles(t, r.l)...)...)
	if err != nil {
		t.Fatal(err)
	}
	if r.conf, err = base.Config(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	disk, err := vm.NewBootDisk(t.TempDir(), "boot")
	if err != nil {
		t.Fatal(err)
	}
	r.conf.Disks = append(r.conf.Disks, disk)
	outside := r.conf
	outside.Args = append(slices.Clone(r.conf.Args), vm.LightArg)
	r.conf.Args, r.conf.Firmware = nil, true
	r.Machine = BootIn(t, r.l, outside)
	if r.boot, err = r.DiskName(r.Context(), disk.Serial); err != nil {
		t.Fatal(err)
	}
	r.Script("BOOT=/dev/" + r.boot + "\n" + before + `
		grub-install --target=i386-pc $BOOT >&2
		update-grub >&2
		grub-script-check /boot/grub/grub.cfg`)
	return r
}

// restart ends the machine, which runs nothing but the tests' agent, and starts it through GRUB, which does not read a file
// system's journal.
func (r *grubRig) restart(t *testing.T) {
	t.Helper()
	r.Script("sync; mount -o remount,ro /")
	if err := r.PowerOff(r.Context()); err != nil {
		t.Fatal(err)
	}
	r.Machine = BootIn(t, r.l, r.conf)
}

// choose runs boot-once backup, which must say who clears the choice, and returns what it adds to the command line.
func (r *grubRig) choose(clearedBy string) string {
	r.t.Helper()
	var said struct {
		Next struct {
			Until     int64
			ClearedBy string `json:"cleared_by"`
		} `json:"next_boot"`
	}
	out := r.Must("mdclone-gen", "boot-once", "backup", "--json")
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		r.t.Fatal(err)
	}
	if said.Next.ClearedBy != clearedBy {
		r.t.Errorf("boot-once: %s\nwant the choice cleared by the %s", out, clearedBy)
	}
	return fmt.Sprintf(" mdclone=backup mdclone.until=%d", said.Next.Until)
}

// undo takes the choice back, of which nothing must stay.
func (r *grubRig) undo() {
	r.t.Helper()
	r.Must("mdclone-gen", "boot-once", "backup", "--undo")
	if got := r.env(); strings.Contains(got, "mdclone") {
		r.t.Errorf("GRUB's environment after --undo: %q", got)
	}
}

func (r *grubRig) env() string { r.t.Helper(); return r.Must("grub-editenv", "-", "list") }

func (r *grubRig) cmdline() string { r.t.Helper(); return strings.TrimSpace(r.File("/proc/cmdline")) }

// chosenEnv is what marks the choice in GRUB's environment.
const chosenEnv = "next_entry=mdclone-backup\n"

// TestBootOnce boots a machine through GRUB, which is on LVM on RAID1 as everything else: the menu entry that is chosen for
// one boot, with the ledger in a second initrd; that GRUB does not forget the choice there; and the normal boot after it was
// taken back.
func TestBootOnce(t *testing.T) {
	anySuite(t, func(t *testing.T, suite string) {
		r := newGrubRig(t, suite, "")
		added := r.choose("system")
		r.restart(t)
		chosen := r.cmdline()
		if !strings.HasSuffix(chosen, added) {
			t.Errorf("the kernel's command line is %q; want %q at its end", chosen, added)
		}
		if got := r.File("/run/peek/ledger/feed.json"); got != "{}\n" {
			t.Errorf("the ledger in the initramfs has %q; want what was in the root file system", got)
		}
		if got := r.env(); !strings.Contains(got, chosenEnv) {
			t.Errorf("GRUB's environment after the boot: %q; want the choice still there: else GRUB can write, and this shows nothing", got)
		}
		r.undo()
		r.restart(t)
		if got, want := r.cmdline(), strings.TrimSuffix(chosen, added); got != want {
			t.Errorf("the command line of the boot after it is %q; want that of the chosen one without what was added, %q", got, want)
		}
	})
}

// TestBootOnceIsForgotten: where GRUB can write, it clears the choice itself.
func TestBootOnceIsForgotten(t *testing.T) {
	t.Parallel()
	r := newGrubRig(t, "bookworm", "mkfs.ext4 -q ${BOOT}1; mkdir -p /boot/grub; mount ${BOOT}1 /boot/grub")
	added := r.choose("loader")
	if got := r.env(); !strings.Contains(got, chosenEnv) {
		t.Errorf("GRUB's environment before the boot: %q; want %q in it", got, chosenEnv)
	}
	r.Script("umount /boot/grub")
	r.restart(t)
	if got := r.cmdline(); !strings.HasSuffix(got, added) {
		t.Errorf("the kernel's command line is %q; want %q at its end", got, added)
	}
	r.Script("mount /dev/" + r.boot + "1 /boot/grub")
	if got := r.env(); strings.Contains(got, chosenEnv) {
		t.Errorf("GRUB's environment after the boot: %q; want the choice cleared", got)
	}
	r.undo()
}
