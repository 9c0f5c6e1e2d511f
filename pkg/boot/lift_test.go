package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// TestLiftFails: the clone is left without guard, for the distribution's own last resort, and is not tried again. Beside the
// array's own disks it stays guarded.
func TestLiftFails(t *testing.T) {
	b, log := fake(t, "quiet")
	b.Run = func(context.Context, string, ...string) (string, error) {
		return "mdadm: no", errors.New("exit status 1")
	}
	clone := md.UUID{3}
	d := Decision{Do: Lift, Clone: Drive{"vdz", &md.Superblock{Device: clone}}, Why: "it is a test"}
	conf := config.Array{Name: "root", UUID: md.UUID{1}, Clones: []md.UUID{clone}}
	if err := b.mark(doubted+conf.UUID.Dashed(), ""); err != nil {
		t.Fatal(err)
	}
	f := Facts{Conf: conf, Drives: []Drive{d.Clone}}
	err := b.carryOut(t.Context(), f, md.Array{}, d)
	if text := log.String(); err != nil || !strings.Contains(text, "mdadm: no") || !strings.Contains(text, "in no array") {
		t.Errorf("lift() = %v, %q; want what mdadm says, and that there is no array", err, text)
	}
	if !exists(b.file(liftMark+clone.Dashed())) || b.holds(conf) {
		t.Error("the guard is not lifted, or what is on the array is held")
	}
	if exists(filepath.Join(b.Root, "run/motd.d/mdclone")) || strings.Contains(log.String(), "runs from the clone") {
		t.Errorf("it is said that the machine runs from its clone: %q", log)
	}
	if f, _, err := b.facts(conf, nil); err != nil || !f.Broken[clone] {
		t.Errorf("facts() = %+v, %v; want the clone known not to start", f, err)
	}
	f.In = map[string]bool{"vda": true}
	err = b.lift(t.Context(), f, d)
	if exists(b.file(liftMark+clone.Dashed())) || err == nil || !strings.Contains(err.Error(), "hold the clone /dev/vdz") {
		t.Errorf("lift() = %v; want it guarded beside the array's own disks, and an attempt to hold it", err)
	}
}

// TestRetakeFails: an array that cannot be stopped runs on; what a person can do is said, and it is not tried at every look.
func TestRetakeFails(t *testing.T) {
	b, log := fake(t, "quiet")
	array := md.Array{FS: b.FS, Name: "none-such"}
	path := b.FS.Path(array.Attr("array_state"))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("clean\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	conf := config.Array{Name: "root", UUID: md.UUID{1}, Clones: []md.UUID{{3}}}
	d := Decision{Do: Retake, Clone: Drive{"vdz", &md.Superblock{Device: md.UUID{3}}}, Why: "it is a test"}
	if err := b.retake(t.Context(), Facts{Conf: conf}, array, d); err == nil || !b.busy[conf.UUID] {
		t.Errorf("retake() = %v, busy %v; want an error, and no other try", err, b.busy)
	}
	if !strings.Contains(log.String(), "turn the machine off, unplug its own disks") || exists(b.file(liftMark+md.UUID{3}.Dashed())) {
		t.Errorf("says %q; want what to do, and the clone guarded still", log)
	}
}

// TestRestart: what was stopped for its clone by a stage that was left behind then is started from its own disks by the next one.
func TestRestart(t *testing.T) {
	b, _ := fake(t, "quiet")
	var ran []string
	b.Run = func(_ context.Context, name string, args ...string) (string, error) {
		ran = append(ran, name+" "+strings.Join(args, " "))
		return "", nil
	}
	array := md.Array{FS: b.FS, Name: "none-such"}
	path := b.FS.Path(array.Attr("array_state"))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("clean\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	conf := config.Array{Name: "root", UUID: md.UUID{1}, Clones: []md.UUID{{3}}}
	own := Drive{"vda", &md.Superblock{Array: conf.UUID, Device: md.UUID{2}}}
	d := Decision{Do: Retake, Clone: Drive{"vdz", &md.Superblock{Array: conf.UUID, Device: md.UUID{3}}}, Why: "it is a test"}
	f := Facts{Conf: conf, Drives: []Drive{own, d.Clone}, In: map[string]bool{"vda": true}, State: "clean"}
	if err := b.carryOut(t.Context(), f, array, d); err == nil { // it goes no further than the stop
		t.Fatal("there is nothing to stop, but that is no error")
	}
	if err := os.RemoveAll(b.FS.Path("block")); err != nil {
		t.Fatal(err)
	}
	later, _, err := b.facts(conf, found([]Drive{own}))
	if later.Waits = true; err != nil || strings.Join(later.Stopped, " ") != "vda" {
		t.Fatalf("facts() = %+v, %v; want vda stopped", later, err)
	}
	d = Decide(later)
	err = b.carryOut(t.Context(), later, md.Array{}, d)
	if want := "/sbin/mdadm --incremental /dev/vda"; d.Do != Restart || strings.Join(ran, "; ") != want {
		t.Errorf("%s runs %q; want %s", d.Do, ran, want)
	}
	if err == nil { // as mdadm has done nothing
		t.Error("the array does not run, but that is no error")
	}
	if text, _ := os.ReadFile(filepath.Join(b.Root, "run/motd.d/mdclone")); !strings.Contains(string(text), "OLD DISKS: it could not be started") {
		t.Errorf("login says %q; want what it may run from, and why", text)
	}
	if _, left := b.stopped(conf); len(left) != 1 {
		t.Error("it is taken for running again")
	}
}

// TestLetGo: what a person has started from a clone, at a prompt, is left alone.
func TestLetGo(t *testing.T) {
	b, _ := fake(t, "quiet")
	clone := md.UUID{3}
	f := Facts{In: map[string]bool{"vdz": true}, Drives: []Drive{{"vdz", &md.Superblock{Device: clone}}}}
	if b.letGo(f) {
		t.Error("letGo() = true of a clone that was never held")
	}
	if err := b.mark(claimMark+clone.Dashed(), "999999999 vdz\n"); err != nil {
		t.Fatal(err)
	}
	if !b.letGo(f) {
		t.Error("letGo() = false of one whose holder was killed")
	}
	f.In = map[string]bool{"vda": true}
	if b.letGo(f) {
		t.Error("letGo() = true of one that is not in the array")
	}
}

// TestQuicker: what mdadm has started from a clone right before this stage is not waited for until udev has seen it.
func TestQuicker(t *testing.T) {
	b, _ := fake(t, "quiet")
	clone := md.UUID{3}
	f := Facts{
		Conf: config.Array{Clones: []md.UUID{clone}}, State: readAuto, In: map[string]bool{"vdz": true},
		Drives: []Drive{{"vdz", &md.Superblock{Device: clone}}},
	}
	quicker := func(want bool, when string) {
		t.Helper()
		if got := b.quicker(f); got != want {
			t.Errorf("%s: quicker() = %v; want %v", when, got, want)
		}
	}
	b.stage = stageWait
	quicker(false, "in init-premount, after a prompt")
	b.stage = stageBlock
	quicker(true, "in local-block")
	f.Lifted = map[md.UUID]bool{clone: true}
	quicker(false, "lifted")
	f.Lifted = nil
	if err := b.mark(claimMark+clone.Dashed(), "999999999 vdz\n"); err != nil {
		t.Fatal(err)
	}
	quicker(false, "let go by a person")
}

// TestMotd: what more than one look finds is told once.
func TestMotd(t *testing.T) {
	b, _ := fake(t, "quiet")
	for _, array := range []string{"root", "data", "root"} {
		if err := b.motd("ARRAY %s\n", array); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(b.Root, "run/motd.d/mdclone")); string(text) != "ARRAY root\nARRAY data\n" {
		t.Errorf("login says %q, %v; want each once", text, err)
	}
}

func TestFromClones(t *testing.T) {
	conf := config.Array{Clones: []md.UUID{on("c", 1, "012").Super.Device}}
	own, rebuilt, clone := on("p", 100, "01-"), on("q", 100, "01-~"), on("c", 400, "--2")
	for _, test := range []struct {
		name, state string
		in          []Drive
		want        bool
	}{
		{"the clone alone", "clean", []Drive{clone}, true},
		{"a new disk is being rebuilt", "active", []Drive{clone, rebuilt}, true},
		{"an own disk has all", "clean", []Drive{clone, own}, false},
		{"stopped", "", nil, false},
		{"not started", "inactive", []Drive{clone}, false},
	} {
		f := Facts{Conf: conf, State: test.state, Drives: []Drive{own, rebuilt, clone}, In: map[string]bool{}}
		for _, d := range test.in {
			f.In[d.Name] = true
		}
		if got := fromClones(f); got != test.want {
			t.Errorf("%s: fromClones() = %v; want %v", test.name, got, test.want)
		}
	}
}
