package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/config"
	"mdclone/pkg/initrd"
	"mdclone/pkg/md"
)

// module is a kernel module that needs others, as far as is read of one: an ELF file with a section .modinfo.
func module(t testing.TB, needs string) string {
	t.Helper()
	info, names := "license=GPL\x00depends="+needs+"\x00", "\x00.modinfo\x00.shstrtab\x00"
	const header, section = 64, 64
	h := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: header, Shentsize: section, Shnum: 3, Shstrndx: 2,
		Shoff: uint64(header + len(info) + len(names)),
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	var b bytes.Buffer
	for _, part := range []any{
		h, []byte(info), []byte(names),
		elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: header, Size: uint64(len(info))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(header + len(info)), Size: uint64(len(names))},
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// withRescue adds what a rescue image is made of.
func (f *fake) withRescue() *fake {
	f.t.Helper()
	f.write("usr/sbin/mdadm", "mdadm")
	f.write("etc/mdadm/mdadm.conf", "HOMEHOST <system>\n")
	for _, v := range []string{kernel, kernel + "-old"} {
		dir := "lib/modules/" + v + "/kernel/drivers/"
		for name, needs := range map[string]string{
			"md/raid1": "md-mod", "md/md-mod": "", "block/virtio_blk": "virtio,ext4", "virtio/virtio": "", "block/odd": "virtio", "net/e1000": "",
		} {
			f.write(dir+name+".ko", module(f.t, needs))
		}
	}
	return f
}

func (f *fake) rescue(args ...string) *initrd.Image {
	f.t.Helper()
	name := f.path(rescueImage)
	f.run(0, append([]string{"rescue", "--output", name}, args...)...)
	f.says(&f.stdout, "written: "+name)
	image, err := initrd.Read(name, func(string) bool { return true })
	if err != nil {
		f.t.Fatal(err)
	}
	return image
}

func TestRescue(t *testing.T) {
	t.Parallel()
	f := newFake(t).withRescue()
	image := f.rescue("--kernel", kernel)
	dir := "lib/modules/" + kernel + "/"
	for name, want := range map[string]string{
		"init": "rescue", "sbin/mdclone-early": "early", "sbin/mdadm": "mdadm", config.EarlyMark: "",
		"etc/mdclone/root.conf": f.read("etc/mdclone/root.conf"), "etc/mdadm/mdadm.conf": "HOMEHOST <system>\n",
		"etc/mdclone/modules": "md_mod\nraid1\nvirtio_blk\nusb_storage\nuas\n",
		dir + "modules.dep": "kernel/drivers/md/md-mod.ko:\nkernel/drivers/md/raid1.ko: kernel/drivers/md/md-mod.ko\n" +
			"kernel/drivers/virtio/virtio.ko:\nkernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko\n" +
			"kernel/drivers/usb/usb_storage.ko:\nkernel/drivers/usb/uas.ko: kernel/drivers/usb/usb_storage.ko\n",
		dir + "modules.builtin":                    "kernel/fs/ext4/ext4.ko\nkernel/drivers/ata/ahci.ko\n",
		dir + "kernel/drivers/block/virtio_blk.ko": f.read(dir + "kernel/drivers/block/virtio_blk.ko"),
	} {
		if got, ok := image.Lookup(name); !ok || string(got.Data) != want || got.Mode.Perm()&0o444 != 0o444 {
			t.Errorf("/%s: %v, %v, %q; want %q", name, ok, got.Mode, got.Data, want)
		}
	}
	for _, name := range []string{"dev", "proc", "sys", "run", "tmp"} {
		if got, ok := image.Lookup(name); !ok || !got.Mode.IsDir() {
			t.Errorf("/%s: %v, %v; want a folder", name, ok, got.Mode)
		}
	}
	for _, name := range []string{dir + "kernel/drivers/block/odd.ko", dir + "kernel/drivers/net/e1000.ko", "lib/modules/" + kernel + "-old"} {
		if exists(image, name) {
			t.Errorf("/%s is in it", name)
		}
	}
	if got, _ := image.Lookup("init"); got.Mode&0o111 == 0 {
		t.Errorf("/init has mode %v; want it executable", got.Mode)
	}
	if got := f.read(kernelFile(rescueImage)); got != "kernel" {
		t.Errorf("the kernel beside it is %q", got)
	}
	first := f.read(rescueImage)
	f.rescue("--kernel", kernel) // over the one before
	// in this order: of a run that is ended between the two, the next one must not take the kernel for somebody else's
	f.says(&f.stdout, "written: "+f.path(rescueImage)+"\nwritten: "+f.path(kernelFile(rescueImage))+"\n")
	if again := f.read(rescueImage); again != first {
		t.Error("a second image of the same differs")
	}
}

// TestRescueIsStale: verify looks at the rescue image where GRUB does, and at any that is named; install warns of it.
func TestRescueIsStale(t *testing.T) {
	t.Parallel()
	const recipe = "mdclone-gen rescue --output "
	f := newFake(t).withRescue()
	f.run(0, "install")
	f.rescue("--kernel", kernel)
	f.run(0, "verify")
	f.says(&f.stdout, f.path(rescueImage)+": as configured")
	f.write("etc/mdclone/root.conf", f.read("etc/mdclone/root.conf")+"# a word more\n")
	f.run(0, "install")
	f.says(&f.stderr, rescueImage+": /etc/mdclone/root.conf is another one than it should be; make it again: "+recipe+f.path(rescueImage))
	f.run(1, "verify")
	f.says(&f.stdout, f.path(rescueImage)+": /etc/mdclone/root.conf is another one than it should be\n")
	f.says(&f.stderr, "1 of 3 boot images are not as configured")
	f.says(&f.stderr, "run "+recipe+f.path(rescueImage))
	f.run(0, "verify", f.path("boot/initrd.img-"+kernel))
	f.write("root/r.img", f.read(rescueImage))
	f.write("root/r.vmlinuz", f.read(kernelFile(rescueImage)))
	f.run(1, "verify", f.path("root/r.img"))
	f.says(&f.stderr, "run "+recipe+f.path("root/r.img"))
	f.write(earlyPath, "newer")
	f.run(1, "verify")
	f.says(&f.stderr, "run mdclone-gen install, then "+recipe+f.path(rescueImage))
	f.run(0, "install")
	f.rescue("--kernel", kernel)
	f.write("etc/mdclone/home.conf", "array = 00000000:00000000:00000000:00000001\n")
	f.run(1, "verify", f.path(rescueImage))
	f.says(&f.stdout, "/etc/mdclone/home.conf is not in it")
	f.rescue("--kernel", kernel)
	f.remove("etc/mdclone/home.conf")
	f.run(1, "verify", f.path(rescueImage))
	f.says(&f.stdout, "/etc/mdclone/home.conf is in it but is not configured")
	f.write(rescueImage, "cut off")
	f.run(1, "verify", f.path(rescueImage))
}

// TestRescueCompression: as the kernel takes it.
func TestRescueCompression(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{"": "zstd", "CONFIG_RD_ZSTD=y\n": "zstd", "# CONFIG_RD_ZSTD is not set\n": "gzip"} {
		f := newFake(t).withRescue()
		if settings != "" {
			f.write("boot/config-"+kernel, settings)
		}
		if got := f.rescue("--kernel", kernel).Segments[0].Compression; got != want {
			t.Errorf("with %q the image is compressed with %s; want %s", settings, got, want)
		}
	}
}

// TestRescueKernel: the newest, or the one that is wanted.
func TestRescueKernel(t *testing.T) {
	t.Parallel()
	f := newFake(t).withRescue()
	f.write("boot/vmlinuz-6.1.0-10-amd64", "newer")
	f.write("lib/modules/6.1.0-10-amd64/kernel/drivers/md/raid1.ko", module(t, ""))
	f.write("lib/modules/6.1.0-10-amd64/kernel/drivers/md/md-mod.ko", module(t, ""))
	f.write("lib/modules/6.1.0-10-amd64/modules.builtin", "")
	f.write("boot/vmlinuz-9.9", "without modules")
	f.rescue()
	if got := f.read(kernelFile(rescueImage)); got != "newer" {
		t.Errorf("the kernel is %q; want the newest that has modules", got)
	}
	f.run(0, "rescue", "--output", f.path("x.img"), "--kernel", kernel)
	if got := f.read("x.vmlinuz"); got != "kernel" {
		t.Errorf("the kernel is %q; want the one that is wanted", got)
	}
	f.run(2, "rescue", "--output", f.path("y.img"), "--kernel", "9.9")
	f.says(&f.stderr, "there is no kernel 9.9 with its modules")
}

// TestRescueOverwrites: nothing but a rescue image.
func TestRescueOverwrites(t *testing.T) {
	t.Parallel()
	f := newFake(t).withRescue()
	f.write("precious", "data")
	f.run(3, "rescue", "--output", f.path("precious"))
	f.says(&f.stderr, "is no rescue image")
	f.write("other.vmlinuz", "somebody's kernel")
	f.run(3, "rescue", "--output", f.path("other.img"))
	f.says(&f.stderr, "no rescue image beside it")
	if got := f.read("other.vmlinuz"); got != "somebody's kernel" {
		t.Errorf("the kernel beside it is %q now", got)
	}
	f.run(2, "rescue", "--output", f.path("new.img"), "--iso", f.path("new.vmlinuz"))
	f.says(&f.stderr, "is named twice")
	f.run(3, "rescue", "--output", f.path("boot"))
	f.says(&f.stderr, "is no plain file")
	f.run(3, "rescue", "--output", os.DevNull)
	if got := f.read("precious"); got != "data" {
		t.Errorf("what was there is %q now", got)
	}
	f.run(0, "rescue", "--output", f.path("precious"), "--force")
	f.run(2, "rescue", "--output", "")
	f.says(&f.stderr, "--output wants the name of a file")
	f.run(2, "rescue")
}

// TestRescueISO: made by grub-mkrescue, and nothing is left of the making.
func TestRescueISO(t *testing.T) {
	t.Parallel()
	f := newFake(t).withRescue()
	f.mkdir("tmp")
	name := f.path("x.iso")
	args := []string{"rescue", "--kernel", kernel, "--output", f.path("x.img"), "--iso", name}
	f.run(1, args...)
	f.says(&f.stderr, "install the package grub-common")
	for _, program := range []string{mkrescue, "usr/bin/xorriso", "usr/bin/mformat"} {
		f.write(program, "stands for it")
	}
	var tree []string
	f.app.command = func(root, name string, args ...string) error {
		if root != f.root || name != "/"+mkrescue || len(args) != 2 {
			t.Errorf("ran %s %q in %s", name, args, root)
		}
		files, err := filepath.Glob(f.path(args[1] + "/boot/*"))
		for _, file := range files {
			tree = append(tree, filepath.Base(file))
		}
		return errors.Join(err, os.WriteFile(f.path(strings.TrimPrefix(args[0], "--output=")), []byte("medium"), 0o644))
	}
	f.run(0, args...)
	if got, want := strings.Join(tree, " "), "grub mdclone-rescue.img mdclone-rescue.vmlinuz"; got != want {
		t.Errorf("the medium has %q in /boot; want %q", got, want)
	}
	if got := f.read("x.iso"); got != "medium" {
		t.Errorf("%s has %q", name, got)
	}
	if left, err := os.ReadDir(f.path("tmp")); err != nil || len(left) > 0 {
		t.Errorf("left in /tmp: %v, %v", left, err)
	}
	f.run(3, args...)
	f.says(&f.stderr, "x.iso is there")
	f.run(0, append(args, "--force")...)
}

// TestRescueIncomplete: what is missing is said.
func TestRescueIncomplete(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ remove, says string }{
		"mdadm":         {"usr/sbin/mdadm", "mdadm"},
		"a module":      {"lib/modules/" + kernel + "/kernel/drivers/md/raid1.ko", "no module raid1"},
		"configuration": {"etc/mdclone/root.conf", "no array is configured"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t).withRescue()
			f.remove(c.remove)
			want := 1
			if name == "configuration" {
				want = 2
			}
			f.run(want, "rescue", "--output", f.path("x.img"), "--kernel", kernel)
			f.says(&f.stderr, c.says)
			if _, err := os.Stat(f.path("x.img")); err == nil {
				t.Error("an image was written")
			}
		})
	}
}

// TestRescueTooOld: a kernel that cannot assemble the array is refused.
func TestRescueTooOld(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	arrays, err := config.Load(f.root)
	if err != nil {
		t.Fatal(err)
	}
	f.app.members = func() ([]md.Found, error) {
		return []md.Found{{Member: &md.Member{Super: &md.Superblock{Array: arrays[0].UUID, LogicalBlock: 4096}}}}, nil
	}
	if err := f.app.newEnough(arrays, "6.12.57+deb13-amd64"); err == nil || !strings.Contains(err.Error(), "it needs 6.19") {
		t.Errorf("newEnough() = %v; want what it needs", err)
	}
	if err := f.app.newEnough(arrays, "7.2.0"); err != nil {
		t.Errorf("newEnough() = %v", err)
	}
}

// TestLoadedDrivers: those of disks.
func TestLoadedDrivers(t *testing.T) {
	t.Parallel()
	f := newFake(t).withRescue()
	f.app.loaded = func() string { return "odd 16384 0 - Live 0x0\ne1000 1 0 - Live 0x0\ngone 1 0 - Live 0x0\n" }
	e := entries{}
	m, err := newMachine(f.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.app.rescueDrivers(m, kernel, e, true); err != nil {
		t.Fatal(err)
	}
	if got, want := string(e["etc/mdclone/modules"].Data), "md_mod\nraid1\nvirtio_blk\nusb_storage\nuas\nodd\n"; got != want {
		t.Errorf("the modules are %q; want %q", got, want)
	}
	if e["etc/mdclone/modules"].Mode != fs.FileMode(0o644) {
		t.Errorf("mode %v", e["etc/mdclone/modules"].Mode)
	}
}

// TestRescueKernelBeside: verify looks at the kernel too, as what boots the image needs it.
func TestRescueKernelBeside(t *testing.T) {
	t.Parallel()
	f := newFake(t).withRescue()
	f.write("boot/vmlinuz-"+kernel+"-old", "an older kernel")
	f.run(0, "install")
	f.rescue("--kernel", kernel)
	f.run(0, "verify")
	f.write(kernelFile(rescueImage), "an older kernel")
	f.run(1, "verify")
	f.says(&f.stdout, f.path(rescueImage)+": "+f.path(kernelFile(rescueImage))+" is another kernel than Linux "+kernel+", which its modules are for\n")
	f.says(&f.stderr, "run mdclone-gen rescue --output")
	f.remove(kernelFile(rescueImage))
	f.run(1, "verify")
	f.says(&f.stdout, f.path(rescueImage)+": its kernel, "+f.path(kernelFile(rescueImage))+", is not there\n")
	f.rescue("--kernel", kernel)
	f.run(0, "verify")
}

func TestKernelDiffers(t *testing.T) {
	t.Parallel()
	data := []byte("kernel")
	record := sum(data) + "  6.1\n"
	for _, c := range []struct {
		name, record string
		data         []byte
		err          error
		want         string // its code
	}{
		{"the same", record, data, nil, ""},
		{"another one", record, []byte("other"), nil, "stale"},
		{"half of it", record, data[:3], nil, "stale"},
		{"an image that does not say", "", data, nil, ""},
		{"none", record, nil, os.ErrNotExist, "missing"},
		{"none, and an image that does not say", "", nil, os.ErrNotExist, "missing"},
		{"a folder", record, nil, errors.New("is a directory"), "unreadable"},
	} {
		got := ""
		if r := kernelDiffers(c.record, "x.vmlinuz", c.data, c.err); r != nil {
			got = r.Code
		}
		if got != c.want {
			t.Errorf("%s: %q; want %q", c.name, got, c.want)
		}
	}
}

// TestWriteTogether: where one cannot be written, none takes its place and nothing is left.
func TestWriteTogether(t *testing.T) {
	t.Parallel()
	f := &fake{t: t, root: t.TempDir()}
	f.write("a", "old")
	before := f.tree()
	err := writeTogether([]output{{f.path("a"), []byte("new")}, {f.path("nowhere/b"), []byte("new")}})
	if err == nil || !strings.Contains(err.Error(), "write "+f.path("nowhere/b")) {
		t.Errorf("writeTogether() = %v; want an error", err)
	}
	if diff := cmp.Diff(before, f.tree()); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
	if err := writeTogether([]output{{f.path("a"), []byte("new")}, {f.path("b"), []byte("newer")}}); err != nil {
		t.Fatal(err)
	}
	if a, b := f.read("a"), f.read("b"); a != "new" || b != "newer" || len(f.tree()) != len(before)+1 {
		t.Errorf("the files are %q and %q, of %d", a, b, len(f.tree()))
	}
}
