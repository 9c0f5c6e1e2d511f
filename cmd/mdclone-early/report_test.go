package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/pkg/report"
)

// full is a stdout on a device that has no room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestVerdictOutlivesStdout: what could not be printed is said beside what was found, and does not replace it.
func TestVerdictOutlivesStdout(t *testing.T) {
	p := &program{stdout: full{}}
	no := &clone.Checked{Verdict: clone.Verdict{State: clone.Foreign, Reasons: []report.Reason{{Code: "other-array", Text: "of another"}}}}
	yes := &clone.Checked{Verdict: clone.Verdict{State: clone.Stale, Admit: true}}
	check, pin := &checkCommand{program: p}, &pinCommand{program: p}
	absent := report.Fail(report.NoDrive, "absent", "gone")
	for _, test := range []struct {
		name string
		err  error
		code report.Code
		says []string // reasons
	}{
		{"check, refused", check.conclude(no), report.Refused, []string{"of another", "no space"}},
		{"check, may join", check.conclude(yes), report.Failed, []string{"no space"}},
		{"pin, one failed", pin.conclude(report.NoDrive, nil, []error{absent}, "x"), report.NoDrive, []string{"gone", "no space"}},
		{"pin", pin.conclude(report.Done, nil, nil, "x"), report.Failed, []string{"no space"}},
	} {
		reasons := report.ReasonsOf(test.err)
		ok := report.CodeOf(test.err) == test.code && len(reasons) == len(test.says)
		for i, r := range reasons {
			ok = ok && strings.Contains(r.Text, test.says[i])
		}
		if !ok {
			t.Errorf("%s: code %d, %v; want %d, %q", test.name, report.CodeOf(test.err), reasons, test.code, test.says)
		}
	}
}

func TestFailureOutlivesStdout(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if code := run([]string{"check", "/dev/no-such-drive", "--json"}, strings.NewReader(""), full{}, file); code != report.Usage {
		t.Errorf("exit code %d; want %d, that of what went wrong first", code, report.Usage)
	}
}

// TestCheckWithoutAnArray: what the drive tells is a verdict, with a state.
func TestCheckWithoutAnArray(t *testing.T) {
	out, text := accountOf(&clone.Checked{Drive: clone.Drive{Path: "/dev/vde"}, Verdict: clone.Verdict{State: clone.Foreign}})
	if out.State != clone.Foreign || out.Result != "refused" || out.CopyBytes != nil || text != "/dev/vde: foreign\n" {
		t.Errorf("check: %+v, %q; want it foreign, and nothing said of a copy", out, text)
	}
}
