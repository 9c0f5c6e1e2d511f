package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

func TestAsleep(t *testing.T) {
	page := func(end string) []byte { return append(make([]byte, 4086), end...) }
	for end, want := range map[string]bool{
		"SWAPSPACE2": false, "S1SUSPEND\x00": true, "S2SUSPEND\x00": true, "ULSUSPEND\x00": true, "LINHIB0001": true, "": false,
	} {
		if got := asleep(page(end)); got != want {
			t.Errorf("asleep(%q) = %v; want %v", end, got, want)
		}
	}
	if asleep(nil) {
		t.Error("asleep(nil) = true")
	}
}

// TestSleeperOnASilentDisk: a clone is not made where it cannot be told whether a system sleeps.
func TestSleeperOnASilentDisk(t *testing.T) {
	b, _ := fake(t, "mdclone=backup")
	b.stage = stageWait
	b.scanner().Patience = time.Millisecond
	if device, err := b.sleeper(); device != "" || err != nil {
		t.Errorf("without disks: sleeper() = %q, %v", device, err)
	}
	silentDisk(t, b)
	if device, err := b.sleeper(); device != "" || !errors.Is(err, md.ErrSilent) {
		t.Errorf("sleeper() = %q, %v; want ErrSilent", device, err)
	}
	if o := b.cycle(t.Context(), nil, nil); o.Code != report.Failed || len(o.Reasons) != 1 || o.Reasons[0].Code != "hibernation" {
		t.Errorf("the outcome is %+v; want no clone, for hibernation", o)
	}
}

// silentDisk gives the machine a disk on which one request is under way and none ends.
func silentDisk(t *testing.T, b *Boot) {
	t.Helper()
	for name, text := range map[string]string{"inflight": "       1        0\n", "stat": "5 0 8 2 0 0 0 0 1 2 9\n", "size": "2048\n"} {
		path := b.FS.Path("class/block/sda", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(b.FS.Path("class/block/sda/holders"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestStepOnASilentDisk: without a disk that may hold the newest copy nothing is decided before init-premount has waited for it.
func TestStepOnASilentDisk(t *testing.T) {
	b, log := fake(t, "")
	silentDisk(t, b)
	for _, stage := range []string{stageStart, stageBlock, stageWait, stageStart, stageBlock} {
		b.stage, b.disks = stage, nil
		b.scanner().Patience = time.Millisecond
		held := stage != stageWait && !exists(b.file(silentMark+"sda"))
		if pending, err := b.step(t.Context(), false, false); pending != held || err != nil {
			t.Errorf("%s: pending is %v, %v; want %v", stage, pending, err, held)
		}
	}
	if got := log.String(); strings.Count(got, "newest copy") != 1 || strings.Count(got, "is not looked at") != 1 {
		t.Errorf("it says\n%s\nwant each word once", got)
	}
}

func TestNoResume(t *testing.T) {
	b, _ := fake(t, "")
	var ran []string
	b.Run = func(_ context.Context, name string, args ...string) (string, error) {
		ran = append(ran, strings.Join(append([]string{name}, args...), " "))
		return "", nil
	}
	if undo, err := b.noResume(t.Context()); err != nil || undo() != nil || len(ran) > 0 {
		t.Errorf("in an initramfs that is not known: %v, ran %q", err, ran)
	}
	files := map[string]string{"etc/udev/rules.d/99-resume.rules": "the rule", ".resume": "/dev/sda2\n"}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(b.Root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.Root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	undo, err := b.noResume(t.Context())
	if err != nil {
		t.Errorf("in dracut's script: %v", err)
	}
	for name := range files {
		if exists(filepath.Join(b.Root, name)) {
			t.Errorf("in dracut's script there is still %s", name)
		}
	}
	if err := undo(); err != nil {
		t.Errorf("undo in dracut's script: %v", err)
	}
	for name, want := range files {
		if text, err := os.ReadFile(filepath.Join(b.Root, name)); err != nil || string(text) != want {
			t.Errorf("%s is %q again, %v; want %q", name, text, err, want)
		}
	}
	if reloads := []string{"udevadm control --reload", "udevadm control --reload"}; !slices.Equal(ran, reloads) {
		t.Errorf("in dracut's script: ran %q; want %q", ran, reloads)
	}
	ran = nil
	if err := os.MkdirAll(filepath.Join(b.Root, "run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	if undo, err = b.noResume(t.Context()); err != nil || !exists(b.file(noResume)) || len(ran) > 0 {
		t.Errorf("in systemd's: %v, ran %q, marked: %v; want it marked", err, ran, exists(b.file(noResume)))
	}
	if err := undo(); err != nil || exists(b.file(noResume)) {
		t.Errorf("undo in systemd's: %v, marked: %v", err, exists(b.file(noResume)))
	}
	if err := os.Mkdir(filepath.Join(b.Root, "conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	const not = "resume=\nnoresume=y\n"
	for _, was := range []string{"", "ROOT=/dev/sda\n"} {
		path := filepath.Join(b.Root, "conf/param.conf")
		if was != "" {
			if err := os.WriteFile(path, []byte(was), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		undo, err := b.noResume(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != was+not {
			t.Errorf("param.conf: %q, %v; want %q", text, err, was+not)
		}
		if err := undo(); err != nil {
			t.Fatal(err)
		}
		if text, _ := os.ReadFile(path); string(text) != was {
			t.Errorf("param.conf is %q again; want %q", text, was)
		}
	}
}
