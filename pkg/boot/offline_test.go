package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

func TestExpired(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, test := range []struct {
		cmdline string
		expired bool
		bad     bool
	}{
		{"mdclone=backup", false, false},
		{"mdclone=backup mdclone.until=", false, false},
		{"mdclone=backup mdclone.until=1800000000", false, false},
		{"mdclone=backup mdclone.until=1800003600", false, false},
		{"mdclone=backup mdclone.until=1799999999", true, false},
		{"mdclone=backup mdclone.until=1800086401", true, false}, // the clock has gone back
		{"mdclone=backup elfcorehdr=0x4000", true, false},
		{"kexec mdclone=backup mdclone.until=", true, false},
		{"kexec mdclone=backup", false, false},
		{"mdclone=backup mdclone.until=soon", true, true},
		{"mdclone=backup mdclone.until=-5", true, true},
		{"mdclone=backup mdclone.until=0", true, true},
	} {
		b, _ := fake(t, test.cmdline)
		p, err := readParams(b.Root)
		if strings.HasPrefix(test.cmdline, "kexec ") {
			loader := filepath.Join(b.Root, "proc/sys/kernel/bootloader_type")
			if err := errors.Join(os.MkdirAll(filepath.Dir(loader), 0o755), os.WriteFile(loader, []byte("208\n"), 0o644)); err != nil {
				t.Fatal(err)
			}
			p, err = readParams(b.Root)
		}
		if got := p.expired(now) != ""; got != test.expired || (err != nil) != test.bad || !p.backup {
			t.Errorf("%s: expired %v, %v, backup %v; want %v, an error: %v", test.cmdline, got, err, p.backup, test.expired, test.bad)
		}
	}
}

func TestParameters(t *testing.T) {
	for _, test := range []struct {
		cmdline string
		want    params
		bad     bool
	}{
		{"quiet", params{cloneWait: time.Minute}, false},
		{"mdclone=off", params{off: true, cloneWait: time.Minute}, false},
		{"mdclone=off mdclone=backup", params{backup: true, cloneWait: time.Minute}, false}, // as udev's rules read it
		{"mdclone=backup mdclone", params{backup: true, cloneWait: time.Minute}, false},
		{"x=\"a mdclone=off mdclone=backup\"", params{cloneWait: time.Minute}, false},
		{"mdclone=\"backup\"", params{backup: true, cloneWait: time.Minute}, false},
		{"mdclone=backup mdclone.clone-wait=0", params{backup: true}, false},
		{"mdclone.clone-wait=3601 mdclone.verify=full", params{cloneWait: time.Minute, verify: config.VerifyFull}, true},
		{"mdclone.clone-wait=-1 mdclone.verify=some", params{cloneWait: time.Minute}, true},
		{"xmdclone=off mdclone.x=1", params{cloneWait: time.Minute}, false},
	} {
		b, _ := fake(t, test.cmdline)
		if got, err := readParams(b.Root); got != test.want || (err != nil) != test.bad {
			t.Errorf("%s: %+v, %v; want %+v, an error: %v", test.cmdline, got, err, test.want, test.bad)
		}
	}
}

// cycled runs a cycle whose backup is do, with a person at the console.
func cycled(t *testing.T, within bounds, typed string, do func(ctx context.Context, options []string, account, said io.Writer) (report.Code, error)) (outcome, string) {
	t.Helper()
	b, log := fake(t, "mdclone=backup mdclone.verify=none")
	var err error
	if b.params, err = readParams(b.Root); err != nil {
		t.Fatal(err)
	}
	b.Backup = do
	b.bounds = within
	con := &consoles{}
	if typed != "" {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := w.WriteString(typed); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		con.open = []*console{{fd: int(r.Fd())}}
	}
	return b.supervise(t.Context(), con, sifting{}), log.String()
}

func TestSupervise(t *testing.T) {
	o, said := cycled(t, usual, "", func(_ context.Context, options []string, account, said io.Writer) (report.Code, error) {
		_, _ = io.WriteString(said, "mdclone: working\n")
		_, _ = io.WriteString(account, `{"result":"done","reasons":[]}`)
		if strings.Join(options, " ") != "--verify none" {
			t.Errorf("options = %q", options)
		}
		return report.Done, nil
	})
	if o.Code != report.Done || o.Account == nil || !strings.Contains(said, "working") || o.text() != "the clone was made before anything was started; it is detached" {
		t.Errorf("done: %+v, %q, said %q", o, o.text(), said)
	}
	o, _ = cycled(t, usual, "", func(_ context.Context, _ []string, account, _ io.Writer) (report.Code, error) {
		_, _ = io.WriteString(account, `{"result":"refused","reasons":[{"code":"ran-alone","text":"it ran alone"}]}`)
		return report.Refused, nil
	})
	if o.Code != report.Refused || o.changed() || o.text() != "no clone was made before the boot (refused): it ran alone" {
		t.Errorf("refused: %+v, %q", o, o.text())
	}
	o, _ = cycled(t, usual, "", func(context.Context, []string, io.Writer, io.Writer) (report.Code, error) { return report.Code(2), nil })
	if o.Code != report.Failed || o.Account != nil {
		t.Errorf("without an account: %+v", o)
	}
	o, _ = cycled(t, usual, "", func(context.Context, []string, io.Writer, io.Writer) (report.Code, error) {
		return report.Failed, errors.New("signal: killed")
	})
	if o.Code != report.Failed || !strings.Contains(o.text(), "killed") {
		t.Errorf("killed: %+v", o)
	}
}

func TestSuperviseEndsAtTheConsole(t *testing.T) {
	o, said := cycled(t, usual, "\n", func(ctx context.Context, _ []string, account, _ io.Writer) (report.Code, error) {
		<-ctx.Done()
		_, _ = io.WriteString(account, `{"result":"interrupted","reasons":[{"code":"interrupted","text":"interrupted"}]}`)
		return report.Interrupted, nil
	})
	if o.Code != report.Interrupted || len(o.Reasons) != 2 || o.Reasons[0].Code != "ended" || !strings.Contains(said, "good order") {
		t.Errorf("%+v, said %q", o, said)
	}
}

// TestSuperviseIsBounded: a cycle in which nothing happens is ended, and the boot goes on also where it cannot be.
func TestSuperviseIsBounded(t *testing.T) {
	account := `{"result":"interrupted","reasons":[{"code":"interrupted","text":"interrupted"}]}`
	o, _ := cycled(t, bounds{whole: time.Hour, gone: time.Hour}, "", func(ctx context.Context, _ []string, to, _ io.Writer) (report.Code, error) {
		<-ctx.Done()
		_, _ = io.WriteString(to, account)
		return report.Interrupted, nil
	})
	if o.stuck || len(o.Reasons) != 2 || o.Reasons[0].Code != "ended" || !strings.Contains(o.Reasons[0].Text, "nothing happened") {
		t.Errorf("one in which nothing happens: %+v", o)
	}
	end := make(chan struct{})
	defer close(end)
	o, _ = cycled(t, bounds{whole: time.Hour}, "", func(context.Context, []string, io.Writer, io.Writer) (report.Code, error) {
		<-end
		return report.Failed, nil
	})
	if !o.stuck || o.Code != report.Failed || o.Reasons[0].Code != "stuck" {
		t.Errorf("one that cannot be ended: %+v", o)
	}
}

// TestCloneThatCannotBegin: what asks for a clone in vain is told why, and the arrays are released.
func TestCloneThatCannotBegin(t *testing.T) {
	b, _ := fake(t, "mdclone=backup")
	if err := os.WriteFile(filepath.Join(b.Root, "etc/mdclone/root.conf"), []byte("nonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.params.backup = true
	if err := b.wait(t.Context()); err != nil || b.held() {
		t.Errorf("wait() = %v, held %v; want the arrays released", err, b.held())
	}
	text, err := os.ReadFile(b.file(outcomeFile))
	var o outcome
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil || o.Code != report.Usage || o.At.IsZero() || len(o.Reasons) != 1 || !strings.Contains(o.Reasons[0].Text, "root.conf") {
		t.Errorf("the outcome is %s (%v); want the file named", text, err)
	}
	said, err := os.ReadFile(b.file(outcomeLog))
	if err != nil || !strings.Contains(string(said), o.text()) || b.historyBytes() == 0 {
		t.Errorf("said %q (%v), and the history has %d bytes; want the outcome in both", said, err, b.historyBytes())
	}
}

func TestRelease(t *testing.T) {
	b, _ := fake(t, "mdclone=backup")
	b.params.backup = true
	if err := b.mark(outcomeFile, "{}"); err != nil {
		t.Fatal(err)
	}
	var ran []string
	b.Run = func(_ context.Context, name string, args ...string) (string, error) {
		ran = append(ran, name+" "+args[0])
		return "", nil
	}
	for range 2 {
		if err := b.release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(ran, ", "); got != "udevadm trigger, udevadm trigger, udevadm settle" || b.held() {
		t.Errorf("ran %q; want two triggers and a settle, once", got)
	}
	b, _ = fake(t, "quiet")
	if b.held() {
		t.Error("held() = true; want it false where nothing is asked for")
	}
	if err := b.mark(doubted+"x", ""); err != nil || !b.held() || b.asked() {
		t.Errorf("mark() = %v; want doubted arrays held, and no clone asked for", err)
	}
	if err := b.release(t.Context()); err != nil || b.held() || exists(b.file(outcomeFile)) {
		t.Errorf("release() = %v; want doubted arrays released, and no outcome", err)
	}
	b, _ = fake(t, "mdclone=backup")
	b.Run = func(context.Context, string, ...string) (string, error) { return "no", errors.New("exit 1") }
	b.params.backup = true
	if err := b.release(t.Context()); err == nil || b.held() {
		t.Errorf("release() = %v; want an error, and the arrays released all the same", err)
	}
	if text, err := os.ReadFile(b.file(outcomeFile)); err != nil || !strings.Contains(string(text), `"died"`) {
		t.Errorf("the outcome is %s (%v); want it said that whoever was to make the clone died", text, err)
	}
}

// TestWritable: an array that is still read-only, for the sake of a cycle that is ending, is waited for.
func TestWritable(t *testing.T) {
	b, _ := fake(t, "")
	dir := t.TempDir()
	b.FS = sysfs.At(dir)
	state := filepath.Join(dir, "block/md0/md/array_state")
	if err := os.MkdirAll(filepath.Dir(state), 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		if err := os.WriteFile(state, []byte(text+"\n"), 0o644); err != nil {
			t.Error(err)
		}
	}
	put("clean")
	ended, end := context.WithCancel(t.Context())
	end()
	if err := b.writable(ended); err != nil {
		t.Errorf("writable() = %v; want no wait", err)
	}
	put("readonly")
	if err := b.writable(ended); err != nil {
		t.Errorf("writable() = %v; want no wait where no cycle was", err)
	}
	if err := b.mark("tunables-x.json", "{}"); err != nil {
		t.Fatal(err)
	}
	if err := b.writable(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("writable() = %v; want it to wait", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { put("clean") })
	if err := b.writable(t.Context()); err != nil {
		t.Error(err)
	}
	put("readonly")
	b.bounds.orphan = 0
	err := b.writable(t.Context())
	if text, e := os.ReadFile(state); err == nil || e != nil || !strings.HasPrefix(string(text), "active") {
		t.Errorf("writable() = %v, and the array is %q, %v; want it made writable, and said", err, text, e)
	}
}

func TestOutcomeText(t *testing.T) {
	for _, test := range []struct {
		code          report.Code
		account, text string
		changed       bool
	}{
		{
			report.Done, `{"array":"root","result":"done","attached":false,"reasons":[]}`,
			"the clone was made before anything was started; it is detached", true,
		},
		{
			report.Done, `{"array":"root","result":"done","attached":false,"reasons":[{"code":"was-in-sync","text":"it was in"}]}`,
			"the clone was made before anything was started; it is detached", true,
		},
		{
			report.Failed, `{"result":"failed","arrays":[{"array":"root","result":"done"},{"array":"data","result":"failed"}],
				"reasons":[{"code":"not-assembled","text":"array data is not assembled"}]}`,
			"the clone of root was made before anything was started, the rest was not (failed): array data is not assembled", true,
		},
		{
			report.Differs, `{"array":"root","result":"failed","attached":true,"reasons":[{"code":"differs","text":"8 sectors differ"}]}`,
			"no clone was made before the boot (failed): 8 sectors differ; do not unplug it, it is still in the array of root: " +
				"mdclone-early verify --repair makes it equal, detach --verify none takes it out", true,
		},
		{
			report.Refused, `{"result":"refused","arrays":[{"array":"root","result":"refused"},{"array":"data","result":"refused"}],"reasons":[]}`,
			"no clone was made before the boot (refused): ", false,
		},
	} {
		o := accounted(test.code, []byte(test.account))
		if got := o.text(); got != test.text || o.changed() != test.changed {
			t.Errorf("%s:\n%q, changed %v; want\n%q, %v", test.account, got, o.changed(), test.text, test.changed)
		}
	}
}

func TestOutcomeIsToldOnce(t *testing.T) {
	b, _ := fake(t, "mdclone=backup")
	var out bytes.Buffer
	b.Stdout = &out
	if err := b.mark(premount, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.Do(t.Context(), []string{Report}); err != nil || out.Len() > 0 {
		t.Errorf("without an outcome: %v, %q", err, &out)
	}
	o := why(report.NoDrive, "no-drive", "the clone of %s was not plugged in", "root")
	if err := errors.Join(b.keep(o), b.mark(outcomeLog, "mdclone: waiting\n")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Do(t.Context(), []string{Report}); err != nil {
			t.Fatal(err)
		}
	}
	if want := "mdclone: waiting\n<4>no clone was made before the boot (failed): the clone of root was not plugged in\n"; out.String() != want {
		t.Errorf("told %q; want %q", &out, want)
	}
	var line outcome
	if text, err := os.ReadFile(b.file("var", "history.jsonl")); err != nil || json.Unmarshal(text, &line) != nil || line.Code != report.NoDrive {
		t.Errorf("history: %s, %v", text, err)
	}
}

// TestImageWithoutUs: a boot that was to make a clone, of an image that has no mdclone.
func TestImageWithoutUs(t *testing.T) {
	for cmdline, want := range map[string]string{
		"mdclone=backup": "<4>no clone was made before the boot: the boot image that was started has no mdclone in it", "quiet": "",
		"mdclone=backup mdclone=off": "",
	} {
		b, _ := fake(t, cmdline)
		var out bytes.Buffer
		b.Stdout = &out
		if err := b.Do(t.Context(), []string{Report}); err != nil || !strings.HasPrefix(out.String(), want) || want == "" && out.Len() > 0 {
			t.Errorf("%s: %q, %v; want %q", cmdline, &out, err, want)
		}
	}
}

func TestConsoles(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"sys/class/tty/console/active": "tty0 ttyS9 ttyS0\n", "dev/tty0": "", "dev/ttyS0": ""} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	con := openConsoles(root)
	defer con.close()
	if n, err := con.Write([]byte("seen\n")); n != 5 || err != nil {
		t.Errorf("Write() = %d, %v", n, err)
	}
	for _, name := range []string{"dev/tty0", "dev/ttyS0"} {
		if text, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(text) != "seen\n" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}
