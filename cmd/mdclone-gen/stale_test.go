package main

import (
	"io"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/hooks"
	"mdclone/pkg/report"
)

func TestIsTemporary(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		".63-mdclone.rules5577006791947779410": true, ".63-mdclone.rules": false, "63-mdclone.rules5": false, ".63-mdclone.rules.5": false,
		".63-mdclone.rules5.bak": false, ".64-mdclone.rules5": false,
	} {
		if got := isTemporary(name, "63-mdclone.rules"); got != want {
			t.Errorf("isTemporary(%q) = %v; want %v", name, got, want)
		}
	}
}

// TestTemporaryFilesGo: what an interrupted install has left gets into no boot image, and keeps no uninstall from being done.
func TestTemporaryFilesGo(t *testing.T) {
	t.Parallel()
	f := newFake(t).withGrub()
	f.run(0, "install")
	installed := f.tree()
	litter := func() {
		for _, name := range []string{
			"usr/lib/udev/rules.d/.63-mdclone.rules123", "usr/share/initramfs-tools/hooks/.mdclone4", "etc/grub.d/.42_mdclone5", "usr/sbin/.mdclone-early6",
			"usr/share/initramfs-tools/scripts/init-premount/.mdclone7", "boot/.mdclone-state.img8", "var/lib/mdclone/.installed9",
			"boot/initrd.img-5.10" + newSuffix,
		} {
			f.write(name, "half")
		}
	}
	litter()
	f.write("usr/lib/udev/rules.d/.64-mdclone.rules5", "somebody's")
	f.run(0, "install")
	f.says(&f.stderr, f.path("usr/lib/udev/rules.d/.63-mdclone.rules123")+" is removed: a run that was ended has left it")
	if got := f.read("usr/lib/udev/rules.d/.64-mdclone.rules5"); got != "somebody's" {
		t.Errorf("somebody's file has %q", got)
	}
	f.remove("usr/lib/udev/rules.d/.64-mdclone.rules5")
	if diff := cmp.Diff(installed, f.tree()); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if (machine{root: f.root}).exists("boot/initrd.img-5.10" + newSuffix) {
		t.Error("the new image of a kernel that is gone is left")
	}
	litter()
	f.run(0, "uninstall")
	for name := range f.tree() {
		if base := path.Base(name); strings.HasPrefix(base, ".") && strings.Contains(base, "mdclone") {
			t.Errorf("%s is left", name)
		}
	}
}

// TestInterrupted: between two steps it ends, says so, and can be repeated.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	f := newFake(t).withGrub()
	before := f.tree()
	for _, command := range []string{"install", "uninstall"} {
		done := make(chan struct{})
		f.app.done = done
		f.app.command = func(root, name string, args ...string) error {
			err := f.command(root, name, args...)
			if name == "/"+updateInitramfs {
				close(done)
			}
			return err
		}
		f.ran = nil
		f.run(130, command)
		f.says(&f.stderr, "error: interrupted")
		if len(f.ran) != 1 {
			t.Errorf("%s ran %q; want no more after the signal", command, f.ran)
		}
		f.app.done, f.app.command = nil, f.command
		f.run(0, command)
	}
	if diff := cmp.Diff(before, f.tree()); diff != "" {
		t.Errorf("uninstall leaves (-before +after):\n%s", diff)
	}
	done := make(chan struct{})
	close(done)
	f.app.done = done
	f.run(130, "install")
	for _, name := range []string{earlyPath, hooks.GrubPath} {
		if (machine{root: f.root}).exists(name) {
			t.Errorf("%s is written after the signal", name)
		}
	}
}

// TestInterruptedQuestion: a signal ends what waits for somebody to answer.
func TestInterruptedQuestion(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	stdin, typed := io.Pipe()
	defer func() { _ = typed.Close() }()
	done := make(chan struct{})
	close(done)
	f.app.stdin, f.app.done = stdin, done
	f.app.terminal = func() bool { return true }
	c := bootOnceCommand{app: f.app}
	if err := c.reboot(machine{root: "/"}); report.CodeOf(err) != report.Interrupted || len(f.ran) > 0 {
		t.Errorf("reboot() = %v, ran %q; want it interrupted", err, f.ran)
	}
}

// TestInterruptedRescue: nothing is written any more, and nothing of a medium is left.
func TestInterruptedRescue(t *testing.T) {
	t.Parallel()
	f := newFake(t).withRescue()
	f.mkdir("tmp")
	for _, program := range []string{mkrescue, "usr/bin/xorriso", "usr/bin/mformat"} {
		f.write(program, "stands for it")
	}
	before := f.tree()
	done := make(chan struct{})
	f.app.done = done
	f.app.command = func(_, _ string, args ...string) error {
		close(done)
		return os.WriteFile(f.path(strings.TrimPrefix(args[0], "--output=")), []byte("medium"), 0o644)
	}
	f.run(130, "rescue", "--kernel", kernel, "--output", f.path("x.img"), "--iso", f.path("x.iso"), "--json")
	f.says(&f.stdout, `"result": "interrupted"`)
	if diff := cmp.Diff(before, f.tree()); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}
