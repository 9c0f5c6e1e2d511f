package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseEntry(t *testing.T) {
	t.Parallel()
	const text = "# made\ntitle  D\nversion    6.1\nmachine-id 0123\nlinux\t/a/linux\ninitrd   /a/ucode\ninitrd\t/a/initrd\n options initrd=no\n"
	want := entry{linux: "/a/linux", version: "6.1", machine: "0123", initrds: []string{"/a/ucode", "/a/initrd"}}
	if diff := cmp.Diff(want, parseEntry(text), cmp.AllowUnexported(entry{})); diff != "" {
		t.Errorf("parseEntry() (-want +got):\n%s", diff)
	}
}

// TestEntries: what systemd-boot starts has to be as configured, not only what is in /boot.
func TestEntries(t *testing.T) {
	t.Parallel()
	const (
		first = "efi/loader/entries/0123-6.1+3-0.conf"
		other = "efi/loader/entries/other.conf"
	)
	text := "linux /a/linux\ninitrd /" + kernel + "/initrd\n"
	// what is wrong with an image that was made before mdclone came
	bare := []string{": /usr/sbin/mdclone-early is not in it"}
	for _, c := range []struct {
		name   string
		change func(f *fake)
		want   []string // on stdout, behind the entry's name; none is as configured
		entry  string   // first if it is empty
		says   string   // on stderr
	}{
		{name: "as configured"},
		{name: "nobody made the copy anew", change: func(f *fake) { f.sdboot.stale = true }, want: bare, says: "hint: systemd-boot starts copies"},
		{name: "no copy", change: func(f *fake) { f.remove("efi/" + kernel + "/initrd") }, want: []string{": open ROOT/efi/" + kernel + "/initrd: no such file"}},
		{name: "half a copy", change: func(f *fake) {
			f.write("efi/"+kernel+"/initrd", f.read("efi/" + kernel + "/initrd")[:200])
		}, want: []string{": read ROOT/efi/" + kernel + "/initrd: segment 1 (zstd) at byte 0: the image ends early (truncated)"}},
		{name: "no initrd", change: func(f *fake) { f.write(first, "linux /a/linux\n") }, want: []string{": it names no initrd"}},
		{name: "microcode first", change: func(f *fake) {
			f.write("efi/ucode", f.emptyArchive())
			f.write(first, "linux /a/linux\ninitrd /ucode\ninitrd /"+kernel+"/initrd\n")
		}},
		{name: "one that replaces a file", change: func(f *fake) {
			f.write("efi/more", f.read("boot/initrd.img-"+kernel))
			f.write("efi/"+kernel+"/initrd", f.read("efi/"+kernel+"/initrd")+strings.Repeat("\x00", 3))
			f.write(first, text+"initrd /more\n")
		}},
		{name: "another of a kernel that is here", change: func(f *fake) {
			f.sdboot.stale = true
			f.write(other, "version "+kernel+"-old\nlinux /a/linux\ninitrd /"+kernel+"-old/initrd\n")
		}, want: bare, entry: other},
		{
			name:   "another of a kernel that is gone",
			change: func(f *fake) { f.write(other, "version 5.10\nlinux /a/linux\ninitrd /gone\n") },
			says:   "other.conf is not looked at",
		},
		{name: "another of another system", change: func(f *fake) {
			f.write("etc/machine-id", "0123\n")
			f.write(other, "version "+kernel+"\nmachine-id 4567\nlinux /a/linux\ninitrd /gone\n")
		}, says: "other.conf is not looked at"},
		{name: "an image of its own", change: func(f *fake) {
			f.sdboot.list = strings.ReplaceAll(bootctlList, "Type #1 (.conf)", "Type #2 (.efi)")
		}, says: "default entry is no file in loader/entries"},
		{name: "a program", change: func(f *fake) { f.write(first, "efi /x.efi\n") }, says: "what it starts is not looked at"},
		{name: "GRUB starts the machine", change: func(f *fake) { f.withGrub(); f.sdboot.stale = true }},
		{name: "not root", change: func(f *fake) {
			f.sdboot.stale = true
			f.app.euid = func() int { return 1000 }
		}, says: "that takes root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t).withSystemdBoot()
			for _, v := range []string{kernel, kernel + "-old"} { // as before mdclone came
				f.makeImage(v)
				f.kernelInstall(v)
			}
			stale := f.read("efi/" + kernel + "/initrd")
			f.run(0, "install")
			if c.change != nil {
				c.change(f)
			}
			if f.sdboot.stale {
				f.write("efi/"+kernel+"-old/initrd", stale)
				if c.entry == "" {
					f.write("efi/"+kernel+"/initrd", stale)
				}
			}
			code := 0
			if len(c.want) > 0 {
				code = 1
			}
			f.run(code, "verify")
			if c.entry == "" {
				c.entry = first
			}
			got := strings.ReplaceAll(f.stdout.String(), f.root, "ROOT")
			for _, want := range c.want {
				if !strings.Contains(got, "ROOT/"+c.entry+want) {
					t.Errorf("%q is not in:\n%s", want, got)
				}
			}
			f.says(&f.stderr, c.says)
			if code == 0 {
				return
			}
			f.run(1, "boot-once", "backup")
			if strings.Contains(f.stdout.String(), ": \n") {
				t.Errorf("boot-once says nothing of an image:\n%s", &f.stdout)
			}
			if _, err := os.Stat(f.path(oneShot)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v; want no choice", oneShot, err)
			}
		})
	}
}

// emptyArchive is an initrd that is not compressed, with nothing of ours.
func (f *fake) emptyArchive() string {
	f.t.Helper()
	data, err := (machine{root: f.root}).state(nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(data)
}

// TestInstallTellsSystemdBoot: whichever makes the images, install and uninstall are done when what is started is new too.
func TestInstallTellsSystemdBoot(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(t testing.TB) *fake{"initramfs-tools": newFake, "dracut": newFakeDracut} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := make(t).withSystemdBoot()
			entry := f.path("efi/loader/entries/0123-6.1+3-0.conf")
			f.run(0, "install")
			f.says(&f.stdout, entry+": as configured\n")
			f.sdboot.stale = true
			f.run(1, "uninstall")
			f.says(&f.stdout, entry+": /usr/sbin/mdclone-early is still in it\n")
			f.says(&f.stderr, "hint: systemd-boot starts copies")
			f.sdboot.stale = false
			f.run(0, "install")
			f.run(0, "uninstall")
			f.says(&f.stdout, entry+": nothing of mdclone is in it\n")
		})
	}
}
