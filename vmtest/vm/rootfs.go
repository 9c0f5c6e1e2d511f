package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mdclone/pkg/sysroot"
)

// machinePackages are a machine's, besides those that each Debian system has, and its generator of boot images.
var machinePackages = []string{
	"busybox", "e2fsprogs", "kmod", "linux-image-cloud-amd64", "lvm2", "mdadm", "systemd-sysv", "udev", "zstd",
}

// What follows a suite's name where a machine's boot images are made with dracut: "trixie+dracut".
const (
	Dracut      = "+dracut"          // as Debian has it: systemd runs the initramfs
	DracutPlain = Dracut + "+script" // without systemd: a shell script does
)

// SuiteOf is the Debian suite of a machine.
func SuiteOf(system string) string {
	suite, _, _ := strings.Cut(system, "+")
	return suite
}

// HasDracut tells whether dracut makes a machine's boot images.
func HasDracut(system string) bool { return strings.Contains(system, Dracut) }

// generator is a machine's generator of boot images.
type generator struct {
	packages []string
	program  string // that packages' scripts call, and which is to run once, at the end
	make     string // a shell script that makes all boot images
	settings []File
}

func generatorOf(system string) generator {
	if HasDracut(system) {
		return dracut
	}
	return initramfsTools
}

// variant are the system whose root directory a machine has, and what is laid over it before mdclone-gen makes its boot image.
func variant(system string) (base string, files []File) {
	base, plain := strings.CutSuffix(system, strings.TrimPrefix(DracutPlain, Dracut))
	if !plain {
		return base, nil
	}
	return base, []File{{Path: "/etc/dracut.conf.d/script.conf", Data: []byte(dracutPlainConf)}}
}

var initramfsTools = generator{
	packages: []string{"initramfs-tools"},
	program:  "/usr/sbin/update-initramfs",
	make:     "update-initramfs -c -k all",
	settings: []File{
		{Path: "/etc/initramfs-tools/hooks/machine", Mode: 0o755, Data: []byte(hook)},
		{Path: "/etc/initramfs-tools/conf.d/machine.conf", Data: []byte("MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\n")},
	},
}

var dracut = generator{
	packages: []string{"dracut"},
	program:  "/usr/bin/dracut",
	make:     "for k in /boot/vmlinuz-*; do dracut -q --force /boot/initrd.img-${k#*-} ${k#*-}; done",
	settings: []File{
		{Path: "/etc/dracut.conf.d/machine.conf", Data: []byte(dracutConf)},
		{Path: dracutModule + "module-setup.sh", Mode: 0o755, Data: []byte(dracutSetup)},
		{Path: dracutModule + "shell.sh", Mode: 0o755, Data: []byte(dracutShell)},
	},
}

// masked are units that only cost time in a machine that lives for minutes, without network and users. What starts
// arrays and volumes is as Debian has it. lvm2-monitor has nothing to monitor here, and on Debian 13 it fails now and then:
// run-lock.mount may hide the folder of LVM's locks that it has just made.
var masked = []string{
	"dev-hugepages.mount", "dev-mqueue.mount", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
	"fstrim.timer", "getty.target", "lvm2-monitor.service", "mdcheck_continue.timer", "mdcheck_start.timer", "mdmonitor.service",
	"mdmonitor-oneshot.timer", "modprobe@.service", "proc-sys-fs-binfmt_misc.automount", "serial-getty@ttyS0.service",
	"sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
	"systemd-binfmt.service", "systemd-logind.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service",
	"systemd-pstore.service", "systemd-tmpfiles-clean.timer", "systemd-update-utmp.service",
	"systemd-update-utmp-runlevel.service",
}

// blacklisted are modules that udev would load for hardware that nothing here uses.
var blacklisted = []string{
	"aesni_intel", "ata_generic", "ata_piix", "button", "crc32_pclmul", "crct10dif_pclmul", "ghash_clmulni_intel", "i2c_piix4",
	"kvm", "kvm_amd", "polyval_clmulni", "powernow_k8", "psmouse", "sha1_ssse3", "sha256_ssse3", "sha512_ssse3",
}

// hook puts into the initramfs what this machine's disks need: it is not built where it runs, so initramfs-tools cannot
// find out by itself.
const hook = `#!/bin/sh
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_blk virtio_scsi sd_mod ext4
`

// dracutConf is the same for dracut, which would take all drivers, and much that nothing here uses. Debian's omits mdadm.conf,
// and the array would get another name.
const dracutConf = `hostonly=no
mdadmconf=yes
compress="zstd -1"
omit_dracutmodules+=" hwdb kernel-modules kernel-modules-extra lunmask nvdimm overlay-root qemu systemd-pcrphase "
omit_dracutmodules+=" terminfo usrmount virtfs virtiofs "
add_drivers+=" dm_mod ext4 sd_mod virtio_blk virtio_pci virtio_scsi "
`

// dracutPlainConf takes systemd out, with all that needs it.
const dracutPlainConf = `omit_dracutmodules+=" dracut-systemd systemd systemd-initrd "
`

// dracutModule puts a shell into the initramfs, for which the kernel's parameter machine.shell names a hook: dracut's own
// wants root's password.
const dracutModule = "/usr/lib/dracut/modules.d/99machine/"

const dracutSetup = `#!/bin/bash
check() { return 0; }
install() {
	for hook in pre-trigger pre-mount; do
		inst_hook $hook 00 "$moddir/shell.sh"
	done
}
`

const dracutShell = `#!/bin/sh
case "$f" in
	*/hooks/"$(getarg machine.shell=)"/*) PS1='(initramfs) ' sh -i </dev/console >/dev/console 2>&1 ;;
esac
`

// ShellAt are the kernel parameters that start a shell in a system's initramfs, with the prompt "(initramfs)": before
// "mount" or before "premount", where nothing was started yet.
func ShellAt(system, place string) []string {
	if generatorOf(system).program != dracut.program {
		return []string{"break=" + place, "panic="}
	}
	return []string{"machine.shell=" + map[string]string{"mount": "pre-mount", "premount": "pre-trigger"}[place]}
}

// settings are the files that make a Debian system this machine, all but what is laid over it for a test.
var settings = []File{
	fstab(Layout{}.root()),
	mdadmConf("1.2"),
	{Path: "/etc/modprobe.d/machine.conf", Data: []byte("blacklist " + strings.Join(blacklisted, "\nblacklist ") + "\n")},
}

func fstab(root string) File {
	return File{Path: "/etc/fstab", Data: []byte(root + " / ext4 errors=remount-ro 0 1\n")}
}

func mdadmConf(metadata string) File {
	return File{Path: "/etc/mdadm/mdadm.conf", Data: []byte("HOMEHOST <system>\nMAILADDR root\n" +
		"ARRAY /dev/md0 metadata=" + metadata + " name=machine:0 UUID=" + MachineArray + "\n")}
}

// unit starts the agent.
const unit = `[Unit]
Description=agent of the tests on the host

[Service]
ExecStart=/usr/local/sbin/agent
Environment=HOME=/root LANG=C.UTF-8

[Install]
WantedBy=multi-user.target
`

// identity are the files that are written last: what Debian's tools would make anew, or is for the tests.
func identity(agent string) []File {
	return []File{
		{Path: "/usr/local/sbin/agent", Mode: 0o755, Host: agent},
		{Path: "/etc/systemd/system/agent.service", Data: []byte(unit)},
		{Path: "/etc/hostname", Data: []byte("machine\n")},
		{Path: "/etc/machine-id", Data: []byte("6d64636c6f6e65007661696c31000001\n")},
		// Nothing is to be brought up to date at boot.
		{Path: "/etc/.updated"},
		{Path: "/var/.updated"},
	}
}

// root returns a directory with a system and more packages installed, for which special is in its name, and the initramfs
// that its own generator made.
func (l *Lab) root(ctx context.Context, system, special string, more ...string) (string, error) {
	g := generatorOf(system)
	settings, sum, err := loadAll(slices.Concat(settings, g.settings))
	if err != nil {
		return "", err
	}
	packages, name := slices.Concat(machinePackages, g.packages, more), "root"+special+"-"+system
	dir, err := l.entry(ctx, name, key(packages, sum, "1"), func(dir string) error {
		if os.Getuid() != 0 {
			return errors.New("a machine's root directory needs root, for the owners of its files")
		}
		scratch := filepath.Join(dir, "settings")
		if err := writeFiles(scratch, settings); err != nil {
			return err
		}
		err := l.debootstrap(ctx, SuiteOf(system), "essential", packages, filepath.Join(dir, "root"),
			"--setup-hook=sync-in "+scratch+" /", // before mdadm and the generator look for their configuration
			// the generator runs once, at the end, not after each package that asks for it
			`--essential-hook=chroot "$1" dpkg-divert --quiet --local --rename --add `+g.program,
			`--essential-hook=ln -s /bin/true "$1"`+g.program,
			`--customize-hook=rm "$1"`+g.program,
			`--customize-hook=chroot "$1" dpkg-divert --quiet --local --rename --remove `+g.program,
			"--customize-hook=sync-in "+scratch+" /", // over what the packages have made
			`--customize-hook=chroot "$1" sh -ec '`+g.make+`'`,
			"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/info/*",
			"--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/man/*",
		)
		return errors.Join(err, os.RemoveAll(scratch))
	})
	return filepath.Join(dir, "root"), err
}

// writeFiles writes files below dir, which is a root directory where /bin and the like are links into /usr.
func writeFiles(dir string, files []File) error {
	for _, f := range files {
		f, err := f.load()
		if err != nil {
			return err
		}
		path := filepath.Join(dir, sysroot.Merged(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		// A link that is there may lead out of dir.
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(path, f.Data, os.FileMode(f.mode())); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
	}
	return nil
}
