package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

// fake is a machine without block devices and without a splash screen, in the initramfs.
func fake(t *testing.T, cmdline string) (*Boot, *strings.Builder) {
	t.Helper()
	var log strings.Builder
	b := New(report.Log{W: &log})
	b.Root, b.FS, b.Self = t.TempDir(), sysfs.At(t.TempDir()), "not the tests once more"
	b.Run = func(_ context.Context, name string, _ ...string) (string, error) {
		if name == "plymouth" {
			return "", exec.ErrNotFound
		}
		return "", nil
	}
	for name, text := range map[string]string{
		"proc/cmdline": cmdline, config.EarlyMark: "", "etc/mdclone/root.conf": "array = " + strings.Repeat("1", 32) + "\n",
	} {
		path := filepath.Join(b.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return b, &log
}

func TestPatience(t *testing.T) {
	for _, test := range []struct {
		cmdline string
		conf    config.BootWait
		want    time.Duration
		ok      bool
	}{
		{"quiet", 0, 20 * time.Second, true},
		{"quiet", 5, 5 * time.Second, true},
		{"quiet", config.BootWaitNever, 0, false},
		{"mdclone.wait=7", 5, 7 * time.Second, true},
		{"mdclone.wait=7", config.BootWaitNever, 7 * time.Second, true},
		{"mdclone.wait=0", 5, 0, true},
		{"mdclone.wait=never", 5, 5 * time.Second, false},
		{"mdclone.wait=x", 5, 5 * time.Second, true},
		{"mdclone.wait=", 5, 5 * time.Second, true},
		{"mdclone.wait=99999", 5, 5 * time.Second, true},
	} {
		b, _ := fake(t, test.cmdline)
		b.params, _ = readParams(b.Root) // what is wrong is said, and not used
		got, ok := b.patience(config.Array{BootWait: test.conf})
		if ok != test.ok || ok && got != test.want {
			t.Errorf("patience(%q, %d) = %v, %v; want %v, %v", test.cmdline, test.conf, got, ok, test.want, test.ok)
		}
	}
}

func TestTiming(t *testing.T) {
	b, _ := fake(t, "quiet")
	up := time.Minute
	b.Uptime = func() (time.Duration, error) { return up, nil }
	clone := md.UUID{3}
	facts := func() *Facts {
		return &Facts{
			Conf: config.Array{UUID: md.UUID{1}, Clones: []md.UUID{clone}}, Waits: true,
			Drives: []Drive{{"c", &md.Superblock{Device: clone}}},
		}
	}
	look := func(want bool, now bool) {
		t.Helper()
		f := facts()
		if err := b.timing(f, now); err != nil || f.Late != want {
			t.Errorf("after %v: late = %v, %v; want %v", up, f.Late, err, want)
		}
	}
	without := facts()
	without.Drives = nil
	if err := b.timing(without, false); err != nil || without.Late {
		t.Errorf("without a clone: late = %v, %v; want false", without.Late, err)
	}
	up += time.Hour // the wait begins when the clone is seen
	look(false, false)
	up += 19 * time.Second
	look(false, false)
	up += time.Second
	look(true, false)
	b.params.wait = "600" // the next stage looks again
	look(false, false)
	look(true, true)
	look(true, false)
	b.params.wait = ""
	b.Uptime = func() (time.Duration, error) { return 0, errors.New("no clock") }
	f := facts()
	if err := b.timing(f, false); err == nil || !f.Late {
		t.Errorf("without a clock: late = %v, %v; want true and an error", f.Late, err)
	}
}

func TestStageOf(t *testing.T) {
	b, _ := fake(t, "")
	for _, want := range []struct{ name, stage string }{
		{"settled", "init-premount"}, {"local-block", "local-block"}, {"pre-pivot", "init-bottom"}, {"start", "start"}, {"x", "x"},
	} {
		if got := b.stageOf(want.name); got != want.stage {
			t.Errorf("stageOf(%q) = %q; want %q", want.name, got, want.stage)
		}
	}
	if err := b.wait(t.Context()); err != nil {
		t.Errorf("wait() = %v", err)
	}
	if got := b.stageOf("settled"); got != "local-block" {
		t.Errorf("stageOf(settled) = %q after the wait; want local-block", got)
	}
}

func TestEndOfDracutsQueue(t *testing.T) {
	b, _ := fake(t, "")
	for _, test := range []struct {
		looks, retry string
		want         bool
	}{{"0", "360", false}, {"239", "360", false}, {"240", "360", true}, {"300", "", false}, {"x", "360", false}} {
		t.Setenv("main_loop", test.looks)
		t.Setenv("RDRETRY", test.retry)
		if got := b.endOfBlock(); got != test.want {
			t.Errorf("endOfBlock() = %v after %s looks of %s; want %v", got, test.looks, test.retry, test.want)
		}
	}
}

func TestEndOfBlock(t *testing.T) {
	b, _ := fake(t, "")
	for _, test := range []struct {
		start, delay string
		up           time.Duration
		want         bool
	}{
		{"5", "", 24 * time.Second, false},
		{"5", "", 25 * time.Second, true},
		{"5", "90", 64 * time.Second, false},
		{"5", "90", 65 * time.Second, true},
		{"", "", time.Hour, false},
	} {
		t.Setenv("starttime", test.start)
		t.Setenv("ROOTDELAY", test.delay)
		b.Uptime = func() (time.Duration, error) { return test.up, nil }
		if got := b.endOfBlock(); got != test.want {
			t.Errorf("endOfBlock(%+v) = %v", test, got)
		}
	}
}

// TestStages: without anything to do each stage is silent and quick, and mdclone=off leaves not even a file.
func TestStages(t *testing.T) {
	for _, stage := range []string{stageStart, stageRuns, stageWait, stageBlock, stageBottom} {
		for _, cmdline := range []string{"quiet", "mdclone=off"} {
			b, log := fake(t, cmdline)
			if err := b.Do(t.Context(), []string{stageApart, stage}); err != nil || log.String() != "" {
				t.Errorf("%s with %s = %v, says %q; want silence", stage, cmdline, err, log)
			}
			if cmdline == "mdclone=off" && exists(b.file()) {
				t.Errorf("%s with %s makes %s", stage, cmdline, b.file())
			}
		}
	}
	b, _ := fake(t, "")
	for _, args := range [][]string{nil, {"x"}, {stageStart, "x"}} {
		if err := b.Do(t.Context(), args); err == nil {
			t.Errorf("Do(%q) = nil; want an error", args)
		}
	}
	if err := os.Remove(filepath.Join(b.Root, config.EarlyMark)); err != nil {
		t.Fatal(err)
	}
	if err := b.Do(t.Context(), []string{stageApart, stageWait}); err == nil {
		t.Error("init-premount outside the initramfs = nil; want an error")
	}
}

// TestBadConfiguration: what is wrong is said once, and the other arrays are looked at.
func TestBadConfiguration(t *testing.T) {
	b, log := fake(t, "quiet")
	for name, text := range map[string]string{"data": "array = nonsense\n", "root-copy": "array = " + strings.Repeat("1", 32) + "\n"} {
		if err := os.WriteFile(filepath.Join(b.Root, "etc/mdclone", name+".conf"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Do(t.Context(), []string{stageApart, stageWait}); err != nil || strings.Count(log.String(), "mdclone: warning: ") != 2 {
		t.Errorf("Do() = %v, says %q; want two warnings", err, log)
	}
	if confs := b.confs(); len(confs) != 1 || confs[0].Name != "root-copy" {
		t.Errorf("confs() = %+v; want the array's first file", confs)
	}
	if err := b.Do(t.Context(), []string{stageApart, stageBlock}); err != nil || strings.Count(log.String(), "mdclone: warning: ") != 2 {
		t.Errorf("Do() = %v, says %q; want no more warnings", err, log)
	}
}

// TestBrokenScan: what cannot be looked at is said once, and not waited for.
func TestBrokenScan(t *testing.T) {
	b, log := fake(t, "quiet")
	class := b.FS.Path("class/block")
	if err := os.MkdirAll(filepath.Dir(class), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(class, nil, 0o644); err != nil { // no directory
		t.Fatal(err)
	}
	if err := b.Do(t.Context(), []string{stageApart, stageWait}); err != nil || strings.Count(log.String(), "mdclone: error: ") != 1 {
		t.Errorf("Do() = %v, says %q; want one error in the log", err, log)
	}
}

// TestStaleClaim: the process that is named is another one by now, and must live.
func TestStaleClaim(t *testing.T) {
	b, _ := fake(t, "quiet")
	if err := os.MkdirAll(filepath.Join(b.Root, "proc/1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.Root, "proc/1/cmdline"), []byte("/sbin/init\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"1 none-such\n", "99999999 none-such\n"} {
		if err := b.mark(claimMark+"x", text); err != nil {
			t.Fatal(err)
		}
		if pid, drive, err := b.holder(claimMark + "x"); pid != 0 || drive != "none-such" || err != nil {
			t.Errorf("holder(%q) = %d, %q, %v; want 0", text, pid, drive, err)
		}
	}
}

// TestReturnedClone: what is held when a drive comes back under another name is of no use any more; what somebody let go is
// left to them.
func TestReturnedClone(t *testing.T) {
	b, _ := fake(t, "quiet")
	clone := Drive{"none-such", &md.Superblock{Device: md.UUID{3}}}
	claim := func(stage, held string) (ended, tried bool) {
		t.Helper()
		holder := exec.CommandContext(t.Context(), "sleep", "3600")
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		proc := filepath.Join(b.Root, "proc", strconv.Itoa(holder.Process.Pid))
		if err := errors.Join(os.MkdirAll(proc, 0o755), os.WriteFile(proc+"/cmdline", []byte("x\x00boot\x00hold\x00"), 0o644),
			b.mark(claimMark+clone.Super.Device.Dashed(), fmt.Sprintf("%d %s\n", holder.Process.Pid, held))); err != nil {
			t.Fatal(err)
		}
		b.stage = stage
		tried = b.claim(config.Array{}, clone) != nil // there is no such node
		if err := b.claim(config.Array{}, clone); (err != nil) != tried {
			t.Errorf("claim() again = %v", err)
		}
		_ = holder.Process.Signal(syscall.SIGTERM)
		_ = holder.Wait()
		status, ok := holder.ProcessState.Sys().(syscall.WaitStatus)
		return ok && status.Signal() == syscall.SIGKILL, tried
	}
	if ended, tried := claim(stageBlock, "old-name"); !ended || !tried {
		t.Errorf("back under another name: the old holder ended %v, the new tried %v; want both", ended, tried)
	}
	if err := os.MkdirAll(b.FS.Path("class/block/none-such"), 0o755); err != nil {
		t.Fatal(err)
	}
	if ended, tried := claim(stageBlock, clone.Name); ended || tried {
		t.Errorf("held: the holder ended %v, another tried %v; want neither", ended, tried)
	}
	// the holder has ended
	b.stage = stageStart
	if err := b.claim(config.Array{}, clone); err != nil {
		t.Errorf("let go, and an event: claim() = %v; want nothing", err)
	}
	b.stage = stageBlock
	if err := os.RemoveAll(filepath.Join(b.Root, "proc")); err != nil {
		t.Fatal(err)
	}
	if err := b.claim(config.Array{}, clone); err == nil {
		t.Error("let go, and another stage: claim() does nothing")
	}
}

// TestClaims: an event's clone is held in the initramfs alone, once all devices of the first moment were seen, and not while
// the clone is made.
func TestClaims(t *testing.T) {
	b, _ := fake(t, "quiet")
	claims := func(want bool, when string) {
		t.Helper()
		if got := b.claims(); got != want {
			t.Errorf("%s: claims() = %v; want %v", when, got, want)
		}
	}
	claims(false, "before init-premount")
	if err := b.mark(premount, ""); err != nil {
		t.Fatal(err)
	}
	claims(true, "after it")
	b.params.backup = true
	claims(false, "in a backup")
	b.params.backup = false
	if err := os.Remove(filepath.Join(b.Root, config.EarlyMark)); err != nil {
		t.Fatal(err)
	}
	claims(false, "in the running system")
}

// TestNotCounted: initramfs-tools counts anew after a wait, and what was in its file stays.
func TestNotCounted(t *testing.T) {
	for _, test := range []struct {
		took  time.Duration
		tools bool
		want  string
	}{
		{time.Second, true, "ROOT=/dev/x\n"},
		{65 * time.Second, true, "ROOT=/dev/x\nstarttime=75\n"},
		{65 * time.Second, false, ""},
	} {
		b, _ := fake(t, "")
		file := filepath.Join(b.Root, "conf/param.conf")
		if test.tools {
			if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("ROOT=/dev/x\n"), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		const began = 10 * time.Second
		b.Uptime = func() (time.Duration, error) { return began + test.took, nil }
		if err := b.notCounted(began); err != nil {
			t.Errorf("notCounted() = %v", err)
		}
		if got, err := os.ReadFile(file); string(got) != test.want || test.tools != (err == nil) {
			t.Errorf("after %s param.conf has %q, %v; want %q", test.took, got, err, test.want)
		}
	}
}
