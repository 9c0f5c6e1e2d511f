package clone

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

func TestTakeOver(t *testing.T) {
	e := &Env{FS: sysfs.At(t.TempDir()), Root: t.TempDir()}
	mark := filepath.Join(e.Root, config.EarlyMark)
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		t.Fatal(err)
	}
	early := func() {
		t.Helper()
		if err := os.WriteFile(mark, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	late := func() {
		t.Helper()
		if err := os.Remove(mark); err != nil {
			t.Fatal(err)
		}
	}
	u := md.UUID{7}
	if err := e.record(Entry{Clone: u, Events: 1}); err != nil {
		t.Fatal(err)
	}
	early()
	if x, err := e.entry(u); err != nil || x != nil {
		t.Errorf("in the initramfs the machine's own ledger is not there: %+v, %v", x, err)
	}
	if err := e.record(Entry{Clone: u, Events: 2}); err != nil {
		t.Fatal(err)
	}
	if err := e.addHistory([]byte("early\n")); err != nil {
		t.Fatal(err)
	}
	late()
	if err := e.addHistory([]byte("before\n")); err != nil {
		t.Fatal(err)
	}
	anybody, err := os.Open(filepath.Join(e.handedOver(), config.HistoryFile))
	if err != nil {
		t.Fatal(err)
	}
	defer anybody.Close()
	if err := unix.Flock(int(anybody.Fd()), unix.LOCK_EX); err != nil { // keeps nothing up
		t.Fatal(err)
	}
	unlock, err := e.Lock(md.UUID{}) // the entry's array
	if err != nil {
		t.Fatal(err)
	}
	if err := e.TakeOver(); err != nil {
		t.Fatal(err)
	}
	if x, err := e.entry(u); err != nil || x == nil || x.Events != 1 {
		t.Errorf("while another works on the array the entry is %+v, %v; want it as it was", x, err)
	}
	unlock()
	for range 2 {
		if err := e.TakeOver(); err != nil {
			t.Fatal(err)
		}
	}
	if x, err := e.entry(u); err != nil || x == nil || x.Events != 2 {
		t.Errorf("the entry is %+v, %v; want the initramfs's", x, err)
	}
	if text, err := os.ReadFile(filepath.Join(e.VarDir(), config.HistoryFile)); err != nil || string(text) != "before\nearly\n" {
		t.Errorf("the history is %q, %v", text, err)
	}
	if left, err := filepath.Glob(filepath.Join(e.handedOver(), "*", "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	early()
	if err := e.record(Entry{Clone: u, Events: 3}); err != nil {
		t.Fatal(err)
	}
	bad := e.entryPath(u)
	if err := os.WriteFile(bad, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	late()
	if err := e.TakeOver(); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("TakeOver() of a damaged entry = %v; want an error that names it", err)
	}
	if x, err := e.entry(u); err != nil || x.Events != 2 {
		t.Errorf("the entry is %+v, %v; want it as it was", x, err)
	}
}

func TestMatches(t *testing.T) {
	u, array := md.UUID{7}, md.UUID{1}
	drive := func(raw string) []md.Found {
		return []md.Found{{Member: &md.Member{Raw: []byte(raw), Super: &md.Superblock{Device: u, Array: array}}}}
	}
	x := Entry{Clone: u, Array: array, Super: []byte("as it left")}
	attached := x
	attached.Attached = true
	for _, test := range []struct {
		name  string
		entry Entry
		found []md.Found
		want  bool
	}{
		{"as it left", x, drive("as it left"), true},
		{"touched since", x, drive("touched"), false},
		{"not here", x, nil, false},
		{"attached then", attached, drive("as it left"), false},
		{"of another array", Entry{Clone: u, Super: x.Super}, drive("as it left"), false},
	} {
		if got := matches(&test.entry, test.found); got != test.want {
			t.Errorf("%s: matches() = %v; want %v", test.name, got, test.want)
		}
	}
}

// TestTornHistory: a line that was cut costs no other.
func TestTornHistory(t *testing.T) {
	e := &Env{Root: t.TempDir()}
	for _, text := range []string{"{\"a\":1}\n", "{\"cut", "{\"b\":2}\n", "{\"c\":3}\n"} {
		if err := e.addHistory([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(e.VarDir(), config.HistoryFile))
	if want := "{\"a\":1}\n{\"cut\n{\"b\":2}\n{\"c\":3}\n"; err != nil || string(text) != want {
		t.Errorf("the history is %q, %v; want %q", text, err, want)
	}
}

// TestDamagedEntry: what one clone is known by is no matter of another's.
func TestDamagedEntry(t *testing.T) {
	var log strings.Builder
	one, damaged := md.UUID{1}, md.UUID{2}
	e := &Env{FS: sysfs.At(t.TempDir()), Root: t.TempDir(), Log: report.Log{W: &log}}
	path := e.entryPath(damaged)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	target := &Target{env: e, Conf: config.Array{Clones: []md.UUID{one, damaged}}}
	if got, away := target.otherClones(one); got != 1 || away != 1 || !strings.Contains(log.String(), damaged.String()) {
		t.Errorf("otherClones() = %d, %d away, says %q; want 1, away, and whose entry is damaged", got, away, log.String())
	}
}
