package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mdclone/pkg/report"
)

// call runs the program and returns its exit code and what it printed.
func call(t *testing.T, args ...string) (code report.Code, stdout, stderr string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out bytes.Buffer
	code = run(args, strings.NewReader(""), &out, file)
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, out.String(), string(text)
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args   []string
		code   report.Code
		stdout string // must be in it
		stderr string
	}{
		{[]string{"--help"}, report.Done, "EXIT STATUS", ""},
		{[]string{"backup", "--help"}, report.Done, "--offline", ""},
		{[]string{"--version"}, report.Done, "mdclone-early ", ""},
		{nil, report.Usage, "", "specify"},
		{[]string{"bakcup"}, report.Usage, "", "hint: see mdclone-early --help"},
		{[]string{"adopt"}, report.Usage, "", "ARRAY"},
		{[]string{"adopt", "", "/dev/none"}, report.Usage, "", "are wanted"}, // a variable that is not set
		{[]string{"adopt", "/dev/none", "/dev/none", "--chunk", "3M"}, report.Usage, "", "power of two"},
		{[]string{"adopt", "/dev/none", "/dev/none", "--chunk", ""}, report.Usage, "", "power of two"},
		{[]string{"adopt", "/dev/none", "/dev/none", "--name", "../x"}, report.Usage, "", "--name"},
		{[]string{"backup", "--wait", "soon"}, report.Usage, "", "wait"},
		{[]string{"backup", "--wait=-5s"}, report.Usage, "", "negative"},
		{[]string{"backup", "--verify", "some"}, report.Usage, "", "none, changed or full"},
		{[]string{"backup", "--bad"}, report.Usage, "", "hint: see mdclone-early backup --help"},
		{[]string{"backup", "a", "b"}, report.Usage, "", "unexpected argument \"b\""},
		{[]string{"pin", "--max-sectors-kb", "3"}, report.Usage, "", "--max-sectors-kb"},
		{[]string{"backup", "/dev/no-such-array"}, report.Usage, "", "no running array"},
	} {
		code, stdout, stderr := call(t, test.args...)
		if code != test.code || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q; want %d, %q, %q", test.args, code, stdout, stderr, test.code, test.stdout, test.stderr)
		}
		for _, line := range strings.Split(strings.TrimSpace(stderr), "\n") {
			if line != "" && !strings.HasPrefix(line, "mdclone: ") {
				t.Errorf("%q: stderr has a line without its prefix: %q", test.args, line)
			}
		}
	}
}

func TestOneJSONObjectAlsoWhenItFails(t *testing.T) {
	for _, args := range [][]string{
		{"backup", "/dev/no-such-array"},
		{"check", "/dev/no-such-drive"},
		{"adopt", "/dev/none", "/dev/none"},
		{"no-such-command"},
		{},
		{"check"},
		{"check", "a", "b", "c"},
		{"backup", "--no-such-option"},
		{"backup", "--verify", "some"},
	} {
		code, stdout, _ := call(t, append(args, "--json")...)
		var got failure
		d := json.NewDecoder(strings.NewReader(stdout))
		if err := d.Decode(&got); err != nil || d.More() {
			t.Errorf("%q: stdout is %q; want one JSON object (%v)", args, stdout, err)
		}
		if code != report.Usage || got.Result != "failed" || len(got.Reasons) == 0 {
			t.Errorf("%q: exit code %d, %+v; want %d, failed, and a reason", args, code, got, report.Usage)
		}
	}
}

func TestWhatIsNoDriveIsAUsageError(t *testing.T) {
	dir := t.TempDir()
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, path := range []string{dir, socket.Addr().String(), "/dev/null", "/proc/version", "", "/dev/\x1b[2J\n%s"} {
		for _, args := range [][]string{{"check", path}, {"adopt", path, path}} {
			code, stdout, stderr := call(t, args...)
			if code != report.Usage || stdout != "" || strings.Count(stderr, "\n") < 1 || strings.ContainsAny(stderr, "\x1b") {
				t.Errorf("%q: exit code %d, stdout %q, stderr %q; want %d and an error", args, code, stdout, stderr, report.Usage)
			}
		}
	}
}

func TestPinOfADeviceThatIsNoneOfOursIsSilent(t *testing.T) {
	if code, stdout, stderr := call(t, "pin", "--export", "/dev/null"); code != report.Done || stdout != "" || stderr != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 0 and silence", code, stdout, stderr)
	}
}

func TestParseChunk(t *testing.T) {
	for text, want := range map[string]uint64{"auto": 0, "64K": 64 << 10, "1M": 1 << 20, "1G": 1 << 30, "4096": 4096} {
		if got, err := parseChunk(text); got != want || err != nil {
			t.Errorf("parseChunk(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "K", "2K", "3M", "2G", "-1M", "1T", "1.5M", "99999999999G"} {
		if got, err := parseChunk(text); err == nil {
			t.Errorf("parseChunk(%q) = %d; want an error", text, got)
		}
	}
}
