package clone

import (
	"strings"
	"testing"

	"mdclone/pkg/report"
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

// TestNoRefusal: the exit code of a refusal says that nothing was changed.
func TestNoRefusal(t *testing.T) {
	for _, test := range []struct {
		acted bool
		err   error
		want  report.Code
	}{
		{false, nil, report.Done},
		{true, nil, report.Done},
		{false, report.Fail(report.Refused, "spares", "x"), report.Refused},
		{true, report.Fail(report.Refused, "spares", "x"), report.Failed},
		{true, report.Fail(report.Interrupted, "interrupted", "x"), report.Interrupted},
	} {
		s := session{acted: test.acted}
		err := s.noRefusal(test.err)
		if got := report.CodeOf(err); got != test.want || len(report.ReasonsOf(err)) != len(report.ReasonsOf(test.err)) {
			t.Errorf("noRefusal(%v) after a change (%v) = %v, exit code %d; want %d, and the same reasons", test.err, test.acted, err, got, test.want)
		}
	}
}
