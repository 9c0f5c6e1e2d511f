//go:build vmtest

package vmtest

import (
	"slices"
	"testing"

	"mdclone/pkg/clone"
)

// An attackGroup is tried on one guest, one attack after the other.
type attackGroup struct {
	name   string
	newest bool // is for the newest kernel too: what it rests on is the kernel's doing
	do     func(t *testing.T, a *attackable)
}

var attackGroups = []attackGroup{
	{"drives that would differ", true, drivesThatWouldDiffer},
	{"drives that are healed", false, drivesThatAreHealed},
	{"harmless use", false, harmlessUse},
	{"slots", true, slots},
	{"leftovers", true, leftovers},
	{"failures", true, failures},
	{"behind our back", true, behindOurBack},
	{"clones that differ", false, clonesThatDiffer},
	{"unplugged while it was in", false, unplugged},
	{"power cuts", true, powerCuts},
	{"cut joins", true, cutJoins},
	{"while it is away", false, whileAway},
	{"rows", true, rows},
	{"what status tells", false, statusTells},
	{"unfit clones", false, unfitClones},
}

// TestAttacks does to the drives what ends, with plain md, in a mirror that silently differs, in a broken array or in the
// loss of the newest copy. With the product it ends in a refusal, without one byte written, or in a clone that is a copy.
func TestAttacks(t *testing.T) {
	eachKernel(t, func(t *testing.T, suite string) {
		for half := range slices.Chunk(attackGroups, (len(attackGroups)+1)/2) { // all on one guest take longest of all tests
			t.Run("from "+half[0].name, func(t *testing.T) {
				t.Parallel()
				a := newAttackable(t, suite, 5)
				for _, group := range half {
					if !a.newest() || group.newest {
						t.Run(group.name, func(t *testing.T) { group.do(t, a) })
					}
				}
			})
		}
	})
}

// A differing drive is one that the kernel joins without a word, or nearly so.
type differing struct {
	name, do string
	host     func(a *attackable, r *rig) // what only the host can do, before
	code     string
	state    clone.State
	silent   bool // plain md takes it, and it differs
}

var differingDrives = []differing{
	{
		name: "the bitmap was made anew, and it ran alone past that", code: "ran-alone", state: clone.Diverged, silent: true,
		do: `mdadm --grow /dev/md0 --bitmap=none; mdadm --grow /dev/md0 --bitmap=internal --bitmap-chunk=1M; clear; stop /dev/md0
				for i in 1 2 3 4 5 6 7 8; do alone /dev/vdc; write /dev/md9 1 40; stop /dev/md9; done; up /dev/vda /dev/vdb`,
	},
	{
		name: "both bitmaps were made anew", code: "ran-alone", state: clone.Diverged,
		do: `mdadm --grow /dev/md0 --bitmap=none; mdadm --grow /dev/md0 --bitmap=internal --bitmap-chunk=1M; stop /dev/md0; alone /dev/vdc
				write /dev/md9 1 40; mdadm --grow /dev/md9 --bitmap=none; mdadm --grow /dev/md9 --bitmap=internal --bitmap-chunk=1M
				write /dev/md9 1 45; stop /dev/md9; up /dev/vda /dev/vdb`,
	},
	{
		name: "it got two other drives and lost them", code: "ran-alone", state: clone.Diverged, silent: true,
		do: `stop /dev/md0; ` + rebuilt + `mdadm /dev/md9 --fail /dev/vdd --remove /dev/vdd --fail /dev/vde --remove /dev/vde 2>/dev/null
				write /dev/md9 1 45; stop /dev/md9; mdadm --zero-superblock /dev/vdd /dev/vde; up /dev/vda /dev/vdb`,
	},
	{
		name: "it got two other drives and still lists them", code: "ran-alone", state: clone.Diverged,
		do: `stop /dev/md0; ` + rebuilt + `write /dev/md9 1 45; stop /dev/md9; mdadm --zero-superblock /dev/vdd /dev/vde; up /dev/vda /dev/vdb`,
	},
	{
		name: "an old image of it", code: "bits-cleared", state: clone.Outdated,
		host: func(a *attackable, r *rig) {
			r.early(0, "backup") // nothing is written meanwhile
			r.putBack(a.start, "vdc")
		},
	},
	{
		name: "the primaries were put back to an older state", code: "primaries-older", state: clone.Outdated, silent: true,
		host: func(a *attackable, r *rig) {
			r.write("/dev/md0", 3, 45)
			r.early(0, "backup")
			r.stopAll()
			r.putBack(a.start, "vda", "vdb")
			r.assemble()
		},
		do: `rounds 20`,
	},
	{
		name: "one primary was put back to an older state, the other is gone", code: "primaries-older", state: clone.Outdated,
		host: func(a *attackable, r *rig) {
			r.early(0, "backup")
			r.stopAll()
			r.putBack(a.start, "vda")
			r.assemble("vda")
		},
		do: `rounds 20`,
	},
	{
		name: "assembled alone by force", code: "ran-alone", state: clone.Diverged,
		do: `stop /dev/md0; alone --force /dev/vdc; write /dev/md9 1 40; stop /dev/md9; up /dev/vda /dev/vdb`,
	},
	{
		name: "assembled alone as auto-read-only, then written", code: "ran-alone", state: clone.Diverged, silent: true,
		do: `stop /dev/md0; echo 1 > /sys/module/md_mod/parameters/start_ro; alone /dev/vdc; echo 0 > /sys/module/md_mod/parameters/start_ro
				grep -q read-auto /sys/block/md9/md/array_state; write /dev/md9 1 40; stop /dev/md9; up /dev/vda /dev/vdb`,
	},
	{
		name: "it has no bitmap any more", code: "ran-alone", state: clone.Diverged,
		do: `stop /dev/md0; alone --update=no-bitmap /dev/vdc; write /dev/md9 1 40; stop /dev/md9; up /dev/vda /dev/vdb`,
	},
	{
		name: "made an array of one and of three again", code: "ran-alone", state: clone.Diverged,
		do: `stop /dev/md0; alone /dev/vdc; mdadm --grow /dev/md9 --raid-devices=1 --force 2>/dev/null; write /dev/md9 1 40
				mdadm --grow /dev/md9 --raid-devices=3 --force 2>&1; write /dev/md9 1 45; stop /dev/md9; up /dev/vda /dev/vdb`,
	},
	{
		name: "run elsewhere with a primary that is gone", code: "ran-alone", state: clone.Diverged,
		do: `out vdb; stop /dev/md0; ` + apart + `up /dev/vda`,
	},
}

// make has the array's clone become such a drive.
func (d differing) make(t *testing.T, a *attackable) *rig {
	t.Helper()
	r := a.again(t)
	if d.host != nil {
		d.host(a, r)
	}
	r.sh(d.do)
	return r
}

// eachDiffering runs a test with all of them, or, where there is no time, with the silent ones alone: what only we look at is the
// same on every kernel.
func eachDiffering(t *testing.T, all bool, do func(t *testing.T, d differing)) {
	for _, d := range differingDrives {
		if d.silent || all || soaking() {
			t.Run(d.name, func(t *testing.T) { do(t, d) })
		}
	}
}

// drivesThatWouldDiffer must be refused, each for its reason, also where no ledger vouches for anything.
func drivesThatWouldDiffer(t *testing.T, a *attackable) {
	eachDiffering(t, a.suite == "trixie", func(t *testing.T, d differing) {
		r := d.make(t, a)
		r.quiet()
		r.untouched(func() {
			r.refusedNow(d.code, d.state, "/dev/vdc")
			r.forget()
			r.early(3, "check", "/dev/md0", "/dev/vdc")
		})
		if d.silent {
			if n := r.mdTakes("vdc"); n == "0\n" {
				t.Error("plain md makes a good mirror of it: this attack shows nothing")
			}
		}
	})
}

// drivesThatAreHealed are the same drives where healing is asked for, and no ledger tells of numbers that agree by chance. Each is
// refused, or is a copy then, or is found to differ.
func drivesThatAreHealed(t *testing.T, a *attackable) {
	eachDiffering(t, false, func(t *testing.T, d differing) {
		r := d.make(t, a)
		r.forget()
		switch got := r.Try("mdclone-early", "backup", "--heal"); got.Code {
		case 0:
			r.equal()
		case 3, 5:
			t.Logf("%d: %s", got.Code, got.Stderr)
		default:
			t.Errorf("backup --heal = %d: %s", got.Code, got.Stderr)
		}
		r.tunables()
	})
}

// rebuilt makes the clone a whole array of three with two other drives, whose bitmap is then all clear.
const rebuilt = `alone /dev/vdc; write /dev/md9 4 40; mdadm /dev/md9 --add /dev/vdd /dev/vde 2>/dev/null
	until [ "$(cat /sys/block/md9/md/degraded)" = 0 ]; do sleep 0.1; done
	echo 1 > /sys/block/md9/md/bitmap/time_base; until mdadm -X /dev/vdc | grep -q ' 0 dirty'; do sleep 0.1; done
	echo 5 > /sys/block/md9/md/bitmap/time_base
`

// apart runs the clone elsewhere, together with the primary vdb.
const apart = `alone /dev/vdb; mdadm /dev/md9 --re-add /dev/vdc 2>/dev/null
	until grep -q in_sync /sys/block/md9/md/dev-vdc/state; do sleep 0.05; done; write /dev/md9 1 40; stop /dev/md9
`

// harmlessUse does with the clone, elsewhere, what changes no data. It is taken back, or refused because its superblock is
// another one; asked for, all of it is then compared.
func harmlessUse(t *testing.T, a *attackable) {
	for _, test := range []struct{ name, do, code string }{
		{"assembled read-only", "alone --readonly /dev/vdc; dd if=/dev/md9 of=/dev/null bs=1M count=8 status=none", ""},
		{"assembled auto-read-only, and read", `echo 1 > /sys/module/md_mod/parameters/start_ro; alone /dev/vdc
			echo 0 > /sys/module/md_mod/parameters/start_ro; dd if=/dev/md9 of=/dev/null bs=1M count=8 status=none`, ""},
		{"assembled, nothing written", "alone /dev/vdc", ""},
		{"renamed", "alone --update=name --name=other /dev/vdc", "touched"},
		{"marked for a resync", "alone --readonly --update=resync /dev/vdc", "touched"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := a.again(t)
			r.sh("stop /dev/md0; " + test.do + "; stop /dev/md9; up /dev/vda /dev/vdb")
			if test.code == "" {
				r.taken("vda")
				return
			}
			r.refused(test.code, clone.Outdated, "/dev/vdc")
			if got := r.taken("vda", "--verify", "full"); got.VerifiedBytes < 50*mib {
				t.Errorf("backup --verify full: %+v; want all of it compared", got)
			}
		})
	}
}
