package report

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jessevdk/go-flags"
)

func TestFail(t *testing.T) {
	err := Fail(Refused, "in-use", "read %s: %w", "x", fs.ErrPermission).Hint("try %s", "sudo")
	if got := fmt.Sprint(err); got != "read x: permission denied" {
		t.Errorf("Error() = %q", got)
	}
	if !errors.Is(err, fs.ErrPermission) {
		t.Error("the cause is lost")
	}
	for _, test := range []struct {
		err  error
		want Code
	}{
		{nil, Done},
		{err, Refused},
		{fmt.Errorf("more: %w", err), Refused},
		{errors.New("x"), Failed},
		{errors.Join(Fail(Interrupted, "i", "i"), errors.New("x")), Interrupted},
	} {
		if got := CodeOf(test.err); got != test.want {
			t.Errorf("CodeOf(%v) = %d; want %d", test.err, got, test.want)
		}
	}
}

func TestReasonsOfJoinedErrors(t *testing.T) {
	err := errors.Join(Fail(Failed, "a", "first"), errors.Join(errors.New("second"), Fail(Refused, "c", "third")))
	want := []Reason{{"a", "first"}, {"failed", "second"}, {"c", "third"}}
	if diff := cmp.Diff(want, ReasonsOf(err)); diff != "" {
		t.Errorf("ReasonsOf() (-want +got):\n%s", diff)
	}
	if got := ReasonsOf(nil); got == nil || len(got) != 0 {
		t.Errorf("ReasonsOf(nil) = %v; want an empty list, which JSON shows as []", got)
	}
}

func TestWorse(t *testing.T) {
	for _, test := range []struct{ a, b, want Code }{
		{Done, NoDrive, NoDrive},
		{Refused, NoDrive, Refused},
		{Failed, Refused, Failed},
		{Failed, Interrupted, Interrupted},
		{Done, Done, Done},
		{Differs, Failed, Differs},
	} {
		if got := Worse(test.a, test.b); got != test.want {
			t.Errorf("Worse(%d, %d) = %d; want %d", test.a, test.b, got, test.want)
		}
		if got := Worse(test.b, test.a); got != test.want {
			t.Errorf("Worse(%d, %d) = %d; want %d", test.b, test.a, got, test.want)
		}
	}
}

func TestLog(t *testing.T) {
	var w, k bytes.Buffer
	log := Log{W: &w, Kmsg: &k}
	log.Infof("copying\n")
	log.Warnf("slow")
	log.Fail(Fail(Refused, "x", "no").Hint("yes"))
	log.Infof("%s", strings.Repeat("x", 2000))
	want := "mdclone: copying\nmdclone: warning: slow\nmdclone: error: no\nmdclone: hint: yes\n"
	if got := w.String(); !strings.HasPrefix(got, want) {
		t.Errorf("stderr = %q; want %q", got, want)
	}
	for _, line := range strings.SplitAfter(k.String(), "\n") {
		if len(line) > 976 {
			t.Errorf("a kernel log line has %d bytes", len(line))
		}
	}
	if !strings.HasPrefix(k.String(), "<6>mdclone: copying\n<4>mdclone: warning: slow\n<3>") {
		t.Errorf("kernel log = %.80q", k.String())
	}
	Log{}.Infof("nobody hears this")
}

func TestProgressWithoutATerminal(t *testing.T) {
	var w bytes.Buffer
	now := time.Unix(0, 0)
	p := &Progress{w: &w, now: func() time.Time { return now }}
	p.Start("copying")
	const total = 1000 << 20
	for s := 1; s <= 100; s++ { // ten MiB a second
		now = now.Add(time.Second)
		p.Update(uint64(s)*10<<20, total, "")
	}
	p.Done()
	lines := strings.Split(strings.TrimSpace(w.String()), "\n")
	if len(lines) != 11 {
		t.Errorf("%d lines; want the first and one at each tenth:\n%s", len(lines), w.String())
	}
	want := "mdclone: copying [############............] 50% 500.0 MiB of 1000.0 MiB, 10.0 MiB/s, 50s left"
	if !strings.Contains(w.String(), want) {
		t.Errorf("no line %q in\n%s", want, w.String())
	}
	if strings.ContainsAny(w.String(), "\r\x1b") {
		t.Error("a log gets whole lines, not terminal codes")
	}
}

func TestProgressIsSilentOnWhatIsQuick(t *testing.T) {
	var w bytes.Buffer
	now := time.Unix(0, 0)
	p := &Progress{w: &w, bar: true, now: func() time.Time { return now }}
	p.Start("copying")
	now = now.Add(time.Second)
	p.Update(1, 2, "")
	p.Done()
	if w.Len() != 0 {
		t.Errorf("printed %q", w.String())
	}
	var none *Progress
	none.Start("x")
	none.Update(1, 2, "")
	none.Done()
}

func TestProgressOnATerminal(t *testing.T) {
	var w bytes.Buffer
	now := time.Unix(0, 0)
	p := &Progress{w: &w, bar: true, now: func() time.Time { return now }}
	p.Start("copying")
	for range 50 { // five seconds
		now = now.Add(100 * time.Millisecond)
		p.Update(5, 0, "delayed")
	}
	p.Done()
	if n := strings.Count(w.String(), "\r"); n < 10 || n > 20 {
		t.Errorf("drawn %d times in the three seconds after the first two; want five a second", n)
	}
	if !strings.HasSuffix(w.String(), "\r\x1b[K") {
		t.Errorf("the line is left behind: %q", w.String())
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 16 << 20: "16.0 MiB", 931 << 30: "931.0 GiB", 1 << 63: "8192.0 PiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q; want %q", n, got, want)
		}
	}
}

type command struct {
	err error
}

func (c *command) Execute(args []string) error {
	return errors.Join(NoMore(args), c.err)
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		args []string
		err  error
		want Code
		out  string // in stdout
		log  string // in stderr
	}{
		{[]string{"--help"}, nil, Done, "Usage:", ""},
		{[]string{"do"}, nil, Done, "", ""},
		{[]string{"do"}, Fail(NoDrive, "absent", "gone"), NoDrive, "", "mdclone: error: gone"},
		{[]string{"do", "more"}, nil, Usage, "", "unexpected argument"},
		{[]string{"nothing"}, nil, Usage, "", "mdclone: hint: see x --help"},
		{[]string{"do", "--nope"}, nil, Usage, "", "hint: see x do --help"},
		{nil, nil, Usage, "", "specify"},
	} {
		p := flags.NewNamedParser("x", flags.HelpFlag|flags.PassDoubleDash)
		if _, err := p.AddCommand("do", "", "", &command{test.err}); err != nil {
			t.Fatal(err)
		}
		var out, log bytes.Buffer
		got := CodeOf(Parse(p, test.args, &out, Log{W: &log}))
		if got != test.want || !strings.Contains(out.String(), test.out) || !strings.Contains(log.String(), test.log) {
			t.Errorf("Parse(%q) = %d, stdout %q, stderr %q; want %d, %q, %q", test.args, got, out.String(), log.String(), test.want, test.out, test.log)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain, ä, €":         "plain, ä, €",
		"a\nmdclone: safe":    `a\nmdclone: safe`,
		"\x1b[2Jgone\r":       `\x1b[2Jgone\r`,
		"\a\b\x00\x7f\u0085":  `\a\b\x00\x7f\u0085`,
		"\u202etxt.exe\u200b": `\u202etxt.exe\u200b`,
		"%s%n%!d":             "%s%n%!d",
		"tab\tand \u00a0":     `tab\tand \u00a0`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestLogShowsNoControlCharacters(t *testing.T) {
	var stderr, kmsg bytes.Buffer
	l := Log{W: &stderr, Kmsg: &kmsg}
	l.Fail(Fail(Refused, "x", "drive %s", "/dev/\x1b[31m\nmdclone: safe to unplug%s").Hint("mdadm \x1b]0;x\a"))
	l.Warnf("%s", "a\nb\n")
	for _, text := range []string{stderr.String(), kmsg.String()} {
		if n := strings.Count(text, "\n"); n != 3 || strings.ContainsAny(text, "\x1b\a") {
			t.Errorf("the log is %q; want three lines without control characters", text)
		}
	}
}
