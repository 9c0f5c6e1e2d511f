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

// TestBootOnce boots a machine through GRUB, which is on LVM on RAID1 as everything else: the menu entry that is chosen for
// one boot, with the ledger in a second initrd; that GRUB does not forget the choice there; and the normal boot after it was
// taken back.
func TestBootOnce(t *testing.T) { eachSuite(t, bootOnce) }

func bootOnce(t *testing.T, suite string) {
	l := Lab(t)
	base, err := l.GrubMachine(t.Context(), suite, append([]vm.File{
		{Path: "/etc/mdclone/root.conf", Data: []byte("array = " + vm.MachineArray + "\nclone = 00000000:11111111:22222222:33333333\n")},
		{Path: "/etc/initramfs-tools/scripts/init-bottom/peek", Mode: 0o755, Data: []byte(peek)},
		{Path: "/etc/default/grub.d/light.cfg", Data: []byte("GRUB_CMDLINE_LINUX_DEFAULT=init=/usr/local/sbin/light\n")},
		{Path: "/usr/local/sbin/light", Mode: 0o755, Data: []byte(light)},
		{Path: "/var/lib/mdclone/ledger/feed.json", Data: []byte("{}\n")},
	}, productFiles(t, l)...)...)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := base.Config(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	boot, err := vm.NewBootDisk(t.TempDir(), "boot")
	if err != nil {
		t.Fatal(err)
	}
	conf.Disks = append(conf.Disks, boot)

	// once from the outside, as an installer would
	outside := conf
	outside.Args = append(slices.Clone(conf.Args), "init=/usr/local/sbin/light")
	m := BootIn(t, l, outside)
	name, err := m.DiskName(m.Context(), boot.Serial)
	if err != nil {
		t.Fatal(err)
	}
	m.Script("grub-install --target=i386-pc /dev/" + name + " >&2; update-grub >&2; grub-script-check /boot/grub/grub.cfg")
	var said struct {
		Next struct {
			Until     int64
			ClearedBy string `json:"cleared_by"`
		} `json:"next_boot"`
	}
	if err := json.Unmarshal([]byte(m.Must("mdclone-gen", "boot-once", "backup", "--json")), &said); err != nil {
		t.Fatal(err)
	}
	if said.Next.ClearedBy != "system" {
		t.Errorf("boot-once: %+v; want it to see that GRUB cannot write here", said)
	}
	m.down()

	conf.Args, conf.Firmware = nil, true
	m = BootIn(t, l, conf)
	chosen := strings.TrimSpace(m.File("/proc/cmdline"))
	suffix := fmt.Sprintf(" mdclone=backup mdclone.until=%d", said.Next.Until)
	if !strings.HasSuffix(chosen, suffix) {
		t.Errorf("the kernel's command line is %q; want %q at its end", chosen, suffix)
	}
	if got := m.File("/run/peek/ledger/feed.json"); got != "{}\n" {
		t.Errorf("the ledger in the initramfs has %q; want what was in the root file system", got)
	}
	if got := m.Must("grub-editenv", "-", "list"); !strings.Contains(got, "next_entry=mdclone-backup\n") {
		t.Errorf("GRUB's environment after the boot: %q; want the choice there still: else GRUB can write, and this test shows nothing", got)
	}
	m.Must("mdclone-gen", "boot-once", "backup", "--undo")
	if got := m.Must("grub-editenv", "-", "list"); strings.Contains(got, "mdclone") {
		t.Errorf("GRUB's environment after --undo: %q", got)
	}
	m.down()

	m = BootIn(t, l, conf)
	if got := strings.TrimSpace(m.File("/proc/cmdline")); got != strings.TrimSuffix(chosen, suffix) {
		t.Errorf("the command line of the boot after it is %q; want that of the chosen one without what was added, %q", got, chosen)
	}
}

// down ends a machine that runs nothing but the tests' agent. GRUB does not read a file system's journal.
func (m *Machine) down() {
	m.t.Helper()
	m.Script("sync; mount -o remount,ro /")
	if err := m.PowerOff(m.Context()); err != nil {
		m.t.Fatal(err)
	}
}
