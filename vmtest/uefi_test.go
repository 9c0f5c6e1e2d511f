//go:build vmtest && soak

package vmtest

import (
	"slices"
	"strings"
	"testing"

	"mdclone/vmtest/vm"
)

// putLoader puts systemd-boot onto the disk $ESP, as bootctl and kernel-install would. Its entry has no sort-key, as of those
// that are written by hand.
const putLoader = `
echo 'type=U' | sfdisk -q --label gpt $ESP
mkfs.vfat ${ESP}1 >&2
mkdir -p /boot/efi
mount ${ESP}1 /boot/efi
SYSTEMD_RELAX_ESP_CHECKS=1 bootctl --esp-path=/boot/efi --no-variables install >&2
mkdir -p /boot/efi/machine /boot/efi/loader/entries
cp /boot/vmlinuz-* /boot/efi/machine/vmlinuz
cp /boot/initrd.img-* /boot/efi/machine/initrd
printf 'title machine\nlinux /machine/vmlinuz\ninitrd /machine/initrd\noptions %s\n' "$OPTIONS" > /boot/efi/loader/entries/machine.conf
echo 'timeout 0' > /boot/efi/loader/loader.conf
`

// newUEFIRig is a machine that UEFI starts through systemd-boot, its clone plugged in. It starts it once from the outside, as an
// installer would, to put the loader onto its disk.
func newUEFIRig(t *testing.T, suite string) *loaderRig {
	t.Helper()
	u := &loaderRig{l: Lab(t)}
	base, err := u.l.Cloned(t.Context(), suite, vm.Layout{}, productFiles(t, u.l), vm.UEFIPackages...)
	if err != nil {
		t.Fatal(err)
	}
	conf, disks := bootCase{disks: strings.Fields(last), args: []string{vm.LightArg, "mdclone.verify=changed"}}.config(t, base)
	esp := NewDisk(t, "esp", 256)
	esp.Device = map[string]any{"bootindex": 1}
	conf.Disks = append(conf.Disks, esp)
	u.offline = &offline{&rig{Machine: BootIn(t, u.l, conf)}, disks}
	disk := "/dev/" + u.name(esp.Serial)
	u.boot = disk + "1"
	u.after = "mount -t efivarfs efivarfs /sys/firmware/efi/efivars; mount " + u.boot + " /boot/efi"
	u.Script("ESP=" + disk + " OPTIONS='" + conf.CommandLine() + "'\n" + putLoader + "umount /boot/efi; echo current > " + vm.Generation)
	u.conf = conf
	u.conf.Args, u.conf.Firmware = nil, true
	firmware, err := u.l.UEFI(t.Context(), suite, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	u.conf.QEMU = append(slices.Clone(conf.QEMU), firmware...)
	return u
}

// TestBootOnceSystemdBoot has a machine that systemd-boot starts make its clone at the next boot, and only at that.
func TestBootOnceSystemdBoot(t *testing.T) {
	onEach(t, suites[1:], func(t *testing.T, suite string) {
		u := newUEFIRig(t, suite)
		u.restart(t)
		normal := u.cmdline()
		// what it starts is a copy, which may be older than the image in /boot
		const initrd = "/boot/efi/machine/initrd"
		u.Script("mv " + initrd + " /run; head -c 1000000 /run/initrd > " + initrd)
		if got := u.Try("mdclone-gen", "boot-once", "backup"); got.Code != 1 || !strings.Contains(got.Stdout, initrd+": ") {
			t.Errorf("boot-once with a copy that is cut: exit code %d; want 1\n%s%s", got.Code, got.Stdout, got.Stderr)
		}
		u.Script("cp /run/initrd " + initrd + "; rm /run/initrd")
		added := u.choose("loader")
		u.restart(t)
		if got := u.cmdline(); got != normal+added {
			t.Errorf("the kernel's command line is %q; want %q and %q", got, normal, added)
		}
		if got := u.slots(); got != "01-" {
			t.Errorf("the array is %s; want 01-", got)
		}
		u.nothingBefore(t)
		u.outcome(t, offlineCase{})
		u.restart(t)
		if got := u.cmdline(); got != normal {
			t.Errorf("the command line of the boot after it is %q; want %q", got, normal)
		}
		u.Must("mdclone-gen", "boot-once", "backup", "--undo")
		if got := u.Script("ls /boot/efi /boot/efi/loader/entries"); strings.Contains(got, "mdclone") {
			t.Errorf("after --undo there is still %s", got)
		}
	})
}

// TestRescueMediumByUEFI starts the rescue image from a medium that such a machine has made of it.
func TestRescueMediumByUEFI(t *testing.T) {
	t.Parallel()
	u := newUEFIRig(t, suites[1])
	r := offline{rig: &rig{Machine: LaunchIn(t, u.l, u.medium(t))}}
	r.await(t, asked)
	r.enter(t, "4") // the shell
	r.enter(t, `[ -d /sys/firmware/efi ] && echo "by$((1)) UEFI"`)
	r.await(t, "by1 UEFI")
	r.enter(t, "exit")
	r.enter(t, "status")
	r.await(t, "root: /dev/md0, ")
	r.end(t)
}
