//go:build vmtest

package vmtest

import (
	"strings"
	"syscall"
	"testing"

	"mdclone/pkg/clone"
)

// slots are drives that sit in one another's slots.
func slots(t *testing.T, a *attackable) {
	t.Run("another drive took a turn in the clone's slot", func(t *testing.T) { a.again(t).takingTurns(t) })
	t.Run("two clones, each in a slot of its own", func(t *testing.T) { a.again(t).twoClones(t) })
	if !a.newest() {
		t.Run("a spare beside it", func(t *testing.T) { a.again(t).besideSpare(t) })
	}
	t.Run("a copy of the clone beside it", func(t *testing.T) {
		r := a.again(t)
		r.Script("dd if=/dev/vdc of=/dev/vdd bs=1M oflag=direct status=none")
		r.quiet()
		r.untouched(func() {
			code(t, r.account(3, "backup"), "two-drives")
			for _, drive := range []string{"/dev/vdc", "/dev/vdd"} {
				code(t, r.account(3, "backup", "--clone", drive), "two-drives")
				code(t, r.account(3, "check", "/dev/md0", drive), "two-drives")
				code(t, r.account(3, "check", drive), "two-drives")
			}
		})
		r.Script("dd if=/dev/zero of=/dev/vdd bs=1M oflag=direct status=none || true")
		r.taken("vda")
	})
}

// takingTurns: nothing is written while the other drive is in, so Events Cleared does not move, and md then takes the
// first one back with nothing to copy. The canary tells; without the ledger, all is compared and the difference found.
func (r *rig) takingTurns(t *testing.T) {
	r.sh("mdadm /dev/md0 --add /dev/vdd 2>/dev/null; until grep -q in_sync $M/dev-vdd/state; do sleep 0.1; done; clear; out vdd; mdadm --zero-superblock /dev/vdd")
	r.refused("canary", clone.Outdated, "/dev/vdc")
	r.stopAll()
	s := r.snapshot()
	r.assemble()
	r.forget()
	if got := r.account(5, "backup"); got.MismatchedSectors == 0 || !got.Attached || got.VerifiedBytes < 50*mib {
		t.Errorf("backup without a ledger: %+v; want all compared, and that it differs", got)
	}
	code(t, r.account(5, "detach"), "mismatch") // it does not get out as a clone either
	r.backTo(s)
	r.assemble()
	if n := r.mdTakes("vdc"); n == "0\n" {
		t.Error("plain md makes a good mirror of it: this attack shows nothing")
	}
}

// twoClones are made in turn, each while the other is away. A new drive that the kernel puts into the slot of one is no
// harm to the other. The first is then refused: the kernel would put it into the second's.
func (r *rig) twoClones(t *testing.T) {
	r.early(0, "attach")
	r.early(0, "adopt", "/dev/md0", "/dev/vdd")
	r.early(0, "detach", "--clone", "/dev/vdc")
	r.early(0, "detach", "--clone", "/dev/vdd")
	turn := func(drive string) {
		t.Helper()
		got := r.account(0, "backup", "--clone", "/dev/"+drive)
		if got.Result != "done" || got.Mode != "incremental" || got.Attached {
			t.Errorf("backup to %s: %+v; want done, incremental", drive, got)
		}
		r.same("vda", drive)
	}
	r.write("/dev/md0", 3, 30)
	turn("vdc")
	turn("vdd")
	r.write("/dev/md0", 3, 40)
	turn("vdd")
	turn("vdc")
	turn("vdd")

	r.write("/dev/md0", 2, 50)
	r.sh("mdadm /dev/md0 --add /dev/vde 2>/dev/null; until grep -q in_sync $M/dev-vde/state; do sleep 0.1; done; idle")
	if slot := strings.TrimSpace(r.File("/sys/block/md0/md/dev-vde/slot")); slot != "2" {
		t.Fatalf("the kernel put a new drive into slot %s; want 2, the first clone's: else this shows nothing", slot)
	}
	r.refused("slot-taken", clone.Outdated, "/dev/vdc")
	turn("vdd")
}

// besideSpare: md would copy to the spare as soon as the clone has left, and the clone could never come back.
func (r *rig) besideSpare(t *testing.T) {
	r.account(0, "attach")
	r.sh("mdadm /dev/md0 --add /dev/vdd 2>/dev/null; grep -q none $M/dev-vdd/slot")
	r.quiet()
	if advice := strings.Join(r.status().Advice, "\n"); !strings.Contains(advice, "/dev/md0 --remove /dev/vdd") || strings.Contains(advice, "/dev/vdc") {
		t.Errorf("status advises %q; want the spare taken out, and nothing said of the clone", advice)
	}
	r.untouched(func() {
		for _, command := range []string{"detach", "backup"} {
			got := r.account(3, command)
			if code(t, got, "spares"); !got.Attached {
				t.Errorf("%s: %+v; want the clone called attached", command, got)
			}
		}
	})
	r.sh("grep -qx 2 $M/dev-vdc/slot; grep -q in_sync $M/dev-vdc/state; grep -q none $M/dev-vdd/slot; mdadm /dev/md0 --remove /dev/vdd 2>/dev/null")
	r.account(0, "detach")
	r.same("vda", "vdc")

	r.write("/dev/md0", 24, 30)
	p := r.copying(t)
	signal := func(which syscall.Signal) {
		t.Helper()
		if err := p.Signal(which); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP) // mdadm freezes the sync for a moment, which would end the run
	r.sh("mdadm /dev/md0 --add /dev/vdd 2>/dev/null; grep -q none $M/dev-vdd/slot")
	signal(syscall.SIGINT)
	signal(syscall.SIGCONT)
	r.throttle("vdc", 0)
	got := r.ended(p, 1)
	if code(t, got, "interrupted"); !got.Attached {
		t.Errorf("interrupted beside a spare: %+v; want the clone in", got)
	}
	r.sh("grep -qx 2 $M/dev-vdc/slot; mdadm /dev/md0 --remove /dev/vdd 2>/dev/null")
	r.account(0, "detach")
	r.taken("vda")
}
