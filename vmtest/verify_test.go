//go:build vmtest

package vmtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/pkg/report"
	"mdclone/vmtest/vm"
)

// TestVerify: a clone that differs is told from one that does not, and can be made equal.
func TestVerify(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 4)
		r.adopted()
		code(t, r.account(3, "verify"), "not-attached")
		const copied = 30
		r.write("/dev/md0", 4, copied)
		r.account(0, "attach")
		r.quiet() // md has cleared its marks
		changed := func(want int) clone.Result {
			t.Helper()
			got := r.account(want, "verify", "--changed")
			if got.VerifiedBytes < 4*mib || got.VerifiedBytes > 6*mib {
				t.Errorf("verify --changed: %+v; want the 4 MiB that were copied compared", got)
			}
			return got
		}
		changed(0)
		r.spoil("vdc", copied+1)
		if got := changed(5); got.MismatchedSectors < 128 {
			t.Errorf("verify --changed of a clone that differs: %+v; want 128 sectors or more", got)
		}
		r.account(0, "verify", "--repair")
		changed(0)
		r.Script("rm /run/mdclone/copied-*")
		code(t, r.account(3, "verify", "--changed"), "copied-unknown")
		if got := r.account(0, "verify"); got.VerifiedBytes < 100*mib || !got.Attached {
			t.Errorf("verify: %+v; want all compared, the clone still in", got)
		}
		const where = 50
		r.spoil("vdc", where)
		got := r.account(5, "verify")
		if code(t, got, "mismatch"); got.MismatchedSectors < 128 {
			t.Errorf("verify of a clone that differs: %+v; want 128 sectors or more", got)
		}
		if got := r.account(0, "verify", "--repair"); got.MismatchedSectors != 0 {
			t.Errorf("verify --repair: %+v; want nothing different any more", got)
		}
		r.account(0, "detach")
		r.equal()
		r.tunables()

		// the clone comes before the one primary that is left: md would repair that one
		r.account(0, "attach")
		r.sh(`mdadm /dev/md0 --add /dev/vdd 2>/dev/null; mdadm --grow /dev/md0 --raid-devices=4 2>/dev/null
			until grep -q in_sync $M/dev-vdd/state; do sleep 0.05; done; idle; out vda; out vdb`)
		r.spoil("vdc", where)
		there := func() string {
			return r.Must("dd", "if=/dev/md0", "bs=4k", "count=16", fmt.Sprint("skip=", where*256), "iflag=direct", "status=none")
		}
		before := there()
		code(t, r.account(5, "verify", "--repair"), "repair-source")
		if there() != before {
			t.Error("what the clone holds was written over the primary")
		}
	})
}

// spoil changes 64 KiB of a clone's disk beneath the array, so many MiB into its data.
func (r *rig) spoil(name string, at int) {
	r.t.Helper()
	start := readMember(r.t, r.disk(name)).Super.DataOffset * 512
	r.Script(fmt.Sprintf("dd if=/dev/urandom of=/dev/%s bs=4k count=16 seek=%d oflag=direct status=none", name, start/4096+uint64(at)*256))
}

// clonesThatDiffer are found out, and the run that has found it does not come to its end. What leaves then counts as no clone
// before all of it has been compared.
func clonesThatDiffer(t *testing.T, a *attackable) {
	t.Run("the repair is ended", func(t *testing.T) { a.again(t).repairEnded(t) })
	t.Run("the run is killed", func(t *testing.T) { a.again(t).killedWhenFound(t) })
	t.Run("the comparison is interrupted", func(t *testing.T) { a.again(t).interruptedWhenFound(t) })
	t.Run("the array is written all the while", func(t *testing.T) { a.again(t).differsUnderWrites(t) })
}

// repairEnded: the repair has not come to the place that differs.
func (r *rig) repairEnded(t *testing.T) {
	r.account(0, "attach")
	r.spoil("vdc", 50)
	r.limits(r.disks[2].Serial, 8*mib, 0) // so that it is under way for some time
	p := r.start("verify", "--repair")
	r.sh(`until [ "$(action)" = repair ] && grep -q / $M/sync_completed; do :; done; echo idle > $M/sync_action`)
	code(t, r.ended(p, 1), "check-stopped")
	r.limits(r.disks[2].Serial, 0, 0)
	r.tunables()
	r.mayNotLeave(t)
}

// killedWhenFound: the comparison is over, and the bitmap is waited for. The touch that comes in between is the sign.
func (r *rig) killedWhenFound(t *testing.T) {
	r.account(0, "attach")
	r.spoil("vdc", 50)
	r.holder()
	r.quiet()
	p := r.start("backup", "--verify", "full")
	r.sh(`written() { local s; read -ra s < /sys/block/md0/stat; n=${s[4]}; }
		written; before=$n; ` + theRun + `
		until [ "$(cat $M/mismatch_cnt)" -gt 0 ] && [ "$(action)" = idle ] && written && [ $n -gt $before ]; do :; done; kill -KILL $run`)
	if got, err := p.Wait(r.Context()); err != nil || got.Signal != syscall.SIGKILL {
		t.Fatalf("the run ended before it was killed: %v %+v", err, got)
	}
	r.unheld()
	r.mayNotLeave(t)
	r.tunables()
}

// mayNotLeave requires that detach compares all of the clone, finds that it differs, and keeps it in.
func (r *rig) mayNotLeave(t *testing.T) {
	t.Helper()
	got := r.account(5, "detach")
	if code(t, got, "mismatch"); !got.Attached || got.MismatchedSectors < 128 {
		t.Errorf("detach: %+v; want it attached, 128 sectors different or more", got)
	}
	if state := r.File("/sys/block/md0/md/dev-vdc/state"); !strings.Contains(state, "in_sync") {
		t.Errorf("the clone is %q; want it in sync, in the array", state)
	}
}

// interruptedWhenFound: the clone stays in, as nobody has asked for it to leave, and its next comparison is of everything.
func (r *rig) interruptedWhenFound(t *testing.T) {
	r.account(0, "attach")
	r.spoil("vdc", 5)
	r.limits(r.disks[2].Serial, 4*mib, 0)
	p := r.start("verify")
	r.sh(`until [ "$(cat $M/mismatch_cnt)" -gt 0 ]; do :; done; [ "$(action)" = check ]`)
	if err := p.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := r.ended(p, 130); !got.Attached {
		t.Errorf("after an interrupt: %+v; want the clone in", got)
	}
	r.limits(r.disks[2].Serial, 0, 0)
	r.tunables()
	got := r.account(5, "backup")
	if code(t, got, "mismatch"); got.MismatchedSectors < 128 || got.VerifiedBytes < 50*mib {
		t.Errorf("the next backup: %+v; want all compared, and that it differs", got)
	}
	r.account(0, "verify", "--repair")
	r.taken("vda")
}

// differsUnderWrites: no look falls into a moment without writes, which are elsewhere, and of which a slow disk always has some to
// do. The clone leaves doubted.
func (r *rig) differsUnderWrites(t *testing.T) {
	r.holder()
	p := settling
	p.before = func(r *rig) { r.write(r.top, 8, 48) }
	enough := func() {}
	defer func() { enough() }()
	run := r.reached(p, func(*vm.Process) {
		r.spoil("vdc", 50) // what was copied
		r.throttle("vdb", 2*mib)
		writers, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", `for i in 1 2 3 4; do
				while [ ! -e /run/enough ]; do dd if=/dev/urandom of=/dev/mapper/data bs=128k count=2 seek=$((i * 16)) oflag=direct status=none; done &
			done
			until read -r _ n < /sys/block/md0/inflight && [ $n -gt 2 ]; do :; done; echo writing; wait`}})
		if err != nil {
			t.Fatal(err)
		}
		enough = sync.OnceFunc(func() {
			r.Must("touch", "/run/enough")
			r.throttle("vdb", 0)
			if _, err := writers.Wait(r.Context()); err != nil {
				t.Fatal(err)
			}
		})
		if err := writers.AwaitStdout(r.Context(), "writing"); err != nil {
			t.Fatal(err)
		}
	})
	got := r.ended(run, 0)
	enough()
	if !slices.ContainsFunc(got.Reasons, func(why report.Reason) bool { return why.Code == "doubted" }) {
		t.Errorf("backup: %+v; want it to say that the clone is doubted", got)
	}
	code(t, r.account(5, "backup"), "mismatch")
	r.account(0, "verify", "--repair")
	r.taken("vda")
}
