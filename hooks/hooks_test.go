package hooks_test

import (
	"bytes"
	"os/exec"
	"path"
	"regexp"
	"testing"

	"mdclone/hooks"
)

// TestDiskModules: both generators are given the drivers of the clone, whatever is loaded.
func TestDiskModules(t *testing.T) {
	scripts := hooks.Dracut()
	scripts[hooks.InitramfsToolsPath] = hooks.InitramfsTools()
	found := 0
	for name, text := range scripts {
		if bytes.Contains(text, []byte("@disk-modules@")) {
			t.Errorf("%s has a placeholder left:\n%s", name, text)
		}
		if bytes.Contains(text, []byte(" usb_storage uas ")) {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d scripts add the drivers; want 2", found)
	}
}

// TestInitramfsTools checks what initramfs-tools(7) asks of a hook; what it does is tested with mdclone-gen.
func TestInitramfsTools(t *testing.T) {
	if name := path.Base(hooks.InitramfsToolsPath); !regexp.MustCompile(`^[[:alnum:]._-]+$`).MatchString(name) {
		t.Errorf("initramfs-tools does not run a hook called %q", name)
	}
	text := hooks.InitramfsTools()
	if !bytes.HasPrefix(text, []byte("#!/bin/sh\n")) {
		t.Errorf("first line is %q", bytes.SplitN(text, []byte("\n"), 2)[0])
	}
	text[0] = 'x'
	if hooks.InitramfsTools()[0] != '#' {
		t.Error("a caller can change the hook for all others")
	}
	sh := exec.Command("sh", "-eu", "-s", "prereqs")
	sh.Stdin = bytes.NewReader(hooks.InitramfsTools())
	if out, err := sh.Output(); err != nil || string(out) != "\n" {
		t.Errorf("prereqs: %q, %v; want an empty line", out, err)
	}
	syntax := exec.Command("sh", "-n", "-s")
	syntax.Stdin = bytes.NewReader(hooks.InitramfsTools())
	if out, err := syntax.CombinedOutput(); err != nil {
		t.Errorf("sh -n: %v\n%s", err, out)
	}
}
