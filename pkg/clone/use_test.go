package clone

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOpeners(t *testing.T) {
	e, _ := fakeEnv(t)
	for process, files := range map[string][]string{"7": {"/dev/vdb", "/dev/vdc1"}, "149": {"/dev/null", "/dev/vdc"}, "150": {"/dev/vdc", "/dev/vdc"}} {
		dir := filepath.Join(e.Root, "proc", process)
		if err := os.MkdirAll(filepath.Join(dir, "fd"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte("program\x00of\x00"+process+"\x00"), 0o644); err != nil {
			t.Fatal(err)
		}
		for i, f := range files {
			if err := os.Symlink(f, filepath.Join(dir, "fd", string(rune('0'+i)))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for path, want := range map[string]string{
		"/dev/vda": "",
		"/dev/vdb": ": program of 7 (process 7)",
		"/dev/vdc": ": program of 149 (process 149), program of 150 (process 150)",
	} {
		if got := e.openers(path); got != want {
			t.Errorf("openers(%s) = %q; want %q", path, got, want)
		}
	}
}
