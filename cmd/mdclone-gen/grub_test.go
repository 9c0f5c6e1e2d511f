package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/hooks"
)

func TestParseEnv(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		list string
		want map[string]string
	}{
		{"", map[string]string{}},
		{"next_entry=\n", map[string]string{}}, // as GRUB leaves it
		{"saved_entry=a>b=c\nnext_entry=mdclone-backup\n", map[string]string{"saved_entry": "a>b=c", "next_entry": "mdclone-backup"}},
		{"no line of its kind\nx=1", map[string]string{"x": "1"}},
	} {
		if diff := cmp.Diff(c.want, parseEnv(c.list)); diff != "" {
			t.Errorf("parseEnv(%q) (-want +got):\n%s", c.list, diff)
		}
	}
}

func TestKeeps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ abstractions, filesystem, want string }{
		{"", "ext2\n", ""},
		{"\n", "fat\n", ""},
		{"", "xfs", ""},
		{"cryptodisk\nluks2\n", "ext2", ""},
		{"diskfilter\nmdraid1x\n", "ext2", "diskfilter"}, // /boot on RAID1
		{"lvm\ndiskfilter\nmdraid1x\n", "ext2", "lvm"},
		{"mdraid1x", "ext2", "mdraid1x"},
		{"", "btrfs\n", "btrfs"},
		{"", "zfs", "zfs"},
		{"", "", "an unknown file system"}, // grub-probe has failed
	} {
		if got := keeps(c.abstractions, c.filesystem); got != c.want {
			t.Errorf("keeps(%q, %q) = %q; want %q", c.abstractions, c.filesystem, got, c.want)
		}
	}
}

func TestHasEntry(t *testing.T) {
	t.Parallel()
	for menu, want := range map[string]bool{
		"": false,
		"menuentry 'Debian' $menuentry_id_option 'gnulinux-simple-1' {\n}\n":                                false,
		"set x\nmenuentry 'D, clone first' --class os $menuentry_id_option 'mdclone-backup' {\n}\n":         true,
		"submenu 'S' {\n\tmenuentry 'D' $menuentry_id_option 'mdclone-backup' {\n\t}\n}\n":                  false,
		"### BEGIN /etc/grub.d/42_mdclone ###\n### END ###\nif [ \"$default\" = 'mdclone-backup' ]; then\n": false,
	} {
		if got := hasEntry(menu); got != want {
			t.Errorf("hasEntry(%q) = %v; want %v", menu, got, want)
		}
	}
}

// TestGrubScript tests what 42_mdclone makes of the entries of 10_linux, and that it never fails.
func TestGrubScript(t *testing.T) {
	t.Parallel()
	const entry = `menuentry 'Bob'\''s GNU/Linux, clone first (mdclone)' --class gnu-linux --class os $menuentry_id_option 'mdclone-backup' {
	load_video
	insmod lvm
	echo	'Loading Linux 6.1 ...'
	linux	/boot/vmlinuz-6.1 root=/dev/mapper/vg0-root ro quiet mdclone=backup mdclone.until=${mdclone_until}
	echo	'Loading initial ramdisk ...'
	if [ -e /boot/mdclone-state.img ]; then
		initrd	/boot/intel-ucode.img /boot/initrd.img-6.1 /boot/mdclone-state.img
	else
		initrd	/boot/intel-ucode.img /boot/initrd.img-6.1
	fi
}
`
	const rescue = `menuentry 'Bob'\''s GNU/Linux, rescue (mdclone)' --class gnu-linux --class os $menuentry_id_option 'mdclone-rescue' {
	load_video
	insmod lvm
	linux	/boot/mdclone-rescue.vmlinuz console=ttyS0
	initrd	/boot/mdclone-rescue.img
}
`
	replace := func(old, by string) func(*fake) {
		return func(f *fake) {
			if !strings.Contains(f.grub.linux, old) {
				t.Errorf("there is no %q to replace", old)
			}
			f.grub.linux = strings.ReplaceAll(f.grub.linux, old, by)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*fake)
		boot   string
		env    string
		want   string
		says   string // on stderr
	}{
		{name: "root on LVM", boot: "/boot", want: entry},
		{
			name: "/boot is a file system of its own", change: replace("/boot/", "/"), boot: "",
			want: strings.ReplaceAll(entry, "/boot/", "/"),
		},
		{name: "a kernel elsewhere", boot: "/other", want: strings.Replace(entry, `	if [ -e /boot/mdclone-state.img ]; then
		initrd	/boot/intel-ucode.img /boot/initrd.img-6.1 /boot/mdclone-state.img
	else
		initrd	/boot/intel-ucode.img /boot/initrd.img-6.1
	fi
`, "	initrd	/boot/intel-ucode.img /boot/initrd.img-6.1\n", 1)},
		{
			name: "no classes", change: replace(" --class gnu-linux --class os", ""), boot: "/boot",
			want: strings.Replace(entry, " --class gnu-linux --class os", "", 1),
		},
		{name: "a rescue image", change: func(f *fake) {
			f.write(rescueImage, "image")
			f.write(kernelFile(rescueImage), "kernel")
			replace("ro quiet", "ro console=ttyS0 quiet")(f)
		}, boot: "/boot", want: strings.Replace(entry, "ro quiet", "ro console=ttyS0 quiet", 1) + rescue},
		{name: "a rescue image, and a parameter with a blank", change: func(f *fake) {
			f.write(rescueImage, "image")
			f.write(kernelFile(rescueImage), "kernel")
			replace("ro quiet", `ro acpi_osi=! acpi_osi="Windows console=ttyS9 2009" console="ttyS0" quiet`)(f)
		}, boot: "/boot", want: strings.Replace(entry, "ro quiet", `ro acpi_osi=! acpi_osi="Windows console=ttyS9 2009" console="ttyS0" quiet`, 1) +
			strings.Replace(rescue, "console=ttyS0", `acpi_osi=! console="ttyS0"`, 1)},
		{name: "a rescue image without its kernel", change: func(f *fake) { f.write(rescueImage, "image") }, boot: "/boot", want: entry},
		{name: "no initrd", change: replace("	initrd	/boot/intel-ucode.img /boot/initrd.img-6.1\n", ""), boot: "/boot", says: "10_linux has made no entry"},
		{name: "no kernel", change: replace("	linux	", "	chainloader	"), boot: "/boot", says: "10_linux has made no entry"},
		{name: "no entry", change: func(f *fake) { f.grub.linux = "#!/bin/sh\nexit 0\n" }, boot: "/boot", says: "10_linux has made no entry"},
		{name: "cut off", change: func(f *fake) {
			f.grub.linux = "#!/bin/sh\necho \"menuentry 'x' \\$menuentry_id_option 'y' {\"; echo '	linux x'; echo '	initrd y'\nexit 1\n"
		}, boot: "/boot", says: "10_linux has made no entry"},
		{name: "not for GRUB", env: "CHECK=1", boot: "/boot", says: "is not valid"},
		{name: "not installed", change: func(f *fake) { f.remove(earlyPath) }, boot: "/boot", says: "mdclone-early is not there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t).withGrub()
			f.write(hooks.GrubPath, string(hooks.Grub()))
			f.write(earlyPath, "early")
			if c.change != nil {
				c.change(f)
			}
			f.write("etc/grub.d/10_linux", f.grub.linux)
			got, said := f.script(c.boot, "GRUB_SAVEDEFAULT=true", c.env)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !strings.Contains(said, c.says) || c.says == "" && said != "" {
				t.Errorf("stderr: %q; want %q", said, c.says)
			}
		})
	}
}

// TestUndoWithADamagedEnvironment: GRUB takes no choice out of one, so there is none; and another loader forgets its own in any case.
func TestUndoWithADamagedEnvironment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, block string
		code        int
		says        string // on stderr
	}{
		{"empty", "", 0, "warning: read GRUB's environment: exit status 1; "},
		{"zeros", strings.Repeat("\x00", 1024), 0, "is no environment block"},
		{"whole, but it cannot be read", envSignature + "next_entry=mdclone-backup\n", 1, "error: read GRUB's environment: exit status 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t).withGrub().withSystemdBoot()
			f.write(loaderInfo, variable("systemd-boot 252"))
			f.run(0, "install")
			f.run(0, "boot-once", "backup")
			f.grub.damaged = true
			f.write(grubEnvFile, c.block)
			f.run(c.code, "boot-once", "backup", "--undo")
			f.says(&f.stderr, c.says)
			if m := (machine{root: f.root}); m.exists(oneShot) || m.exists("efi/"+onceEntry) {
				t.Error("systemd-boot's choice is still there")
			}
			f.run(0, "uninstall")
			f.says(&f.stderr, "read GRUB's environment: exit status 1")
		})
	}
	f := installedGrub(t)
	f.grub.damaged = true
	f.run(1, "boot-once", "backup")
	f.says(&f.stderr, "hint: where it is damaged, grub-editenv "+f.path(grubEnvFile)+" create makes a new one")
}

// TestUndoBootNotMounted: where nothing is seen of GRUB's environment, nothing is known of a choice.
func TestUndoBootNotMounted(t *testing.T) {
	t.Parallel()
	const fstab = "UUID=1 / ext4 defaults 0 1\nUUID=2 /boot ext4 noauto 0 2\n"
	mounts := func(f *fake, at string) {
		f.mounts = "22 1 253:0 / / rw - ext4 /dev/a rw\n30 22 8:1 / " + f.path(at) + " rw - ext4 /dev/b rw\n"
	}
	for _, c := range []struct {
		name   string
		change func(f *fake)
		code   int
	}{
		{"not mounted", func(f *fake) { f.write("etc/fstab", fstab); mounts(f, "home") }, 1},
		{"mounted", func(f *fake) { f.write("etc/fstab", fstab); mounts(f, "boot") }, 0},
		{"none of its own", func(f *fake) { f.write("etc/fstab", "UUID=1 / ext4 defaults 0 1\n"); mounts(f, "home") }, 0},
		{"no fstab", func(f *fake) { mounts(f, "home") }, 0},
		{"mounts are not known", func(f *fake) { f.write("etc/fstab", fstab) }, 0},
		{"systemd-boot starts the machine", func(f *fake) {
			f.withSystemdBoot()
			f.write(loaderInfo, variable("systemd-boot 252"))
			f.write("etc/fstab", fstab)
			mounts(f, "home")
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := installedGrub(t)
			f.run(0, "boot-once", "backup")
			f.elsewhere()
			c.change(f)
			f.run(c.code, "boot-once", "backup", "--undo")
			if c.code != 0 {
				f.says(&f.stderr, "error: "+f.path("boot")+" is in fstab, and is not mounted")
			}
		})
	}
}

func TestOtherDefault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ value, saved, want string }{
		{"0", "", ""},
		{"${saved_entry}", "", ""},
		{"${saved_entry}", "gnulinux-simple-7", ""},
		{"${saved_entry}", "1>2", "1>2"},
		{"Debian GNU/Linux", "", ""},
		{"gnulinux-advanced-7>gnulinux-6.1.0-1-advanced-7", "", "gnulinux-advanced-7>gnulinux-6.1.0-1-advanced-7"},
		{"2", "", "2"},
	} {
		menu := "if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\nelse\n   set default=\"" + c.value + "\"\nfi\n" +
			"menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-7' {\n\tlinux /vmlinuz\n}\n" +
			"submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-7' {\n\tmenuentry 'old' $menuentry_id_option 'x' {\n}\n}\n"
		if got := otherDefault(menu, c.saved); got != c.want {
			t.Errorf("otherDefault(%q, saved %q) = %q; want %q", c.value, c.saved, got, c.want)
		}
	}
}
