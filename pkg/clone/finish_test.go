package clone

import (
	"strings"
	"testing"
)

func TestOutAlready(t *testing.T) {
	for is, want := range map[State]string{
		Stale:       "root: /dev/vdc is not in the array",
		Interrupted: "root: /dev/vdc is not in the array, and is no complete clone: the next backup copies the rest",
	} {
		r := Result{Array: "root", Device: "/dev/vdc", Mode: "none", Reasons: outAlready("vdc", "md0", is)}
		if got := r.Summary(); got != want || !strings.Contains(r.Reasons[0].Text, string(is)) {
			t.Errorf("%s: %q, %v; want %q, and what it is", is, got, r.Reasons, want)
		}
	}
}

func TestWayOut(t *testing.T) {
	for code, want := range map[string]string{
		"mismatch": "verify --repair", "repair-source": "detach --verify none --clone /dev/vdc", "last-copy": "", "last-primary": "",
		"bad-blocks": "once no member has bad blocks", "check-stopped": "mdclone-early detach takes it out",
	} {
		if got := wayOut(code, "/dev/vdc"); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("wayOut(%s) = %q; want %q in it", code, got, want)
		}
	}
}
