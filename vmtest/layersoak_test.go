//go:build vmtest && soak

package vmtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mdclone/vmtest/vm"
)

// TestLayer tests that a machine boots from what was done in it before, and that its base stays as it was.
func TestLayer(t *testing.T) {
	t.Parallel()
	l := Lab(t)
	base, err := l.Machine(t.Context(), "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	done, err := l.Layer(t.Context(), vm.Layer{
		Name: "layer-test", Base: base, Key: t.TempDir() /* made anew each time */, Clones: []string{"clone"},
		Do: func(ctx context.Context, v *vm.VM, dir string) error {
			r, err := v.Sh(ctx, "echo done > /root/done; echo mark > /dev/vdc; sync; uname -r")
			if err == nil {
				err = r.Err()
			}
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "note"), []byte(r.Stdout), 0o600)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if note, err := os.ReadFile(filepath.Join(done.Dir, "note")); strings.TrimSpace(string(note)) != base.Release {
		t.Errorf("the layer's note = %q, %v; want %s", note, err, base.Release)
	}
	m := BootMachine(t, l, done, nil)
	if got, want := m.Script("cat /root/done; head -c 4 /dev/vdc"), "done\nmark"; got != want {
		t.Errorf("in the layer: %q; want %q", got, want)
	}
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	m = BootMachine(t, l, base, nil)
	if r := m.Try("test", "-e", "/root/done"); r.Code != 1 {
		t.Errorf("in the base: /root/done is there; want it not to be")
	}
}
