package clone

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mdclone/pkg/report"
)

// TestMain makes the test's program the guard too, as the first process starts itself anew for it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == GuardCommand {
		err := Guard(os.Args[2:], os.Stdin, os.Stdout)
		report.Log{W: os.Stderr}.Fail(err)
		os.Exit(int(report.CodeOf(err))) //nolint:forbidigo // the guard's end is its exit code
	}
	m.Run()
}

func TestGuardError(t *testing.T) {
	broken := errors.New("exit status 1")
	for _, test := range []struct {
		name, said string
		err        error
		want       string
	}{
		{"it went well", "", nil, ""},
		{"it said something, and went well", "mdclone: warning: slow\n", nil, ""},
		{"killed", "", errors.New("signal: killed"), "guard thaw: signal: killed"},
		{"an error", "mdclone: error: thaw: read-only file system\n", broken, "guard thaw: thaw: read-only file system: exit status 1"},
		{"two, one cut short", "mdclone: error: a\nmdclone: error: b", broken, "guard thaw: a: b: exit status 1"},
		{"a panic", "panic: x\n", broken, "guard thaw: panic: x: exit status 1"},
	} {
		err := guardError("thaw", test.said, test.err)
		if got := errorText(err); got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: guardError() = %q; want %q", test.name, got, test.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestGuardSays fails if what a guard could not do, or why it does not begin, is not in the error.
func TestGuardSays(t *testing.T) {
	_, err := startGuard("write", filepath.Join(t.TempDir(), "none"), "x")
	if strings.Contains(errorText(err), "mlockall") { // only root may lock that much: it says so
		return
	}
	if !strings.Contains(errorText(err), "none: no such file") {
		t.Errorf("startGuard() = %v; want it to name the file that is not there", err)
	}
	g, err := startGuard("write", "/dev/full", "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.end(); !strings.Contains(errorText(err), "no space left") {
		t.Errorf("end() = %v; want what the guard said", err)
	}
}
