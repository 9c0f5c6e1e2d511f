package boot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mdclone/pkg/report"
)

func TestWaits(t *testing.T) {
	begin := time.Now()
	stuck := waits{}
	for _, test := range []struct {
		at   int // seconds
		now  map[string]string
		want int // seconds
	}{
		{0, nil, 0},
		{1, map[string]string{"7": "5", "8": "1"}, 0},
		{2, map[string]string{"7": "5"}, 1},
		{9, map[string]string{"7": "5", "8": "1"}, 8}, // 8 did not wait in between: it begins anew
		{10, map[string]string{"7": "6", "8": "1"}, 1},
		{12, map[string]string{"7": "6"}, 2},
		{13, nil, 0},
		{14, map[string]string{"7": "6"}, 0},
	} {
		if got := stuck.look(test.now, begin.Add(time.Duration(test.at)*time.Second)); got != time.Duration(test.want)*time.Second {
			t.Errorf("after %d s, %v: %s; want %d s", test.at, test.now, got, test.want)
		}
	}
}

func TestThreads(t *testing.T) {
	root := t.TempDir()
	for id, state := range map[string]string{"41": "S (sleeping)", "42": "D (disk sleep)", "43": "R (running)"} {
		dir := filepath.Join(root, "proc/41/task", id)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		text := "Name:\texe\nState:\t" + state + "\nvoluntary_ctxt_switches:\t" + id + "0\nnonvoluntary_ctxt_switches:\t3\n"
		if err := os.WriteFile(filepath.Join(dir, "status"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := threads(root, 41), map[string]string{"42": "420"}; !reflect.DeepEqual(got, want) {
		t.Errorf("threads() = %v; want %v", got, want)
	}
	if got := threads(root, 40); got != nil {
		t.Errorf("threads of a process that is gone = %v", got)
	}
}

// TestApart: a stage runs in a process of its own, with its words and its exit code; one that cannot be started is an error.
func TestApart(t *testing.T) {
	b, log := fake(t, "quiet")
	var said strings.Builder
	b.Stdout = &said
	if err := b.Do(t.Context(), []string{stageWait}); err == nil {
		t.Error("without a program = nil; want an error")
	}
	b.Self = filepath.Join(t.TempDir(), "self")
	for code, want := range []report.Code{report.Done, report.Failed, report.Usage} {
		if err := os.WriteFile(b.Self, fmt.Appendf(nil, "#!/bin/sh\necho \"$@\"\nexit %d\n", code), 0o755); err != nil {
			t.Fatal(err)
		}
		said.Reset()
		if err := b.Do(t.Context(), []string{hookSettled}); report.CodeOf(err) != want {
			t.Errorf("a process that ends with %d: %v", code, err)
		} else if b.Log.Fail(err); log.String() != "" || said.String() != "boot apart init-premount\n" {
			t.Errorf("it was called with %q, and what it said itself is said once more: %q", &said, log)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := run(ctx, "sleep", "1000"); err == nil {
		t.Error("a program that was ended = nil; want an error")
	}
}

// TestLockOfOneLeftBehind: what a stage holds that is stuck keeps no other from going on, not even one that waits already.
func TestLockOfOneLeftBehind(t *testing.T) {
	b, _ := fake(t, "")
	if _, err := b.lock(); err != nil { // and is never unlocked
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		unlock, err := b.lock()
		if err == nil {
			unlock()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("a second lock = %v; want it to wait", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := b.breakLock(os.Getpid() + 1); err != nil || !exists(b.file(lockFile)) {
		t.Errorf("breakLock() of another process: %v; want the lock left alone", err)
	}
	if err := b.breakLock(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("once it is left behind: %v", err)
	}
}

func TestOnlyClaims(t *testing.T) {
	c, d := Drive{Name: "c"}, Drive{Name: "d"}
	lift := Decision{Do: Lift, Clone: c, Claim: []Drive{d}, Why: "it is ahead"}
	if got := lift.onlyClaims(Facts{Waits: true}); got.Do != Nothing || !reflect.DeepEqual(got.Claim, []Drive{d, c}) {
		t.Errorf("onlyClaims() of a lift = %+v; want both clones held", got)
	}
	if got := (Decision{Do: Start}).onlyClaims(Facts{}); got.Do != Nothing || got.Claim != nil {
		t.Errorf("onlyClaims() of a start = %+v; want nothing", got)
	}
}
