package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKernels(t *testing.T) {
	t.Parallel()
	f := &fake{t: t, root: t.TempDir()}
	m := machine{root: f.root}
	if got, err := m.kernels(); len(got) > 0 || err != nil {
		t.Errorf("kernels() without /boot = %q, %v; want none", got, err)
	}
	for _, name := range []string{
		"vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-50-amd64", "vmlinux-6.12.1", "vmlinuz-6.12.1", "vmlinuz-6.1.0-9-amd64.old", "vmlinuz", "vmlinuz-",
		"mdclone-rescue.vmlinuz", "initrd.img-7.0",
	} {
		f.write("boot/"+name, "")
	}
	got, err := m.kernels()
	if want := []string{"6.12.1", "6.1.0-50-amd64", "6.1.0-9-amd64"}; !slices.Equal(got, want) || err != nil {
		t.Errorf("kernels() = %q, %v; want %q", got, err, want)
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	f := &fake{t: t, root: filepath.Join(t.TempDir(), "a[1]*?")} // which is no pattern
	m := machine{root: f.root}
	for _, name := range []string{
		"boot/initrd.img-6.1", "boot/vmlinuz-6.1", "boot/initrd.img-6.1.bak", "boot/initrd.img-6.1.mdclone-new",
		"boot/initrd.img-5.10", "lib/modules/5.10/modules.dep", // its kernel was removed, its modules have stayed
		"boot/initrd.img-4.19", "boot/vmlinux-4.19", "lib/modules/4.19/modules.dep", "lib/modules/6.1/modules.dep",
		"boot/initrd.img-6.9", "boot/vmlinuz-6.9", // another system's
	} {
		f.write(name, "")
	}
	images, skipped, err := m.images()
	names := func(paths []string) (names []string) {
		for _, p := range paths {
			names = append(names, strings.TrimPrefix(p, f.path("boot/initrd.img-")))
		}
		return names
	}
	if diff := cmp.Diff([][]string{{"4.19", "6.1"}, {"5.10", "6.1.bak", "6.1.mdclone-new", "6.9"}}, [][]string{names(images), names(skipped)}); diff != "" || err != nil {
		t.Errorf("images(): %v (-want +got):\n%s", err, diff)
	}
	if !m.mayStart("5.10") || m.mayStart("5.11") {
		t.Error("mayStart() is wrong: systemd-boot may have the kernel elsewhere")
	}
}

// TestListTellsErrors: a folder that cannot be read is not an empty one.
func TestListTellsErrors(t *testing.T) {
	t.Parallel()
	f := &fake{t: t, root: t.TempDir()}
	m := machine{root: f.root}
	f.write("boot", "a file")
	if _, _, err := m.images(); err == nil {
		t.Error("images() of a /boot that is no folder: no error")
	}
	f.remove("boot")
	if err := os.Symlink(t.TempDir(), f.path("boot")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.images(); err == nil || !strings.Contains(err.Error(), "leads out of") {
		t.Errorf("images() of a /boot elsewhere: %v; want that it leads out", err)
	}
}

// TestRootIsNoPattern: what is in the root's name is a name.
func TestRootIsNoPattern(t *testing.T) {
	t.Parallel()
	f := newFake(t).withRescue()
	root := f.root + "[1]"
	if err := os.Rename(f.root, root); err != nil {
		t.Fatal(err)
	}
	defer func(old string) { _ = os.Rename(root, old) }(f.root)
	m := machine{root: root}
	if images, _, err := m.images(); len(images) != 2 || err != nil {
		t.Errorf("images() = %q, %v; want two", images, err)
	}
	if got, err := f.app.kernelOf(m, kernel); got != kernel || err != nil {
		t.Errorf("kernelOf() = %q, %v; want %s", got, err, kernel)
	}
}

// TestModulesAlone: an image whose kernel was removed is none to be made or looked at, although its modules have stayed.
func TestModulesAlone(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(t testing.TB) *fake{"initramfs-tools": newFake, "dracut": newFakeDracut} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := make(t).withGrub()
			f.run(0, "install")
			f.remove("boot/vmlinuz-" + kernel + "-old")
			f.write("etc/mdclone/root.conf", f.read("etc/mdclone/root.conf")+"boot-wait = 30\n")
			f.run(0, "install")
			f.says(&f.stderr, "boot/initrd.img-"+kernel+"-old is not looked at: a copy, or its kernel is gone")
			f.run(0, "boot-once", "backup")
		})
	}
}

// TestOthersImage: with /boot shared, what another system starts from is not made anew with what is here.
func TestOthersImage(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.write("boot/vmlinuz-6.9", "kernel")
	f.write("boot/initrd.img-6.9", "another system's")
	f.run(0, "install")
	f.says(&f.stderr, "warning: "+f.path("boot/initrd.img-6.9")+" is another system's")
	if got := f.read("boot/initrd.img-6.9"); got != "another system's" {
		t.Errorf("the image of a kernel without modules here is %d bytes; want it as it was", len(got))
	}
}

// TestOneKernelFails: the others get their images, and all are looked at.
func TestOneKernelFails(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.fail, f.failAt = errors.New("exit status 28"), kernel+"-old"
	f.run(1, "install")
	f.says(&f.stderr, "error: update-initramfs for kernel "+kernel+"-old in "+f.root+": exit status 28")
	f.says(&f.stdout, f.path("boot/initrd.img-"+kernel)+": as configured\n")
	f.says(&f.stdout, f.path("boot/initrd.img-"+kernel)+"-old: /usr/sbin/mdclone-early is not in it\n")
	f.says(&f.stderr, "error: 1 of 2 boot images are not as configured")
}
