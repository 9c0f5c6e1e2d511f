package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/initrd"
)

// bootctlList is what bootctl 252 prints; 257 adds where the source is.
const bootctlList = `         type: Boot Loader Specification Type #1 (.conf)
        title: Debian GNU/Linux 12 (6.0)
           id: 0123-6.0.conf
       source: /efi/loader/entries/0123-6.0.conf

         type: Boot Loader Specification Type #1 (.conf)
        title: Debian GNU/Linux 12 (6.1) (default) (selected)
           id: 0123-6.1.conf
       source: /efi/loader/entries/0123-6.1+3-0.conf
     sort-key: debian
        linux: /a/linux
       initrd: /a/initrd
      options: root=/dev/x ro

         type: Automatic
        title: Reboot Into Firmware Interface
           id: auto-reboot-to-firmware-setup
       source: /sys/firmware/efi/efivars/LoaderEntries-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
`

func TestDefaultSource(t *testing.T) {
	t.Parallel()
	const source = "/efi/loader/entries/0123-6.1+3-0.conf"
	for _, c := range []struct{ name, list, want string }{
		{"252", bootctlList, source},
		{"257", strings.ReplaceAll(bootctlList, "-0.conf\n", "-0.conf (on the EFI System Partition)\n"), source},
		{"no default", strings.ReplaceAll(bootctlList, " (default)", ""), ""},
		{"an image of its own", strings.ReplaceAll(bootctlList, "Type #1 (.conf)", "Type #2 (.efi)"), ""},
		{"nothing", "", ""},
	} {
		if got := defaultSource(c.list); got != c.want {
			t.Errorf("%s: defaultSource() = %q; want %q", c.name, got, c.want)
		}
	}
}

func TestEntryRoot(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"/efi/loader/entries/x.conf": "/efi", "/boot/efi//loader/entries/x.conf": "/boot/efi", "/loader/entries/x.conf": "/",
		"/efi/EFI/Linux/x.efi": "",
	} {
		if got, err := entryRoot(source); got != want || (err == nil) != (want != "") {
			t.Errorf("entryRoot(%q) = %q, %v; want %q", source, got, err, want)
		}
	}
}

func TestCloneFirst(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{
			"as kernel-install writes it",
			"# made\ntitle      Debian GNU/Linux 12\nversion    6.1\nsort-key   debian\noptions    root=/dev/x ro\nlinux      /a/linux\ninitrd     /a/initrd",
			"# made\ntitle Debian GNU/Linux 12, clone first (mdclone)\nversion    6.1\nsort-key zzz-mdclone\noptions    root=/dev/x ro\n" +
				"linux      /a/linux\ninitrd     /a/initrd\ninitrd /mdclone-state.img\noptions mdclone=backup mdclone.until=5\n",
		},
		{
			"no sort-key, tabs",
			"title\tD\nlinux\t/l\ninitrd\t/i\n",
			"title D, clone first (mdclone)\nlinux\t/l\ninitrd\t/i\ninitrd /mdclone-state.img\noptions mdclone=backup mdclone.until=5\n",
		},
		{"no initrd", "title D\nlinux /l\n", ""},
		{"an EFI program", "title D\nefi /x.efi\n", ""},
	} {
		if got, err := cloneFirst(c.in, 5); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, err, cmp.Diff(c.want, got))
		}
	}
}

// fakeSystemdBoot is systemd-boot in a fake machine.
type fakeSystemdBoot struct {
	deaf  bool // set-oneshot changes nothing
	fails bool // set-oneshot chooses nothing, and says so
	stale bool // nobody copies new images
	list  string
}

// kernelInstall stands for what systemd-boot's package has initramfs-tools and dracut do with a new image.
func (f *fake) kernelInstall(version string) {
	f.t.Helper()
	if f.sdboot != nil && !f.sdboot.stale {
		f.write("efi/"+version+"/initrd", f.read("boot/initrd.img-"+version))
	}
}

// withSystemdBoot sets it up, with its entries in /efi.
func (f *fake) withSystemdBoot() *fake {
	f.t.Helper()
	f.sdboot = &fakeSystemdBoot{list: bootctlList}
	f.write(bootctl, "stands for it")
	f.mkdir(efi + "/efivars")
	f.write("etc/initramfs/post-update.d/systemd-boot", "stands for it")
	f.write("efi/loader/entries/0123-6.1+3-0.conf", "title D\nlinux /a/linux\ninitrd /"+kernel+"/initrd\n")
	return f
}

// variable is the content of an EFI variable's file.
func variable(text string) string {
	out := "\x07\x00\x00\x00"
	for _, c := range text + "\x00" {
		out += string(c) + "\x00"
	}
	return out
}

func (f *fake) sdbootCommand(name string, args []string) error {
	if name != "/"+bootctl || f.sdboot.deaf {
		return nil
	}
	if len(args) == 3 && args[1] == "--" {
		args = slices.Delete(args, 1, 2)
	} else if len(args) == 2 && strings.HasPrefix(args[1], "-") {
		args = nil // an option that it does not know
	}
	if len(args) != 2 || args[0] != "set-oneshot" {
		return errors.New("exit status 1")
	}
	if args[1] != "" && f.sdboot.fails {
		return errors.New("exit status 1")
	}
	if args[1] != "" {
		f.write(oneShot, variable(args[1]))
		return nil
	}
	return os.Remove(f.path(oneShot))
}

func (f *fake) sdbootOutput(args []string) (string, error) {
	switch strings.Join(args, " ") {
	case "is-installed":
		return "yes\n", nil
	case "list":
		if _, err := os.Stat(f.path(oneShot)); err == nil { // bootctl takes what is next for the default
			return strings.ReplaceAll(f.sdboot.list, "0123-6.1+3-0.conf", onceEntryID), nil
		}
		return f.sdboot.list, nil
	case "--print-esp-path", "--print-boot-path":
		return "/efi\n", nil
	}
	return "", errors.New("exit status 1")
}

func TestBootOnceSystemdBoot(t *testing.T) {
	t.Parallel()
	f := newFake(t).withSystemdBoot()
	f.run(0, "install")
	before := f.tree()
	f.write(ledgerDir+"/0f0e.json", "{}\n")
	f.ran = nil
	f.run(0, "boot-once", "backup")
	f.says(&f.stdout, "systemd-boot forgets the choice when it boots")
	want := "title D, clone first (mdclone)\nlinux /a/linux\ninitrd /" + kernel + "/initrd\ninitrd /mdclone-state.img\n" +
		"options mdclone=backup mdclone.until=1003600\n"
	if got := f.read("efi/" + onceEntry); got != want {
		t.Errorf("the entry (-want +got):\n%s", cmp.Diff(want, got))
	}
	image, err := initrd.Read(f.path("efi/"+onceState), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := image.List(ledgerDir); !slices.Equal(got, []string{"0f0e.json"}) {
		t.Errorf("the ledger in it: %q", got)
	}
	if want := []string{"/usr/bin/bootctl set-oneshot -- -mdclone-backup.conf"}; !slices.Equal(f.ran, want) {
		t.Errorf("ran %q; want %q", f.ran, want)
	}

	f.app.now = func() time.Time { return time.Unix(2_000_000, 0) }
	f.run(0, "boot-once", "backup")
	want = strings.Replace(want, "1003600", "2003600", 1) // made from Debian's again, not from ours
	if got := f.read("efi/" + onceEntry); got != want {
		t.Errorf("the entry of a second choice (-want +got):\n%s", cmp.Diff(want, got))
	}
	f.run(0, "boot-once", "backup", "--undo")
	f.remove(ledgerDir + "/0f0e.json")
	f.remove(ledgerDir)
	if diff := cmp.Diff(before, f.tree()); diff != "" {
		t.Errorf("--undo leaves (-before +after):\n%s", diff)
	}
	f.nothingToUndo()
}

// TestBootOnceAfterTheBoot: systemd-boot has cleared the choice, and its entry goes too.
func TestBootOnceAfterTheBoot(t *testing.T) {
	t.Parallel()
	f := newFake(t).withSystemdBoot()
	f.run(0, "install")
	before := f.tree()
	f.run(0, "boot-once", "backup")
	f.remove(oneShot)
	f.write("efi/."+onceState+"123", "half")
	f.write("efi/loader/entries/."+onceEntryID+"123", "half")
	f.run(0, "boot-once", "backup", "--undo")
	if diff := cmp.Diff(before, f.tree()); diff != "" {
		t.Errorf("--undo leaves (-before +after):\n%s", diff)
	}
}

// TestBootOnceSystemdBootFails: half a choice is none, and one from before is not lost without a word.
func TestBootOnceSystemdBootFails(t *testing.T) {
	t.Parallel()
	f := newFake(t).withSystemdBoot()
	f.run(0, "install")
	before := f.tree()
	f.sdboot.fails = true
	f.run(1, "boot-once", "backup")
	if strings.Contains(f.stderr.String(), "taken back") {
		t.Errorf("there was no choice before: %s", &f.stderr)
	}
	f.sdboot.fails = false
	f.run(0, "boot-once", "backup")
	f.sdboot.fails = true
	f.run(1, "boot-once", "backup")
	f.says(&f.stderr, "warning: the choice that was made before is taken back: the next boot is a normal one")
	f.says(&f.stderr, "error: bootctl set-oneshot: exit status 1")
	if diff := cmp.Diff(before, f.tree()); diff != "" {
		t.Errorf("left (-before +after):\n%s", diff)
	}
}

func TestBootOnceSystemdBootRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(f *fake)
		code   int
		want   string // on stderr
	}{
		{"chosen by somebody else", func(f *fake) { f.write(oneShot, variable("memtest.conf")) }, 3, "by somebody else: memtest.conf"},
		{"no entry to copy", func(f *fake) { f.sdboot.list = "" }, 1, "hint: by hand: add mdclone=backup"},
		{"the entry has no kernel", func(f *fake) { f.write("efi/loader/entries/0123-6.1+3-0.conf", "title D\nefi /x\n") }, 1, "no kernel and initrd"},
		{"set in vain", func(f *fake) { f.sdboot.deaf = true }, 1, `systemd-boot starts "" next`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t).withSystemdBoot()
			f.run(0, "install")
			c.change(f)
			f.run(c.code, "boot-once", "backup")
			f.says(&f.stderr, c.want)
		})
	}
	f := newFake(t).withGrub().withSystemdBoot() // both: GRUB, unless systemd-boot has started the machine
	f.run(0, "install")
	f.run(0, "boot-once", "backup")
	if len(f.env()) != 2 {
		t.Errorf("GRUB's environment is %q; want GRUB to be in charge", f.env())
	}
	f.run(0, "boot-once", "backup", "--undo")
	f.write(loaderInfo, variable("systemd-boot 252"))
	f.run(0, "boot-once", "backup")
	if len(f.env()) != 0 || !strings.Contains(f.read(oneShot), "m\x00d\x00c\x00") {
		t.Errorf("GRUB's environment is %q; want systemd-boot to be in charge", f.env())
	}
}
