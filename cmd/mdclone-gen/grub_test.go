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
