package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/hooks"
	udevrules "mdclone/udev-rules"
)

func TestUninstall(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.remove("usr/lib/udev/rules.d") // so that install makes it
	before := f.tree()
	f.run(0, "install")
	f.write(hooks.InitramfsToolsPath, "#!/bin/sh\nexit 0\n# changed by somebody\n")
	f.run(0, "uninstall")
	f.says(&f.stderr, "warning: "+f.path(hooks.InitramfsToolsPath)+" was changed since it was installed")
	f.says(&f.stdout, "removed: "+f.path(udevrules.Path)+"\n")
	f.says(&f.stdout, "kept: "+f.path("etc/mdclone")+" (--purge removes it)\n")
	f.says(&f.stdout, "boot/initrd.img-"+kernel+": nothing of mdclone is in it\n")
	if diff := cmp.Diff(before, f.tree()); diff != "" {
		t.Errorf("uninstall leaves (-before +after):\n%s", diff)
	}
	f.run(0, "uninstall")
	f.says(&f.stderr, "nothing was installed by mdclone-gen")
}

func TestUninstallKeepsWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.run(0, "install")
	f.write("var/lib/mdclone/ledger.json", "{}")
	f.write("usr/share/initramfs-tools/hooks/other", "of somebody")
	f.run(0, "uninstall")
	if f.read("var/lib/mdclone/ledger.json") != "{}" || f.read("usr/share/initramfs-tools/hooks/other") != "of somebody" {
		t.Error("changed")
	}
	f.says(&f.stdout, "kept: "+f.path("var/lib/mdclone"))
	f.run(0, "uninstall", "--purge")
	for _, dir := range []string{"var/lib/mdclone", "etc/mdclone"} {
		if _, err := os.Stat(f.path(dir)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v; want it gone", dir, err)
		}
	}
}

func TestUninstallSeesLeftovers(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.run(0, "install")
	image := f.read("boot/initrd.img-" + kernel)
	f.write("usr/share/initramfs-tools/hooks/other", "of somebody")
	command := f.app.command
	f.app.command = func(root, name string, args ...string) error {
		err := command(root, name, args...)
		f.write("boot/initrd.img-"+kernel, image) // as if it had not been made
		return err
	}
	f.run(1, "uninstall")
	f.says(&f.stdout, "boot/initrd.img-"+kernel+": /usr/sbin/mdclone-early is still in it\n")
	f.says(&f.stderr, "error: 1 of 2 boot images cannot be read or still hold something of mdclone")
	if _, found, err := (machine{root: f.root}).manifest(); !found || err != nil {
		t.Errorf("the manifest: %v, %v; want it kept for another try", found, err)
	}
}

// elsewhere puts /boot aside, as where it is not mounted, and returns how to put it back.
func (f *fake) elsewhere() (back func()) {
	f.t.Helper()
	move := func(from, to string) {
		if err := os.Rename(f.path(from), f.path(to)); err != nil {
			f.t.Fatal(err)
		}
	}
	move("boot", "realboot")
	f.mkdir("boot")
	return func() {
		f.remove("boot")
		move("realboot", "boot")
	}
}

// TestUninstallBootNotMounted: nothing is removed where the boot images could not be made anew.
func TestUninstallBootNotMounted(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(t testing.TB) *fake{"initramfs-tools": newFake, "dracut": newFakeDracut} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := make(t)
			f.run(0, "install")
			back := f.elsewhere()
			before := f.tree()
			f.run(1, "uninstall")
			f.says(&f.stderr, "mdclone: hint: is /boot mounted?")
			if diff := cmp.Diff(before, f.tree()); diff != "" {
				t.Errorf("changed (-before +after):\n%s", diff)
			}
			back()
			f.run(0, "uninstall")
			f.run(0, "install")
			f.elsewhere()
			f.run(0, "uninstall", "--update-initramfs=never")
		})
	}
}

// TestUninstallRemovesTheProgramsLast: a run that fails is repeated with them.
func TestUninstallRemovesTheProgramsLast(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.run(0, "install")
	f.fail = errors.New("exit status 28")
	f.run(1, "uninstall")
	for _, name := range []string{earlyPath, genPath, manifestPath} {
		f.read(name)
	}
	for _, name := range []string{udevrules.Path, udevrules.StartPath, hooks.InitramfsToolsPath} {
		if (machine{root: f.root}).exists(name) {
			t.Errorf("%s is still there", name)
		}
	}
	f.fail = nil
	f.run(0, "uninstall")
	for _, name := range []string{earlyPath, genPath, manifestPath} {
		if (machine{root: f.root}).exists(name) {
			t.Errorf("%s is still there", name)
		}
	}
}

// TestUninstallWithADamagedImage: GRUB's menu and what it loads go all the same.
func TestUninstallWithADamagedImage(t *testing.T) {
	t.Parallel()
	f := newFake(t).withGrub()
	f.run(0, "install")
	f.remove("lib/modules/" + kernel + "-old/kernel/drivers/md/raid1.ko")
	f.fail, f.failAt = errors.New("exit status 1"), kernel+"-old"
	f.write("boot/initrd.img-"+kernel+"-old", "damaged")
	f.run(1, "uninstall")
	f.says(&f.stderr, "error: update-initramfs for kernel "+kernel+"-old")
	f.says(&f.stderr, "error: 1 of 2 boot images cannot be read")
	f.says(&f.stdout, "removed: "+f.path(stateImage)+"\n")
	if hasEntry(f.read(grubMenu)) {
		t.Error("the entry is still in the menu")
	}
}

// TestLeftovers: what mdclone puts into an image, and nothing that is only called after it.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		files []string
		want  []string
	}{
		{"nothing", nil, nil},
		{"an administrator's", []string{"etc/modprobe.d/mdclone-local.conf", "usr/bin/mdclone-look", "etc/udev/rules.d/64-mdclone.rules"}, nil},
		{"all of initramfs-tools", []string{
			"usr/sbin/mdclone-early", "usr/lib/udev/rules.d/63-mdclone.rules", "scripts/local-block/mdclone", "etc/mdclone/initramfs", "etc/mdclone/x.conf",
		}, []string{
			"/etc/mdclone/initramfs", "/etc/mdclone/x.conf", "/scripts/local-block/mdclone", "/usr/lib/udev/rules.d/63-mdclone.rules",
			"/usr/sbin/mdclone-early",
		}},
		{
			"dracut's",
			[]string{"var/lib/dracut/hooks/initqueue/settled/10-mdclone-settled.sh"},
			[]string{"/var/lib/dracut/hooks/initqueue/settled/10-mdclone-settled.sh"},
		},
	} {
		f := newFake(t)
		dest := f.skeleton(kernel)
		for _, name := range c.files {
			path := filepath.Join(dest, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			writeProgram(t, path, "x")
		}
		f.pack(dest, f.path("boot/image"))
		var got []string
		for _, r := range leftovers(imageFile(f.path("boot/image"))).Differences {
			got = append(got, strings.TrimSuffix(r.Text, " is still in it"))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestUndoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		root   string
		euid   int
		update string
		want   bool
	}{
		{"/", 0, "auto", true},
		{"/", 0, "never", true},
		{"/mnt", 0, "auto", true},
		{"/mnt", 0, "never", false},
		{"/mnt", 1000, "never", false},
	} {
		if got := undoes(c.root, c.euid, c.update); got != c.want {
			t.Errorf("undoes(%q, %d, %q) = %v; want %v", c.root, c.euid, c.update, got, c.want)
		}
	}
	f := newFake(t).withGrub()
	f.run(0, "install")
	f.run(0, "uninstall", "--update-initramfs=never")
	if strings.Contains(f.stderr.String(), nextEntry) {
		t.Errorf("warns of a choice that nobody has made: %s", &f.stderr)
	}
	f.run(0, "install")
	f.run(0, "boot-once", "backup")
	f.run(0, "uninstall", "--update-initramfs=never")
	f.says(&f.stderr, "warning: GRUB starts the entry mdclone-backup next, as boot-once has chosen; in "+f.root+" run: grub-editenv - unset next_entry")
}

// TestUninstallKeepsALink: one that stands where install has made a folder.
func TestUninstallKeepsALink(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.run(0, "install")
	f.write("var/lib/mdclone/ledger/x.json", "{}")
	if err := os.Rename(f.path("var/lib/mdclone"), f.path("srv")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../srv", f.path("var/lib/mdclone")); err != nil {
		t.Fatal(err)
	}
	f.run(0, "uninstall")
	f.says(&f.stdout, "kept: "+f.path("var/lib/mdclone"))
	if got := f.read("var/lib/mdclone/ledger/x.json"); got != "{}" {
		t.Errorf("the ledger has %q", got)
	}
}

// TestUninstallStaysInside: what a link in the root leads to is another machine's.
func TestUninstallStaysInside(t *testing.T) {
	t.Parallel()
	f := newFake(t).withGrub()
	f.run(0, "install")
	outside := t.TempDir()
	if err := os.Rename(f.path("boot"), filepath.Join(outside, "boot")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "boot"), f.path("boot")); err != nil {
		t.Fatal(err)
	}
	for _, update := range []string{"auto", "never"} {
		f.run(1, "uninstall", "--update-initramfs="+update)
		f.says(&f.stderr, "leads out of "+f.root)
		if _, err := os.Stat(filepath.Join(outside, stateImage)); err != nil {
			t.Error(err)
		}
	}
}

// TestUninstallWithoutItsList: what is certain to be ours goes, and what is not is named.
func TestUninstallWithoutItsList(t *testing.T) {
	t.Parallel()
	f := newFake(t).withGrub()
	f.run(0, "install")
	f.remove(manifestPath)
	f.write(hooks.InitramfsToolsPath, "#!/bin/sh\n# of an older version\n")
	before := f.tree()
	f.run(1, "uninstall")
	f.says(&f.stderr, "error: there is no "+f.path(manifestPath)+", and what this version would remove is another one: "+f.path(hooks.InitramfsToolsPath))
	f.says(&f.stderr, "hint: mdclone-gen install makes its files its own again; then run uninstall")
	if diff := cmp.Diff(before, f.tree()); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
	f.write(hooks.InitramfsToolsPath, string(hooks.InitramfsTools()))
	f.write("etc/mdclone/root.conf", f.read("etc/mdclone/root.conf")+"boot-wait = 30\n") // the rules are another configuration's
	f.run(0, "uninstall")
	f.says(&f.stderr, f.path(earlyPath)+" is kept: who has put it there is not known")
	for _, name := range []string{udevrules.Path, udevrules.StartPath, hooks.InitramfsToolsPath, hooks.GrubPath, stateImage} {
		if (machine{root: f.root}).exists(name) {
			t.Errorf("%s is still there", name)
		}
	}
	if hasEntry(f.read(grubMenu)) {
		t.Error("the entry is still in the menu")
	}
	f.run(0, "uninstall")
	f.says(&f.stderr, "nothing was installed by mdclone-gen")
}
