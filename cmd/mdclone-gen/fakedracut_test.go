package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// dracutFunctions stands for dracut-functions.sh, with what the module uses. ROOT is the machine's root.
const dracutFunctions = `
inst_simple() {
	[ -f "$ROOT${1#"$ROOT"}" ] || return 1
	mkdir -p "$initdir${2:-$1}"
	rmdir "$initdir${2:-$1}" 2>/dev/null
	cp -p "$ROOT${1#"$ROOT"}" "$initdir${2:-$1}"
}
inst_multiple() { :; }
inst_hook() { inst_simple "$3" "/var/lib/dracut/hooks/$1/$2-${3##*/}"; }
instmods() {
	for name in "$@"; do
		for file in "$ROOT"/lib/modules/"$kernel"/kernel/drivers/*/"$name".ko; do
			[ ! -e "$file" ] || [ "$hostonly" ] || inst_simple "${file#"$ROOT"}" || return 1
		done
	done
}
dwarn() { echo "dracut: $*" >&2; }
dracut_need_initqueue() { :; }
`

// newFakeDracut is newFake with dracut as Debian 13 has it.
func newFakeDracut(t testing.TB) *fake {
	t.Helper()
	f := newFake(t)
	f.remove(updateInitramfs)
	f.remove(hookFunctions)
	f.remove(filepath.Dir(hookFunctions))
	f.write(dracutProgram, "stands for it")
	f.write(dracutFunctionsPath, dracutFunctions)
	return f
}

// dracut is that of Debian 13: it writes over the image that is there, and removes it if it fails.
func (f *fake) dracut(version, image string) error {
	f.t.Helper()
	if f.fail != nil && (f.failAt == "" || f.failAt == version) {
		f.write(image, "half")
		f.remove(image)
		return f.fail
	}
	f.makeDracutImage(version, image)
	if f.cut {
		f.write(image, f.read(image)[:200])
	}
	return nil
}

// makeDracutImage makes one boot image, as dracut would.
func (f *fake) makeDracutImage(version, image string) {
	f.t.Helper()
	dest := f.skeleton(version)
	for _, dir := range []string{"usr/lib/dracut", "var/lib/dracut/hooks"} {
		if err := os.MkdirAll(filepath.Join(dest, dir), 0o755); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := os.Symlink("/var/lib/dracut/hooks", filepath.Join(dest, "usr/lib/dracut/hooks")); err != nil {
		f.t.Fatal(err)
	}
	if out, err := f.module(dest, version); err != nil {
		f.t.Fatalf("module-setup.sh: %v\n%s", err, out)
	}
	f.pack(dest, f.path(image))
}

// module runs the installed module as dracut does.
func (f *fake) module(dest, version string) ([]byte, error) {
	const script = `. "$ROOT/usr/lib/dracut/dracut-functions.sh"
		moddir=$ROOT/usr/lib/dracut/modules.d/70mdclone
		[ -e "$moddir/module-setup.sh" ] || exit 0
		. "$moddir/module-setup.sh"
		check || exit $(($? != 255))
		[ "$(depends)" = mdraid ] || exit 9
		installkernel; install`
	sh := exec.Command("bash", "-c", script)
	sh.Env = append(os.Environ(), "ROOT="+f.root, "dracutsysrootdir="+f.root, "initdir="+dest, "kernel="+version, "hostonly=y")
	return sh.CombinedOutput()
}
