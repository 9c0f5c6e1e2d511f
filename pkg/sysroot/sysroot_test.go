package sysroot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestMerged(t *testing.T) {
	for in, want := range map[string]string{
		"/sbin/x": "usr/sbin/x", "bin/x": "usr/bin/x", "/lib64/ld.so": "usr/lib64/ld.so", "/lib": "usr/lib",
		"/usr/bin/x": "usr/bin/x", "/library/x": "library/x", "/etc/../init": "init",
	} {
		if got := Merged(in); got != want {
			t.Errorf("Merged(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestFind(t *testing.T) {
	tree := t.TempDir()
	for _, dir := range []string{"usr/bin", "sbin"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "usr/bin/real"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, to := range map[string]string{
		"sbin/absolute": "/usr/bin/real", "usr/bin/relative": "../../sbin/absolute", "usr/bin/dangling": "/no", "usr/bin/loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(tree, path)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"usr/bin/real", "sbin/absolute", "usr/bin/relative"} {
		found, real, err := Find(tree, "usr/bin/none", path)
		if found != path || real != "usr/bin/real" || err != nil {
			t.Errorf("Find(%q) = %q, %q, %v; want it, and usr/bin/real", path, found, real, err)
		}
	}
	for _, path := range []string{"usr/bin/none", "usr/bin/dangling", "usr/bin/loop"} {
		if found, real, err := Find(tree, path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Find(%q) = %q, %q, %v; want that it does not exist", path, found, real, err)
		}
	}
}
