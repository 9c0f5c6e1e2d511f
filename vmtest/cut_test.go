//go:build vmtest

package vmtest

import (
	"syscall"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// powerCuts cut the power at the moments that leave the superblocks in disorder.
func powerCuts(t *testing.T, a *attackable) {
	for _, test := range []struct {
		name   string
		newest bool
		do     func(r *rig, t *testing.T)
	}{
		{"while the clone is copied to", true, (*rig).cutWhileCopying},
		{"while the clone is in sync and the array is written", false, (*rig).cutWhileWriting},
		{"while the clone is in sync, and one primary is left", true, (*rig).cutAndForgotten},
		{"while bits are still to be cleared", false, (*rig).cutBeforeBitsClear},
		{"right after the clone was taken out by hand", false, (*rig).cutAfterRemoval},
		{"within an update of the superblocks", true, (*rig).cutWithinUpdate},
		{"after the array went on on the clone", true, (*rig).cutWhenAhead},
		{"right after the clone was run alone", false, (*rig).cutWhenAlone},
		{"in a rollback", true, (*rig).cutInRollback},
	} {
		if a.newest() && !test.newest {
			continue
		}
		t.Run(test.name, func(t *testing.T) { test.do(a.again(t), t) })
	}
}

// stopProcess kills a process of the guest and waits for its end.
func (r *rig) stopProcess(p *vm.Process) {
	r.t.Helper()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	if _, err := p.Wait(r.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) cutWhileCopying(t *testing.T) {
	r.write("/dev/md0", 20, 30)
	p := r.copying(t)
	r.sh("until mdadm -E /dev/vdc | grep -q 'Recovery Offset'; do sleep 0.05; done")
	s := r.snapshot()
	r.stopProcess(p)
	r.throttle("vdc", 0)
	for _, ledger := range []bool{true, false} {
		r.backTo(s)
		r.assemble()
		if !ledger {
			r.useState()
			r.forget()
		}
		if got := r.status().Clones[0].State; got != clone.Interrupted {
			t.Errorf("status says %s; want interrupted (ledger: %v)", got, ledger)
		}
		r.taken("vda")
	}
}

// cutInWrites cuts the power, as far as the disks can tell, after the first writes and while those that go on are repeated.
func (r *rig) cutInWrites(t *testing.T, first, goOn string) {
	t.Helper()
	p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", helpers + first + "; echo writing; while :; do " + goOn + "; done"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitStdout(r.Context(), "writing"); err != nil {
		t.Fatal(err)
	}
	s := r.snapshot()
	r.stopProcess(p)
	r.backTo(s)
}

func (r *rig) cutWhileWriting(t *testing.T) {
	r.account(0, "attach")
	r.cutInWrites(t, "for i in 1 2 3; do write /dev/md0 1 $i; done", "write /dev/md0 1 $((RANDOM % 50))")
	r.assemble()
	r.taken("vda")
}

// cutAndForgotten: of an array that is started with one disk, and that had cleared bits since its last event, md forgets which
// chunks were being written at the cut. One of them differs on the clone.
func (r *rig) cutAndForgotten(t *testing.T) {
	r.account(0, "attach")
	r.cutInWrites(t, `number() { sed -n "s/ *$1 : //p"; }; echo 1 > $M/bitmap/time_base
		until [ "$(mdadm -E /dev/vda | number Events)" = "$(mdadm -X /dev/vda | number 'Events Cleared')" ]; do
			write /dev/md0 1 $((RANDOM % 50))
		done`, "write /dev/md0 1 $((RANDOM % 50))")
	dirty := r.onDisk(t, "vdc").Bitmap.Dirty.Ranges()
	r.spoil("vdc", int(dirty[0].First))
	r.assemble("vda")
	r.sh("until mdadm -X /dev/vda | grep -q ' 0 dirty'; do sleep 0.2; done; echo 5 > $M/bitmap/time_base")
	r.taken("vda")
}

func (r *rig) cutBeforeBitsClear(_ *testing.T) {
	r.account(0, "attach")
	r.sh("write /dev/md0 3 40; clean; ! mdadm -X /dev/vda | grep -q ' 0 dirty'")
	r.powerCut()
	r.taken("vda")
}

func (r *rig) cutAfterRemoval(t *testing.T) {
	r.account(0, "attach")
	r.sh("write /dev/md0 3 40; out vdc")
	r.powerCut()
	r.write("/dev/md0", 1, 10)
	if got := r.taken("vda"); got.VerifiedBytes < 50*mib {
		t.Errorf("backup: %+v; want all compared of a clone that left without us", got)
	}
}

// cutWithinUpdate: the clone's superblock is one event ahead of the primaries', which then catch up by other writes:
// equal events, different data. Nothing ran alone.
func (r *rig) cutWithinUpdate(t *testing.T) {
	r.account(0, "attach")
	r.sh(`clean; sb() { dd bs=4k count=1 status=none "$@"; }
		echo 30 > $M/safe_mode_delay; write /dev/md0 1 40; sb if=/dev/vdc of=/run/active skip=1 iflag=direct; echo 0.2 > $M/safe_mode_delay
		write /dev/md0 1 41; clean; sb if=/run/active of=/dev/vdc seek=1 oflag=direct`)
	r.powerCut()
	if a, c := r.onDisk(t, "vda").Super, r.onDisk(t, "vdc").Super; c.Events != a.Events+1 || c.View() != "012" {
		t.Fatalf("events %d on the primary, %d on the clone, which sees %s; want one more, and 012", a.Events, c.Events, c.View())
	}
	r.early(0, "check", "/dev/md0", "/dev/vdc")
	r.sh("write /dev/md0 2 45; clean")
	r.taken("vda")
}

// cutWhenAhead: both primaries fail, the machine goes on on the clone, and after the cut they are back: what the clone
// has is the newest, and must not be synced over.
func (r *rig) cutWhenAhead(_ *testing.T) {
	r.account(0, "attach")
	r.sh("for d in vda vdb; do echo faulty > $M/dev-$d/state; done; write /dev/md0 4 45; clean")
	r.powerCut()
	r.refused("ahead", clone.Ahead, "/dev/vdc")
	r.untouched(func() {
		r.early(3, "adopt", "/dev/md0", "/dev/vdc")
		r.early(3, "adopt", "/dev/md0", "/dev/vdc", "--overwrite")
	})
	r.sh("rounds 20") // the primaries alone are gone on with, past the clone
	r.refused("ran-alone", clone.Diverged, "/dev/vdc")
}

// cutWhenAlone: it left with writes under way, and wrote one block alone.
func (r *rig) cutWhenAlone(_ *testing.T) {
	r.account(0, "attach")
	r.sh("write /dev/md0 1 40; out vdc; stop /dev/md0; alone /dev/vdc; dd if=/dev/urandom of=/dev/md9 bs=4k count=1 seek=11000 oflag=direct status=none")
	r.powerCut()
	r.refused("ran-alone", clone.Diverged, "/dev/vdc")
}

// cutInRollback: the first primary was being brought back to the clone, the second is still as it was before. However the
// array is started then, the clone is not synced over, and not taken out.
func (r *rig) cutInRollback(t *testing.T) {
	r.write("/dev/md0", 20, 30)
	r.sh("stop /dev/md0; up /dev/vdc; for i in 0 20-23 30-49; do echo $i > $M/bitmap_set_bits; done")
	r.throttle("vda", 2*mib)
	r.sh("mdadm /dev/md0 --re-add /dev/vda 2>/dev/null; until mdadm -E /dev/vda | grep -q 'Recovery Offset'; do sleep 0.05; done")
	s := r.snapshot()
	r.throttle("vda", 0)
	for _, start := range []string{"/dev/vda /dev/vdb", "--force /dev/vda /dev/vdb", "/dev/vdb"} {
		r.backTo(s)
		r.sh("up " + start)
		r.refused("ran-alone", clone.Diverged, "/dev/vdc")
	}
	r.backTo(s)
	if r.Try("bash", "-c", helpers+"up /dev/vda").Code == 0 {
		t.Error("the primary that was being copied to starts alone; want that nothing does")
	}
	r.untouched(func() { r.early(1, "backup") })

	r.backTo(s)
	r.throttle("vda", 2*mib)
	r.sh("up /dev/vdc /dev/vda") // as the rollback is gone on with
	for _, command := range []string{"backup", "attach", "detach"} {
		code(t, r.account(3, command), "no-primary")
	}
	r.throttle("vda", 0)
	r.sh("idle")
	r.same("vda", "vdc")
	code(t, r.account(3, "backup"), "stands-in") // it is a primary again, and the other one is still to come
	r.account(0, "detach")
	r.same("vda", "vdc")
}
