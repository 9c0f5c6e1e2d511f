package main

import (
	"debug/elf"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/hooks"
	"mdclone/initramfs"
)

func TestGenerator(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		files map[string]string
		want  generator
	}{
		{"nothing", nil, noGenerator},
		{"initramfs-tools", map[string]string{updateInitramfs: "", hookFunctions: ""}, initramfsTools},
		{"its rest", map[string]string{hookFunctions: ""}, noGenerator},
		{"dracut", map[string]string{dracutProgram: "", dracutFunctionsPath: ""}, dracut},
		{"dracut, and a rest of initramfs-tools", map[string]string{dracutProgram: "", dracutFunctionsPath: "", hookFunctions: ""}, dracut},
		{
			"dracut with an update-initramfs",
			map[string]string{dracutProgram: "", dracutFunctionsPath: "", updateInitramfs: "exec dracut", hookFunctions: ""},
			dracut,
		},
		{
			"initramfs-tools beside a dracut that nobody asks",
			map[string]string{dracutProgram: "", dracutFunctionsPath: "", updateInitramfs: "mkinitramfs", hookFunctions: ""},
			initramfsTools,
		},
	} {
		f := &fake{t: t, root: t.TempDir()}
		for name, text := range test.files {
			f.write(name, text)
		}
		if got := (machine{root: f.root}).generator(); got != test.want {
			t.Errorf("%s: %q; want %q", test.name, got, test.want)
		}
	}
}

// notThere requires that none of the other generator's files are in the machine.
func (f *fake) notThere(g generator) {
	f.t.Helper()
	for _, path := range g.others() {
		if _, err := os.Lstat(f.path(path)); !errors.Is(err, os.ErrNotExist) {
			f.t.Errorf("%s: %v; want it not to be there", path, err)
		}
	}
}

func TestInstallDracut(t *testing.T) {
	t.Parallel()
	f := newFakeDracut(t)
	f.write("etc/initramfs/post-update.d/loader", "stands for it")
	before := f.tree()
	f.run(0, "install")
	var want []string
	for _, v := range []string{kernel + "-old", kernel} { // the newest first
		want = append(want, "/usr/bin/env NO_POST_UPDATE_HOOKS=1 /usr/bin/dracut --quiet --force /boot/initrd.img-"+v+".mdclone-new "+v,
			"/usr/bin/run-parts --arg="+v+" --arg=/boot/initrd.img-"+v+" /etc/initramfs/post-update.d")
	}
	if !slices.Equal(f.ran, want) {
		t.Errorf("ran %q; want %q", f.ran, want)
	}
	f.notThere(dracut)
	installed := f.tree()
	f.run(0, "install")
	f.run(0, "verify")
	if diff := cmp.Diff(installed, f.tree()); diff != "" {
		t.Errorf("a second install or verify changes (-before +after):\n%s", diff)
	}
	for path := range hooks.DracutInImage() {
		f.write(path, "return 0\n")
	}
	f.run(1, "verify")
	for _, inImage := range hooks.DracutInImage() {
		f.says(&f.stdout, "/"+inImage+" is another one than it should be")
	}
	f.run(0, "uninstall")
	f.says(&f.stdout, "boot/initrd.img-"+kernel+": nothing of mdclone is in it\n")
	if diff := cmp.Diff(before, f.tree()); diff != "" {
		t.Errorf("uninstall leaves (-before +after):\n%s", diff)
	}
}

func TestInstallDracutThatFails(t *testing.T) {
	t.Parallel()
	f := newFakeDracut(t)
	f.fail = errors.New("exit status 1")
	f.run(1, "install")
	for _, v := range []string{kernel, kernel + "-old"} {
		f.says(&f.stderr, "mdclone: error: dracut for kernel "+v+" in "+f.root+": exit status 1; its boot image is as it was")
	}
	f.run(1, "verify")
	f.fail, f.deaf = nil, true
	f.write("usr/share/initramfs/post-update.d/loader", "stands for it")
	f.run(1, "install")
	f.says(&f.stderr, "tell the boot loader of the new boot image of kernel "+kernel+" (run-parts /usr/share/initramfs/post-update.d in "+
		f.root+"): exit status 1")
	f.run(0, "verify")
	f.deaf = false
	f.run(0, "install")
}

// TestDracutKeepsTheOldImage: until a new one is whole, the kernel has the one that it had, and others get theirs.
func TestDracutKeepsTheOldImage(t *testing.T) {
	t.Parallel()
	image := "boot/initrd.img-" + kernel
	for _, c := range []struct {
		name    string
		change  func(f *fake)
		command string
		want    string // on stderr
		others  bool   // get theirs
	}{
		{
			"dracut fails", func(f *fake) { f.fail, f.failAt = errors.New("exit status 1"), kernel }, "install",
			"dracut for kernel " + kernel + " in ROOT: exit status 1; its boot image is as it was", true,
		},
		{
			"the image is cut", func(f *fake) { f.cut = true }, "install",
			"what it made is not as it should be: segment 1 (zstd) at byte 0: the image ends early (truncated)", false,
		},
		{
			"the image is cut when mdclone goes", func(f *fake) { f.cut = true }, "uninstall",
			"what it made is not as it should be: segment 1 (zstd) at byte 0: the image ends early (truncated)", false,
		},
		{
			"a module is not in it", func(f *fake) { f.remove("lib/modules/" + kernel + "/kernel/drivers/md/raid1.ko") }, "install",
			"what it made is not as it should be: module raid1 for kernel " + kernel + " is not in it", true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeDracut(t)
			f.run(0, "install")
			f.write(image, "the old one")
			f.remove(image + "-old")
			c.change(f)
			f.run(1, c.command)
			if got := strings.ReplaceAll(f.stderr.String(), f.root, "ROOT"); !strings.Contains(got, c.want) {
				t.Errorf("stderr is %q; want %q in it", got, c.want)
			}
			if got := f.read(image); got != "the old one" {
				t.Errorf("the image is %d bytes; want it as it was", len(got))
			}
			if got := (machine{root: f.root}).exists(image + "-old"); got != c.others {
				t.Errorf("the other kernel has an image: %v; want %v", got, c.others)
			}
			if (machine{root: f.root}).exists(image + newSuffix) {
				t.Error("the new image is left behind")
			}
		})
	}
}

// TestDracutFollowsALink: what it leads to is what is booted.
func TestDracutFollowsALink(t *testing.T) {
	t.Parallel()
	f := newFakeDracut(t)
	f.write("boot/efi/initrd", "the old one")
	f.remove("boot/initrd.img-" + kernel)
	if err := os.Symlink("efi/initrd", f.path("boot/initrd.img-"+kernel)); err != nil {
		t.Fatal(err)
	}
	f.run(0, "install")
	if f.read("boot/efi/initrd") == "the old one" {
		t.Error("what the link leads to is the old image")
	}
}

// TestGeneratorIsReplaced: what was installed for the one goes when the machine has the other.
func TestGeneratorIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	before := f.tree()
	f.run(0, "install")
	f.remove(updateInitramfs)
	f.write(dracutProgram, "stands for it")
	f.write(dracutFunctionsPath, dracutFunctions)
	f.run(1, "verify")
	f.says(&f.stdout, "mdclone-settled.sh is missing")
	f.run(0, "install")
	f.notThere(dracut)
	f.says(&f.stdout, "removed: "+f.path(hooks.InitramfsToolsPath)+"\n")
	f.write(updateInitramfs, "stands for it")
	f.run(0, "install")
	f.notThere(initramfsTools)
	for path := range initramfs.Scripts() {
		f.read(path)
	}
	f.run(0, "uninstall")
	f.remove(dracutProgram)
	f.remove(dracutFunctionsPath)
	f.remove("usr/lib/dracut")
	f.remove("usr/bin")
	if diff := cmp.Diff(before, f.tree()); diff != "" {
		t.Errorf("uninstall leaves (-before +after):\n%s", diff)
	}
}

// TestDracutModuleNeverFails: a boot image without mdclone is better than none.
func TestDracutModuleNeverFails(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(f *fake)
		want   string
	}{
		{"nothing wrong", func(*fake) {}, ""},
		{"no configuration", func(f *fake) { f.remove("etc/mdclone/root.conf") }, ""},
		{"no program", func(f *fake) { f.remove(earlyPath) }, "dracut: mdclone: cannot add /usr/sbin/mdclone-early (run mdclone-gen install)\n"},
		{
			"no rule", func(f *fake) { f.remove("usr/lib/udev/rules.d/63-mdclone.rules") },
			"dracut: mdclone: cannot add /usr/lib/udev/rules.d/63-mdclone.rules (run mdclone-gen install)\n",
		},
		{
			"no modules", func(f *fake) { f.write(dracutFunctionsPath, dracutFunctions+"instmods() { false; }\n") },
			"dracut: mdclone: cannot add the modules md-mod and raid1\ndracut: mdclone: cannot add the drivers of disks\n",
		},
	} {
		f := newFakeDracut(t)
		f.run(0, "install")
		test.change(f)
		if got, err := f.module(t.TempDir(), kernel); err != nil || string(got) != test.want {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}

// TestLoaded: what is behind a program does not count, what is in it does.
func TestLoaded(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := loaded(program)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := loaded(append(slices.Clone(program), "more"...)); err != nil || got != want {
		t.Errorf("with more behind it: %x, %v; want %x", got, err, want)
	}
	for _, name := range []string{".text", ".rodata", ".data"} {
		changed := slices.Clone(program)
		changed[f.Section(name).Offset+5] ^= 1
		if got, err := loaded(changed); err != nil || got == want {
			t.Errorf("with a byte of %s changed: %x, %v; want another sum", name, got, err)
		}
	}
	if _, err := loaded([]byte(strings.Repeat("x", 100))); err == nil {
		t.Error("what is no program has a sum")
	}
}
