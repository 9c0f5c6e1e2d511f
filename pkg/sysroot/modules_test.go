package sysroot

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestKernels(t *testing.T) {
	tree := filepath.Join(t.TempDir(), "a[1]*") // which is no pattern
	want := []string{"6.1.0-50-amd64", "6.1.0-9-amd64"}
	for _, dir := range []string{"lib/modules", "usr/lib/modules"} { // the second is asked first
		for _, release := range want {
			if err := os.MkdirAll(filepath.Join(tree, dir, release), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := Kernels(tree); !slices.Equal(got, want) || err != nil {
			t.Errorf("Kernels() with %s = %q, %v; want %q", dir, got, err, want)
		}
	}
	if got, err := Kernels(t.TempDir()); len(got) > 0 || err != nil {
		t.Errorf("Kernels() of nothing = %q, %v; want none", got, err)
	}
	if err := os.WriteFile(filepath.Join(tree, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Kernels(filepath.Join(tree, "file")); err == nil {
		t.Error("Kernels() of a file: no error")
	}
}
