//go:build vmtest

package vmtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mdclone/pkg/boot"
	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// peek keeps what the initramfs was given of the ledger, and GRUB's environment as GRUB has left it.
const peek = `#!/bin/sh
[ "$1" = prereqs ] && exit
[ ! -d /var/lib/mdclone ] || cp -a /var/lib/mdclone /run/peek
[ ! -e $rootmnt/boot/grub/grubenv ] || cp $rootmnt/boot/grub/grubenv /run/grubenv
`

// peekFiles have an image of a system's generator run it when the root file system is there.
func peekFiles(system string) []vm.File {
	if !vm.HasDracut(system) {
		return []vm.File{{Path: "/etc/initramfs-tools/scripts/init-bottom/peek", Mode: 0o755, Data: []byte(peek)}}
	}
	const module = "/usr/lib/dracut/modules.d/99peek/"
	const setup = "check() { return 0; }\ninstall() { inst_hook pre-pivot 99 \"$moddir/peek.sh\"; }\n"
	script := strings.ReplaceAll(strings.ReplaceAll(peek, "[ \"$1\" = prereqs ] && exit\n", ""), "$rootmnt", "$NEWROOT")
	return []vm.File{{Path: module + "module-setup.sh", Mode: 0o755, Data: []byte(setup)}, {Path: module + "peek.sh", Mode: 0o755, Data: []byte(script)}}
}

// wholeIfChosen has the boot that makes the clone be a whole one, with systemd and all its units. The file is written in place:
// it runs, and could not be gone before the file system is read-only.
const wholeIfChosen = `sed '1a! grep -q mdclone=backup /proc/cmdline || exec /sbin/init' /usr/local/sbin/light > /run/light
cat /run/light > /usr/local/sbin/light`

// A loaderRig is a full machine with a clone that starts by itself, by a boot loader on a disk of its own.
type loaderRig struct {
	*offline
	l     *vm.Lab
	conf  vm.Config // of its starts by itself
	boot  string    // the guest's name of that disk's partition
	after string    // a script that is run after each start
}

// newGrubRig starts it once from the outside, as an installer would, runs the script before where $BOOT is GRUB's disk, and
// sets GRUB up. Its clone is not plugged in.
func newGrubRig(t *testing.T, system, before string) *loaderRig {
	t.Helper()
	r := &loaderRig{l: Lab(t)}
	base, err := r.l.GrubMachine(t.Context(), system, slices.Concat(peekFiles(system), []vm.File{
		{Path: "/etc/default/grub.d/light.cfg", Data: []byte("GRUB_CMDLINE_LINUX_DEFAULT='" + vm.LightArg +
			" mdclone.clone-wait=1 mdclone.verify=changed'\n")},
		{Path: "/var/lib/mdclone/ledger/feed.json", Data: []byte("{}\n")},
	}, productFiles(t, r.l))...)
	if err != nil {
		t.Fatal(err)
	}
	conf, disks := bootCase{disks: strings.Fields(both), args: []string{vm.LightArg}}.config(t, base)
	disk, err := vm.NewBootDisk(t.TempDir(), "boot")
	if err != nil {
		t.Fatal(err)
	}
	conf.Disks = append(conf.Disks, disk)
	r.offline = &offline{&rig{Machine: BootIn(t, r.l, conf)}, disks}
	boot := "/dev/" + r.name(disk.Serial)
	r.boot = boot + "1"
	r.Script("BOOT=" + boot + "\n" + before + `
		grub-install --target=i386-pc $BOOT >&2
		update-grub >&2
		grub-script-check /boot/grub/grub.cfg`)
	r.conf = conf
	r.conf.Args, r.conf.Firmware = nil, true
	return r
}

// stop ends the machine so that a boot loader, which does not read a file system's journal, finds all that was written.
func (r *loaderRig) stop(t *testing.T) {
	t.Helper()
	r.Script("sync; [ -d /run/systemd/system ] || mount -o remount,ro /") // systemd does that itself
	if err := r.PowerOff(r.Context()); err != nil {
		t.Fatal(err)
	}
}

// restart ends the machine and lets it start by itself.
func (r *loaderRig) restart(t *testing.T) {
	t.Helper()
	r.stop(t)
	r.Machine = BootIn(t, r.l, r.conf)
	r.Script(r.after)
}

// choose runs boot-once backup, which must say who clears the choice, and returns what it adds to the command line.
func (r *loaderRig) choose(clearedBy string) string {
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

// choose makes a machine's boots those of a choice that is made now, with what boot-once would bring along of it. The disks are
// raw, and p1 and the clone among them.
func choose(t *testing.T, conf *vm.Config, disks map[string]vm.Disk) {
	t.Helper()
	var found []md.Found
	for _, serial := range []string{"p1", "p2", vm.CloneSerial} {
		found = append(found, md.Found{Name: serial, Member: readMember(t, disks[serial].Path)})
	}
	left := found[2].Member.Super
	arrays := []config.Array{{Name: "root", UUID: left.Array, Clones: []md.UUID{left.Device}}}
	until := time.Now().Add(time.Hour).Unix()
	text, err := json.Marshal(boot.NewChoice(arrays, found, until))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("chosen: %s", text)
	conf.Files = append(conf.Files, vm.File{Path: "/" + config.ChoiceFile, Data: text})
	conf.Args = append(conf.Args, "mdclone=backup", "mdclone.verify=changed", fmt.Sprintf("mdclone.until=%d", until))
}

// typed answers what boot-once backup asks at a terminal.
const typed = `printf '%s\n' | script --quiet --return --command "mdclone-gen boot-once backup" /dev/null`

// asks has a person make the choice at a terminal, who is told what will happen, reboots at the second try alone, and then has
// another boot with an addition to the kernel's command line. It ends in that.
func (r *loaderRig) asks(t *testing.T, before string) {
	t.Helper()
	said := r.Script(fmt.Sprintf(typed, "n"))
	for _, want := range []string{"makes the clone before anything runs", "plug the clone drive in", "--undo takes it back", "reboot now? [y/N]"} {
		if !strings.Contains(said, want) {
			t.Errorf("boot-once says %q; want %q in it", said, want)
		}
	}
	if got := r.env(); !strings.Contains(got, chosenEnv) {
		t.Errorf("GRUB's environment after a no: %q; want the choice in it", got)
	}
	r.undo()
	_, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"sh", "-c", fmt.Sprintf(typed, "y")}}) // its end is the machine's
	if err == nil {
		err = r.Wait(r.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	r.Machine = BootIn(t, r.l, r.conf)
	r.settled()
	if got := r.cmdline(); !strings.Contains(got, " mdclone=backup ") || strings.HasSuffix(got, before) {
		t.Errorf("the kernel's command line after a yes is %q; want a choice in it that is not the one before, %q", got, before)
	}
	// offline says that nothing was on the array; when that was, a clock that the running system has set since does not tell
	if o := r.outcome(t, offlineCase{whole: true}); o.Account == nil || !o.Account.Offline {
		t.Errorf("the outcome is %+v; want a clone that was made before anything was started", o)
	}
}

// undo takes the choice back, of which nothing must stay.
func (r *loaderRig) undo() {
	r.t.Helper()
	r.Must("mdclone-gen", "boot-once", "backup", "--undo")
	if got := r.env(); strings.Contains(got, "mdclone") {
		r.t.Errorf("GRUB's environment after --undo: %q", got)
	}
}

func (r *loaderRig) env() string { r.t.Helper(); return r.Must("grub-editenv", "-", "list") }

// cmdline is the kernel's, without the initrds, which systemd-boot puts before it.
func (r *loaderRig) cmdline() string {
	r.t.Helper()
	initrd := func(word string) bool { return strings.HasPrefix(word, "initrd=") }
	return strings.Join(slices.DeleteFunc(strings.Fields(r.File("/proc/cmdline")), initrd), " ")
}

// chosenEnv is what marks the choice in GRUB's environment.
const chosenEnv = "next_entry=mdclone-backup\n"

// TestBootOnce boots a machine through GRUB, which is on LVM on RAID1 as everything else: the menu entry that is chosen for
// one boot, with the ledger in a second initrd, makes the clone; GRUB does not forget the choice there. Where the power is cut
// before the machine's own unit has cleared it, the next boot is the chosen one again, and makes no second clone; the unit
// clears the choice; and the boot after that is a normal one.
func TestBootOnce(t *testing.T) {
	eachSystem(t, suites[1:], func(t *testing.T, system string) {
		r := newGrubRig(t, system, "")
		added := r.choose("system")
		r.conf.Disks = append(r.conf.Disks, r.disks[vm.CloneSerial])
		r.restart(t)
		chosen := r.cmdline()
		if !strings.HasSuffix(chosen, added) {
			t.Errorf("the kernel's command line is %q; want %q at its end", chosen, added)
		}
		if got := r.File("/run/peek/ledger/feed.json"); got != "{}\n" {
			t.Errorf("the ledger in the initramfs has %q; want what was in the root file system", got)
		}
		r.nothingBefore(t)
		r.outcome(t, offlineCase{})
		r.Script(wholeIfChosen + "; sync")
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		r.Machine = BootIn(t, r.l, r.conf)
		r.settled()
		if got := r.cmdline(); got != chosen {
			t.Errorf("the kernel's command line after a power cut is %q; want that of the chosen boot again, %q", got, chosen)
		}
		if got := r.File("/run/grubenv"); !strings.Contains(got, chosenEnv) {
			t.Errorf("GRUB's environment in the boot: %q; want the choice still there: else GRUB can write, and this shows nothing", got)
		}
		if got := r.env(); strings.Contains(got, "mdclone") {
			t.Errorf("GRUB's environment after the boot: %q; want nothing of the choice, which the unit clears", got)
		}
		r.nothingBefore(t)
		if o := r.outcome(t, offlineCase{whole: true, why: "spent"}); o.Account != nil {
			t.Errorf("the account of the boot after the power cut is %+v; want none, as no clone is made", o.Account)
		}
		r.asks(t, added)
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
	r.Script("mount " + r.boot + " /boot/grub")
	if got := r.env(); strings.Contains(got, chosenEnv) {
		t.Errorf("GRUB's environment after the boot: %q; want the choice cleared", got)
	}
	r.undo()
}
