package clone

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

// fakeEnv has its own root, with one array md0 in a made-up sysfs.
func fakeEnv(t *testing.T) (*Env, md.Array) {
	t.Helper()
	root := t.TempDir()
	e := &Env{FS: sysfs.At(filepath.Join(root, "sys")), Root: root, Now: time.Now}
	dir := filepath.Join(root, "sys/block/md0/md/bitmap")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"bitmap/time_base": "5\n", "sync_speed_max": "200000\n", "sync_speed_min": "1000\n", "array_state": "clean\n",
	} {
		if err := os.WriteFile(filepath.Join(root, "sys/block/md0/md", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return e, md.Array{FS: e.FS, Name: "md0"}
}

func TestLedgerRoundTrip(t *testing.T) {
	e, _ := fakeEnv(t)
	u := md.UUID{1, 2}
	if x, err := e.entry(u); x != nil || err != nil {
		t.Errorf("entry() of an unknown clone = %v, %v; want nil, nil", x, err)
	}
	want := Entry{
		Clone: u, Array: md.UUID{3}, FirstCopy: true, Complete: true, DetachedAt: time.Unix(1e9, 0).UTC(), Slot: 2, Events: 7,
		Super: []byte("superblock"), Dirty: []md.Range{{First: 0, Last: 3}}, Verified: "full",
	}
	if err := e.record(want); err != nil {
		t.Fatal(err)
	}
	got, err := e.entry(u)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("entry() (-want +got):\n%s", diff)
	}
}

func TestLedgerOfAnotherDriveIsAnError(t *testing.T) {
	e, _ := fakeEnv(t)
	if err := e.record(Entry{Clone: md.UUID{1}}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(e.entryPath(md.UUID{1}), e.entryPath(md.UUID{2})); err != nil {
		t.Fatal(err)
	}
	if _, err := e.entry(md.UUID{2}); err == nil {
		t.Error("entry() took another drive's record")
	}
	if err := os.WriteFile(e.entryPath(md.UUID{2}), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var failure *report.Error
	if _, err := e.entry(md.UUID{2}); !errors.As(err, &failure) || failure.Reasons[0].Code != "ledger-damaged" || len(failure.Hints) != 1 {
		t.Errorf("entry() of a cut record: %v; want ledger-damaged and what helps", err)
	}
}

func TestTuneIsRecordedBeforeItIsDone(t *testing.T) {
	e, a := fakeEnv(t)
	target := &Target{env: e, Array: a}
	target.Conf.UUID = md.UUID{9}
	if err := os.WriteFile(e.VarDir(), nil, 0o600); err == nil { // var/lib does not exist, so this fails; make it a file
		t.Fatal("the fixture has var/lib")
	}
	if err := os.MkdirAll(filepath.Dir(e.VarDir()), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.VarDir(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := target.tune("bitmap/time_base", "1"); err == nil {
		t.Error("tune() succeeded although nothing could be recorded")
	}
	if got, _ := a.Read("bitmap/time_base"); got != "5" {
		t.Errorf("time_base = %s; want 5: it was changed without a record", got)
	}
}

func TestUntunePutsBackWhatIsStillOurs(t *testing.T) {
	e, a := fakeEnv(t)
	target := &Target{env: e, Array: a}
	target.Conf.UUID = md.UUID{9}
	for attr, value := range map[string]string{"bitmap/time_base": "1", "sync_speed_max": "10000000", "sync_speed_min": "50000"} {
		if err := target.tune(attr, value); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range e.tunablesPaths(md.UUID{9}) {
		if _, err := os.Stat(p); err != nil {
			t.Errorf("no record at %s", p)
		}
	}
	if err := a.Write("777", "sync_speed_min"); err != nil { // somebody else's wish
		t.Fatal(err)
	}
	if err := target.untune(); err != nil {
		t.Fatal(err)
	}
	// a file keeps what a shorter write leaves behind it, so only the beginning counts here
	for attr, want := range map[string]string{"bitmap/time_base": "5", "sync_speed_max": "200000", "sync_speed_min": "777"} {
		if got, _ := a.Read(attr); len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("%s = %q; want %q", attr, got, want)
		}
	}
	for _, p := range e.tunablesPaths(md.UUID{9}) {
		if _, err := os.Stat(p); err == nil {
			t.Errorf("the record %s is still there", p)
		}
	}
}

func TestForgetKeepsTheRestOfTheRecord(t *testing.T) {
	e, a := fakeEnv(t)
	target := &Target{env: e, Array: a}
	target.Conf.UUID = md.UUID{9}
	for _, c := range []struct{ attr, value string }{{"sync_speed_max", "10000000"}, {"sync_speed_min", "50000"}} {
		if err := target.tune(c.attr, c.value); err != nil {
			t.Fatal(err)
		}
	}
	there := func() int {
		n := 0
		for _, p := range e.tunablesPaths(md.UUID{9}) {
			if text, err := os.ReadFile(p); err == nil && !strings.Contains(string(text), "sync_speed_min") {
				n++
			}
		}
		return n
	}
	for _, step := range []struct {
		attr    string
		records int
	}{{"sync_speed_min", 2}, {"sync_speed_max", 0}} {
		if err := target.forget(step.attr); err != nil || there() != step.records {
			t.Errorf("forget(%s): %v, %d records without it; want %d", step.attr, err, there(), step.records)
		}
	}
	if got, _ := a.Read("sync_speed_min"); !strings.HasPrefix(got, "50000") {
		t.Errorf("sync_speed_min = %q; want it as it is: what is forgotten is not touched", got)
	}
}

func TestLockKeepsASecondRunOut(t *testing.T) {
	e, _ := fakeEnv(t)
	unlock, err := e.Lock(md.UUID{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Lock(md.UUID{1}); report.CodeOf(err) != report.Refused {
		t.Errorf("a second lock() = %v; want a refusal", err)
	}
	other, err := e.Lock(md.UUID{2})
	if err != nil {
		t.Errorf("lock() of another array = %v", err)
	} else {
		other()
	}
	unlock()
	if again, err := e.Lock(md.UUID{1}); err != nil {
		t.Errorf("lock() after the first ended = %v", err)
	} else {
		again()
	}
}

func TestLockWaitsForABriefOne(t *testing.T) {
	e, _ := fakeEnv(t)
	unlock, ok, err := e.lockBriefly(md.UUID{1})
	if err != nil || !ok {
		t.Fatalf("lockBriefly() = %v, %v; want it held", ok, err)
	}
	time.AfterFunc(3*lockTick, unlock)
	held, err := e.Lock(md.UUID{1})
	if err != nil {
		t.Fatalf("Lock() beside a brief one = %v; want it to wait", err)
	}
	defer held()
	if _, ok, err := e.lockBriefly(md.UUID{1}); ok || err != nil {
		t.Errorf("lockBriefly() beside a command = %v, %v; want that another holds it", ok, err)
	}
}

func TestStatusTellsWhenACloneLeft(t *testing.T) {
	e, a := fakeEnv(t)
	left := time.Unix(1e9, 0).UTC()
	for u, x := range map[md.UUID]*Entry{
		{1}: {Clone: md.UUID{1}, Slot: 2, DetachedAt: left},
		{2}: {Clone: md.UUID{2}, Slot: -1, Attached: true}, // it never did
		{3}: nil,
		{4}: {Clone: md.UUID{4}, Slot: 2, DetachedAt: left, Attached: true}, // it did, and was let in again
	} {
		if x != nil {
			if err := e.record(*x); err != nil {
				t.Fatal(err)
			}
		}
		text, err := json.Marshal((&Target{env: e, Array: a}).recorded(u, ArrayStatus{}))
		if err != nil {
			t.Fatal(err)
		}
		want := `"detached_at":null`
		if x != nil && !x.DetachedAt.IsZero() && !x.Attached {
			want = `"detached_at":"2001-09-09T01:46:40Z"`
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("clone %v of entry %+v: %s; want %s in it", u, x, text, want)
		}
	}
}

// TestRecordOfAnotherBoot: what a power cut has ended is not put back in the next boot, where it is somebody else's. The bitmap's
// tick, which is on the disks, is. The fake attributes keep the end of a longer text.
func TestRecordOfAnotherBoot(t *testing.T) {
	e, a := fakeEnv(t)
	boot := filepath.Join(e.Root, "proc/sys/kernel/random/boot_id")
	attr := func(name string) string { return filepath.Join(e.Root, "sys/block/md0/md", name) }
	if err := errors.Join(os.MkdirAll(filepath.Dir(boot), 0o755), os.WriteFile(boot, []byte("one\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	target := &Target{env: e, Array: a}
	target.Conf.UUID = md.UUID{9}
	if err := errors.Join(target.tune("bitmap/time_base", "1"), target.tune("array_state", "readonly")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(e.tunablesPaths(md.UUID{9})[0])
	if err != nil {
		t.Fatal(err)
	}
	left, err := decodeTunables(text)
	if err != nil {
		t.Fatal(err)
	}
	restored := func(boot, state string) {
		t.Helper()
		err := e.restoreOne(a, left)
		now, readErr := a.Read("array_state")
		tick, tickErr := a.Read("bitmap/time_base")
		if err := errors.Join(err, readErr, tickErr); err != nil || !strings.HasPrefix(now, state) || tick != "5" {
			t.Errorf("in %s the array is %s, its tick %s (%v); want %s and 5", boot, now, tick, err, state)
		}
	}
	if err := os.WriteFile(boot, []byte("two\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	restored("another boot", "readonly")
	if err := errors.Join(os.WriteFile(boot, []byte("one\n"), 0o644), os.WriteFile(attr("bitmap/time_base"), []byte("1\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	restored("the same boot", "active")
}
