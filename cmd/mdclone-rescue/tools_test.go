package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/interp"

	"mdclone/pkg/report"
)

// call runs the program by one of its names.
func call(t *testing.T, input string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = run(append([]string{"/usr/bin/" + args[0]}, args[1:]...), 100, streams{strings.NewReader(input), &out, &err})
	return status, out.String(), err.String()
}

func TestTools(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("one\ntwo\nThree\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		input  string
		args   []string
		want   string
		status int
	}{
		{"", []string{"cat", file}, "one\ntwo\nThree\n", 0},
		{"", []string{own, "cat", file}, "one\ntwo\nThree\n", 0},
		{"", []string{"ls", dir}, "file\n", 0},
		{"", []string{"grep", "t", file}, "two\n", 0},
		{"", []string{"grep", "-i", "^t", file}, "two\nThree\n", 0},
		{"a\nb\n", []string{"grep", "-v", "a"}, "b\n", 0},
		{"a\nb\n", []string{"grep", "c"}, "", 1},
		{"", []string{"head", "-n", "2", file}, "one\ntwo\n", 0},
		{"", []string{"head", "-n", "0", file}, "", 0},
		{"a\nb", []string{"tail", "-n", "1"}, "b\n", 0},
		{"", []string{"hexdump", "-s", "4", "-n", "3", file}, "00000004  74 77 6f" + strings.Repeat(" ", 42) + "|two|\n", 0},
		{"", []string{"dd", "if=" + file, "bs=4", "skip=1", "count=1"}, "two\n", 0},
		{"", []string{"dd", "nonsense=1"}, "", 2},
		{"", []string{"sh", "-c", "for i in 1 2; do echo $i-$1; done; false", "x"}, "1-x\n2-x\n", 1},
		{"echo a | { read x; echo got $x; }", []string{"sh"}, "got a\n", 0},
		{"", []string{"sh", "-c", "exit 7"}, "", 7},
		{"", []string{"sh", "-c", "if"}, "", 1},
		{"", []string{"no-such-tool"}, "", 2},
		{"", []string{"modprobe"}, "", 2},
		{"", []string{"kill", "-NOSUCH", "1"}, "", 2},
		{"", []string{"reboot", "now"}, "", 2},
		{"", []string{"cat", filepath.Join(dir, "none")}, "", 1},
	} {
		status, out, said := call(t, test.input, test.args...)
		if status != test.status || out != test.want {
			t.Errorf("%q = %d, %q, says %q; want %d, %q", test.args, status, out, said, test.status, test.want)
		}
		if status > 1 && status != 7 && said == "" {
			t.Errorf("%q = %d says nothing", test.args, status)
		}
	}
}

// TestInteractive: whatever goes wrong in a line, and Ctrl-C, ends that line alone.
func TestInteractive(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	if err := os.WriteFile(none, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	s := streams{strings.NewReader(fmt.Sprintf(`echo one; false
if; echo not this
%s; echo nor this
for i in 2 3
do echo $i
done
/bin/sh -c 'kill -INT %d; exec sleep 600'; echo nor this
echo four; exit 5
echo too late
`, none, os.Getpid())), &out, &said}
	r, err := interp.New(interp.StdIO(nil, s.out, s.err), interp.Dir("/"))
	if err != nil {
		t.Fatal(err)
	}
	err = interactive(r, s)
	var exit interp.ExitStatus
	if !errors.As(err, &exit) || exit != 5 {
		t.Errorf("interactive() = %v; want exit status 5", err)
	}
	if got, want := strings.NewReplacer("/ # ", "", "> ", "").Replace(out.String()), "one\n2\n3\n\nfour\n"; got != want {
		t.Errorf("stdout: %q; want %q\n%s", got, want, &said)
	}
}

// TestDdWrites: in the middle of what is there, and no more.
func TestDdWrites(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, []byte("0123456789"), 0o644); err != nil {
		t.Fatal(err)
	}
	status, _, said := call(t, "abcdef", "dd", "of="+file, "bs=2", "seek=1", "count=2")
	if status != 0 || !strings.Contains(said, "4 bytes") {
		t.Errorf("dd = %d, %q", status, said)
	}
	if got, err := os.ReadFile(file); string(got) != "01abcd6789" || err != nil {
		t.Errorf("the disk has %q, %v; want 01abcd6789", got, err)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"512": 512, "0x10": 16, "4k": 4096, "1M": 1 << 20, "2G": 2 << 30} {
		if got, err := size(text); got != want || err != nil {
			t.Errorf("size(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1T", "99999999999G", "k"} {
		if got, err := size(text); err == nil {
			t.Errorf("size(%q) = %d; want an error", text, got)
		}
	}
}

// TestPick: by number or word, and nothing else; none of them twice.
func TestPick(t *testing.T) {
	t.Parallel()
	for _, c := range choices() {
		for _, line := range []string{c.key, c.word, " " + strings.ToUpper(c.word) + "\r"} {
			if got, ok := pick(line); !ok || got.key != c.key {
				t.Errorf("pick(%q) = %q, %v; want %q", line, got.key, ok, c.key)
			}
		}
	}
	for _, line := range []string{"", "0", "7", "clon", "1 2"} {
		if got, ok := pick(line); ok {
			t.Errorf("pick(%q) = %q; want none", line, got.word)
		}
	}
}

func TestReadLine(t *testing.T) {
	t.Parallel()
	in := strings.NewReader("one\ntwo")
	if line, err := readLine(in); line != "one" || err != nil {
		t.Errorf("readLine() = %q, %v", line, err)
	}
	if in.Len() != len("two") {
		t.Errorf("%d bytes are left; want what comes after the line", in.Len())
	}
	if line, err := readLine(in); line != "two" || err == nil {
		t.Errorf("readLine() = %q, %v; want the end", line, err)
	}
}

func TestTerminals(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if got := terminals(root); len(got) != 1 || got[0] != "/dev/console" {
		t.Errorf("terminals() = %q without any", got)
	}
	path := filepath.Join(root, "sys/class/tty/console")
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "active"), []byte("tty1 tty0 ttyS0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(terminals(root), " "); got != "/dev/tty1 /dev/ttyS0" {
		t.Errorf("terminals() = %q", got)
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	ttys := []string{"/dev/tty1", "/dev/ttyS0"}
	for _, test := range []struct {
		menus map[string]int
		ended map[int]bool
		want  string
	}{
		{nil, nil, "/dev/tty1 /dev/ttyS0"},
		{map[string]int{"/dev/tty1": 7}, nil, "/dev/ttyS0"}, // none could be started on the other
		{map[string]int{"/dev/tty1": 7, "/dev/ttyS0": 8}, map[int]bool{6: true}, ""},
		{map[string]int{"/dev/tty1": 7, "/dev/ttyS0": 8}, map[int]bool{7: true}, "/dev/tty1"},
	} {
		if got := strings.Join(due(ttys, test.menus, test.ended), " "); got != test.want {
			t.Errorf("due(%v, %v) = %q; want %q", test.menus, test.ended, got, test.want)
		}
	}
}

// TestInstall: every tool by its name, but for what the image has as a program of its own.
func TestInstall(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, dir := range []string{"usr/bin", "usr/sbin"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := install(root); err != nil {
			t.Fatal(err)
		}
	}
	for name := range tools() {
		dir := "usr/bin"
		if name == "modprobe" {
			dir = "usr/sbin"
		}
		if to, err := os.Readlink(filepath.Join(root, dir, name)); to != "/usr/sbin/"+own || err != nil {
			t.Errorf("%s is %q, %v", name, to, err)
		}
	}
}

// TestWrongKernel: an image that is started with another kernel says so.
func TestWrongKernel(t *testing.T) {
	t.Parallel()
	err := loadListed(t.TempDir())
	if reasons := report.ReasonsOf(err); len(reasons) != 1 || reasons[0].Code != "wrong-kernel" {
		t.Errorf("loadListed() = %v; want that the kernel is the wrong one", err)
	}
}
