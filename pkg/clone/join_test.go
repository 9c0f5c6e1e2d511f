package clone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAwaitSlot: what makes the wait for a slot pointless ends it at once.
func TestAwaitSlot(t *testing.T) {
	const spare, in, failed = "spare none", "in_sync 1", "faulty,in_sync 0"
	for name, test := range map[string]struct {
		state, primary, clone string // array_state; flags and slot
		slot                  int
		want                  string // reason code
	}{
		"it has one":                 {"clean", in, "write_mostly 2", 2, ""},
		"it failed":                  {"clean", in, "faulty none", -1, "drive-failed"},
		"the last primary failed":    {"clean", failed, spare, -1, "last-primary"},
		"the last one keeps its own": {"broken", in, spare, -1, "last-primary"},
	} {
		e, a := fakeEnv(t)
		files := map[string]string{"array_state": test.state}
		for drive, is := range map[string]string{"a": test.primary, "c": test.clone} {
			flags, slot, _ := strings.Cut(is, " ")
			files["dev-"+drive+"/state"], files["dev-"+drive+"/slot"] = flags, slot
		}
		for name, text := range files {
			path := a.FS.Path(a.Attr(name))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s := &session{Target: &Target{env: e, Array: a}, drive: Drive{Name: "c"}, peers: []string{"a"}}
		slot, err := s.awaitSlot()
		if code := reasonCode(err); slot != test.slot || code != test.want {
			t.Errorf("%s: awaitSlot() = %d, %v; want %d, %q", name, slot, err, test.slot, test.want)
		}
		s.result = &Result{}
		if _ = s.finish(t.Context(), err); !s.result.Attached {
			t.Errorf("%s: it is in the array, and the account says that it is not", name)
		}
	}
}
