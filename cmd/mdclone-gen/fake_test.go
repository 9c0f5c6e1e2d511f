package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"mdclone/hooks"
	"mdclone/initramfs"
	"mdclone/pkg/md"
)

const kernel = "6.1.0-9-amd64"

// functions stands for initramfs-tools' hook-functions, with what the hook uses. ROOT is the machine's root.
const functions = `
copy_file() {
	[ -f "$ROOT$2" ] || return 2
	[ -e "$DESTDIR$2" ] && return 1
	mkdir -p "$DESTDIR${2%/*}"
	cp -pP "$ROOT$2" "$DESTDIR$2"
}
copy_exec() {
	copy_file binary "$1" || return $(($? - 1))
}
manual_add_modules() {
	for name in "$@"; do
		for file in "$ROOT"/lib/modules/"$version"/kernel/drivers/*/"$name".ko; do
			[ ! -e "$file" ] || copy_file module "${file#"$ROOT"}"
		done
	done
}
`

// fake is a machine in a temporary folder, with programs that stand for its own.
type fake struct {
	t      testing.TB
	root   string
	stdout bytes.Buffer
	stderr bytes.Buffer
	ran    []string // what was run instead of processes
	fail   error    // what update-initramfs returns, or dracut
	failAt string   // the only kernel for which they fail so, "" for all
	cut    bool     // dracut makes half an image, and says nothing
	mounts string   // what is mounted, as /proc/self/mountinfo has it
	deaf   bool     // what the boot loader has to do about a new image fails
	grub   *fakeGrub
	sdboot *fakeSystemdBoot
	app    *app
}

// newFake has two kernels with the boot images of their installation, and a configuration for one array.
func newFake(t testing.TB) *fake {
	t.Helper()
	f := &fake{t: t, root: t.TempDir()}
	f.write("etc/mdclone/root.conf", "array = 8e5c6b62:12345678:9abcdef0:12345678\nclone = 0f0e0d0c:0b0a0908:07060504:03020100\n")
	f.write("usr/sbin/update-initramfs", "stands for it")
	f.write(hookFunctions, functions)
	f.mkdir("usr/lib/udev/rules.d")
	if err := os.Symlink("usr/lib", f.path("lib")); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{kernel, kernel + "-old"} {
		f.write("boot/vmlinuz-"+v, "kernel")
		f.write("lib/modules/"+v+"/kernel/drivers/md/raid1.ko", "raid1")
		f.write("lib/modules/"+v+"/kernel/drivers/md/md-mod.ko", "md-mod")
		f.write("lib/modules/"+v+"/kernel/drivers/usb/usb_storage.ko", module(t, ""))
		f.write("lib/modules/"+v+"/kernel/drivers/usb/uas.ko", module(t, "usb_storage"))
		f.write("lib/modules/"+v+"/modules.dep", "kernel/drivers/md/raid1.ko: kernel/drivers/md/md-mod.ko\n"+
			"kernel/drivers/usb/usb_storage.ko:\nkernel/drivers/usb/uas.ko: kernel/drivers/usb/usb_storage.ko\n")
		f.write("lib/modules/"+v+"/modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/drivers/ata/ahci.ko\n")
	}
	// where the programs come from
	self := filepath.Join(t.TempDir(), "mdclone-gen")
	for name, text := range map[string]string{"mdclone-gen": "generator", "mdclone-early": "early", "mdclone-rescue": "rescue"} {
		writeProgram(t, filepath.Join(filepath.Dir(self), name), text)
	}
	f.app = newApp(strings.NewReader(""), &f.stdout, &f.stderr)
	f.app.euid = func() int { return 0 }
	f.app.self = func() (string, error) { return self, nil }
	f.app.udevRuns = func() bool { return true }
	f.app.command = f.command
	f.app.output = f.output
	f.app.terminal = func() bool { return false }
	f.app.now = func() time.Time { return time.Unix(1_000_000, 0) }
	f.app.rtc = func() time.Time { return time.Time{} }
	f.app.members = func() ([]md.Found, error) { return nil, nil }
	f.app.mounts = func() string { return f.mounts }
	for _, v := range []string{kernel, kernel + "-old"} {
		f.makeImage(v)
	}
	return f
}

func (f *fake) path(name string) string { return filepath.Join(f.root, name) }

func (f *fake) mkdir(name string) {
	f.t.Helper()
	if err := os.MkdirAll(f.path(name), 0o755); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) write(name, text string) {
	f.t.Helper()
	f.mkdir(filepath.Dir(name))
	writeProgram(f.t, f.path(name), text)
}

// writeProgram writes a file that may be run afterwards. A process that is started by another test while the file is open
// for writing has it open too until its exec, and as long as that it cannot be run (ETXTBSY): so none is started then.
func writeProgram(t testing.TB, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (f *fake) read(name string) string {
	f.t.Helper()
	text, err := os.ReadFile(f.path(name))
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

func (f *fake) remove(name string) {
	f.t.Helper()
	if err := os.Remove(f.path(name)); err != nil {
		f.t.Fatal(err)
	}
}

// run runs a command line and wants an exit code of it.
func (f *fake) run(want int, args ...string) {
	f.t.Helper()
	f.stdout.Reset()
	f.stderr.Reset()
	f.app.document, f.app.json = nil, false
	f.app.log.W = &f.stderr
	if got := f.app.main(append(args, "--root", f.root)); int(got) != want {
		f.t.Fatalf("mdclone-gen %s = %d; want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, want, &f.stdout, &f.stderr)
	}
}

// says wants text on stdout or stderr.
func (f *fake) says(out *bytes.Buffer, text string) {
	f.t.Helper()
	if !strings.Contains(out.String(), text) {
		f.t.Errorf("%q is not in:\n%s", text, out)
	}
}

// command stands for processes.
func (f *fake) command(root, name string, args ...string) error {
	f.ran = append(f.ran, strings.Join(append([]string{name}, args...), " "))
	if f.grub != nil && root == f.root {
		if err := f.grubCommand(name, args); err != nil {
			return err
		}
	}
	if f.sdboot != nil && root == f.root {
		if err := f.sdbootCommand(name, args); err != nil {
			return err
		}
	}
	switch name {
	case "/usr/bin/env":
		name = args[1]
	case "/usr/bin/run-parts":
		if f.deaf {
			return errors.New("exit status 1")
		}
		f.kernelInstall(strings.TrimPrefix(args[0], "--arg="))
	}
	if name != "/"+updateInitramfs && name != "/"+dracutProgram {
		return nil
	}
	if root != f.root {
		return errors.New(name + " in the wrong root " + root)
	}
	if name == "/"+dracutProgram {
		return f.dracut(args[len(args)-1], args[len(args)-2])
	}
	version := args[len(args)-1]
	if f.fail != nil && (f.failAt == "" || f.failAt == version) {
		return f.fail
	}
	f.makeImage(version)
	f.kernelInstall(version)
	return nil
}

// output stands for processes that are asked something.
func (f *fake) output(root, name string, args ...string) (string, error) {
	switch {
	case root != f.root:
	case f.sdboot != nil && name == "/"+bootctl:
		return f.sdbootOutput(args)
	case f.grub != nil:
		return f.grubOutput(name, args)
	}
	return "", errors.New("there is no such program")
}

// skeleton is what is in each boot image.
func (f *fake) skeleton(version string) string {
	f.t.Helper()
	dest := f.t.TempDir()
	for _, dir := range []string{"usr/lib/modules/" + version, "etc", "scripts"} {
		if err := os.MkdirAll(filepath.Join(dest, dir), 0o755); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := os.Symlink("usr/lib", filepath.Join(dest, "lib")); err != nil {
		f.t.Fatal(err)
	}
	builtin := "lib/modules/" + version + "/modules.builtin"
	if err := os.WriteFile(filepath.Join(dest, builtin), []byte(f.read(builtin)), 0o644); err != nil {
		f.t.Fatal(err)
	}
	return dest
}

// makeImage makes one boot image, as mkinitramfs would.
func (f *fake) makeImage(version string) {
	f.t.Helper()
	dest := f.skeleton(version)
	if _, err := os.Stat(f.path(hooks.InitramfsToolsPath)); err == nil {
		if out, err := f.hook(dest, version); err != nil {
			f.t.Fatalf("hook: %v\n%s", err, out)
		}
	}
	for from, to := range initramfs.Scripts() {
		text, err := os.ReadFile(f.path(from))
		if err != nil { // not installed
			continue
		}
		if err := os.MkdirAll(filepath.Join(dest, filepath.Dir(to)), 0o755); err != nil {
			f.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dest, to), text, 0o755); err != nil {
			f.t.Fatal(err)
		}
	}
	f.pack(dest, f.path("boot/initrd.img-"+version))
}

// hook runs the installed hook as mkinitramfs does, a failure of which would be one of mkinitramfs.
func (f *fake) hook(dest, version string) ([]byte, error) {
	f.t.Helper()
	text := f.read(hooks.InitramfsToolsPath)
	for old, rooted := range map[string]string{
		"functions=/usr/share/": "functions=$ROOT/usr/share/",
		"for conf in /etc/mdclone/*.conf; do\n\t\t[ -f \"$conf\" ] || continue\n": "for conf in \"$ROOT\"/etc/mdclone/*.conf; do\n\t\t[ -f \"$conf\" ] || continue; conf=${conf#\"$ROOT\"}\n",
	} {
		if !strings.Contains(text, old) {
			f.t.Fatalf("the hook has no %q, this test has to follow it", old)
		}
		text = strings.Replace(text, old, rooted, 1)
	}
	sh := exec.Command("sh", "-e", "-s")
	sh.Stdin = strings.NewReader(text)
	sh.Env = append(os.Environ(), "ROOT="+f.root, "DESTDIR="+dest, "version="+version)
	return sh.CombinedOutput()
}

// pack makes a compressed archive of a folder.
func (f *fake) pack(dir, image string) {
	f.t.Helper()
	var records []cpio.Record
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		if err != nil || name == "" {
			return err
		}
		switch d.Type() {
		case fs.ModeDir:
			records = append(records, cpio.Directory(name, 0o755))
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			records = append(records, cpio.Symlink(name, target))
			return err
		default:
			data, err := os.ReadFile(path)
			info, infoErr := d.Info()
			if err = errors.Join(err, infoErr); err != nil {
				return err
			}
			records = append(records, cpio.StaticFile(name, string(data), uint64(info.Mode().Perm())))
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		f.t.Fatal(err)
	}
	w := cpio.Newc.Writer(z)
	err = errors.Join(cpio.WriteRecords(w, records), cpio.WriteTrailer(w), z.Close(), os.WriteFile(image, b.Bytes(), 0o644))
	if err != nil {
		f.t.Fatal(err)
	}
}

// tree is everything below the root, but for the boot images: path, type, permissions, content.
func (f *fake) tree() map[string]string {
	f.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(f.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(filepath.Base(path), "initrd.img-") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var text string
		switch d.Type() {
		case 0:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(data)
		case fs.ModeSymlink:
			if text, err = os.Readlink(path); err != nil {
				return err
			}
		}
		all[strings.TrimPrefix(path, f.root)] = info.Mode().String() + " " + text
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return all
}
