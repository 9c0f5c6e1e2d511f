//go:build vmtest

package vmtest

import (
	"syscall"
	"testing"

	"mdclone/vmtest/vm"
)

// behindOurBack is what others do to an array while a clone is attached to it.
func behindOurBack(t *testing.T, a *attackable) {
	t.Run("taken out, run alone and put back", func(t *testing.T) { a.again(t).putBackByHand(t) })
	if !a.newest() { // it takes longest
		t.Run("a program has it open", func(t *testing.T) { a.again(t).plainOpener(t) })
	}
	t.Run("a comparison that is ended early", func(t *testing.T) { a.again(t).endedEarly(t) })
	t.Run("a resync after a crash", func(t *testing.T) { a.again(t).resyncs(t) })
	t.Run("a resync after a crash, the clone away", func(t *testing.T) { a.again(t).resyncsBefore(t) })
}

// putBackByHand: md takes the drive back and says that it is in sync; what is recorded is of the stay before.
func (r *rig) putBackByHand(t *testing.T) {
	r.account(0, "attach")
	r.sh("out vdc; write /dev/md0 1 30; stop /dev/md0; alone /dev/vdc; write /dev/md9 4 40; stop /dev/md9; up /dev/vda /dev/vdb; readd vdc")
	code(t, r.account(5, "detach"), "mismatch")
}

// endedEarly: md calls a comparison that was ended its last action, as one that saw everything.
func (r *rig) endedEarly(t *testing.T) {
	r.account(0, "attach")
	r.spoil("vdc", 50)
	r.limits(r.disks[2].Serial, 4*mib, 0)
	p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"mdclone-early", "verify", "--json"}})
	if err != nil {
		t.Fatal(err)
	}
	r.sh(`until [ "$(action)" = check ] && grep -q / $M/sync_completed; do :; done; echo idle > $M/sync_action`)
	code(t, r.ended(p, 1), "check-stopped")
	r.limits(r.disks[2].Serial, 0, 0)
	r.tunables()
	code(t, r.account(5, "verify"), "mismatch")
}

// resyncs: after a crash md makes all members equal, in the background, and calls all of them in sync meanwhile.
func (r *rig) resyncs(t *testing.T) {
	r.account(0, "attach")
	r.cutInWrites(t, "write /dev/md0 30 10", "write /dev/md0 30 10")
	r.sh(slow + `
		up /dev/vda /dev/vdb /dev/vdc; [ "$(cat $M/degraded)" = 0 ]; until [ "$(action)" = resync ]; do sleep 0.05; done`)
	detaching := func() *vm.Process {
		p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"mdclone-early", "detach", "--json"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.AwaitStderr(r.Context(), "waiting until its own disks are equal"); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := detaching()
	if err := p.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := r.ended(p, 130); !got.Attached {
		t.Errorf("interrupted: %+v; want it still attached: it is no clone yet", got)
	}
	r.sh(`[ "$(action)" = resync ]; grep -q in_sync $M/dev-vdc/state`)
	p = detaching()
	r.sh(`[ "$(action)" = resync ]; [ -e $M/dev-vdc ]; ` + fast)
	r.ended(p, 0)
	r.same("vda", "vdb")
	r.same("vda", "vdc")
	r.tunables()
}

// resyncsBefore: a backup waits for such a resync, and what is written meanwhile is copied and compared too.
func (r *rig) resyncsBefore(t *testing.T) {
	r.cutInWrites(t, "write /dev/md0 30 10", "write /dev/md0 30 10")
	r.sh(slow + `
		echo 1 > /sys/module/md_mod/parameters/start_ro; up /dev/vda /dev/vdb; echo 0 > /sys/module/md_mod/parameters/start_ro
		[ "$(cat $M/array_state)" = read-auto ]; [ "$(cat $M/resync_start)" != none ]`)
	p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"mdclone-early", "backup", "--json", "--verify", "changed"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitStderr(r.Context(), "waiting until its own disks are equal"); err != nil {
		t.Fatal(err)
	}
	r.write("/dev/md0", 8, 50)
	r.sh(fast)
	if got := r.ended(p, 0); got.VerifiedBytes < 38*mib || got.DirtyBytes < 38*mib {
		t.Errorf("%+v; want the 30 MiB and the 8 MiB of meanwhile copied and compared", got)
	}
	r.same("vda", "vdb")
	r.same("vda", "vdc")
	r.tunables()
}
