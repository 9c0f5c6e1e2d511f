//go:build vmtest

package vmtest

import (
	"strings"
	"testing"
)

// leftovers are arrays as somebody else left them: stopped short, busy, frozen, suspended.
func leftovers(t *testing.T, a *attackable) {
	t.Run("flags of the clone", func(t *testing.T) { a.again(t).flagsOutlast(t) })
	t.Run("a range that ends every sync before what changed", func(t *testing.T) {
		r := a.again(t)
		r.sh("echo 2048 > $M/sync_min; echo 20480 > $M/sync_max")
		r.taken("vda")
	})
	if a.newest() {
		return
	}
	for _, test := range []struct{ name, do, undo, code string }{
		{"a check that runs", "checking", "echo idle > $M/sync_action; fast", "busy"},
		{"a frozen sync, and a range", "echo 20480 > $M/sync_max; echo frozen > $M/sync_action", "echo idle > $M/sync_action", "busy"},
		{"a part whose writes are suspended", "echo 0 > $M/suspend_lo; echo 2048 > $M/suspend_hi", "echo 0 > $M/suspend_hi", "suspended"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := a.again(t)
			r.quiet()
			r.sh(test.do)
			r.leavesAll(func() {
				code(t, r.account(3, "backup"), test.code)
				code(t, r.account(3, "attach"), test.code)
			})
			r.sh(test.undo)
			r.taken("vda")
		})
	}
	t.Run("a frozen sync, and a clone that failed", func(t *testing.T) {
		r := a.again(t)
		r.account(0, "attach")
		r.sh("echo faulty > $M/dev-vdc/state; echo frozen > $M/sync_action")
		r.quiet()
		r.leavesAll(func() { code(t, r.account(3, "backup"), "busy") })
		r.sh("echo idle > $M/sync_action")
		r.taken("vda")
	})
	t.Run("a dm device that is suspended", func(t *testing.T) {
		r := a.again(t)
		r.sh("echo 0 $(blockdev --getsz /dev/md0) linear /dev/md0 0 | dmsetup create top; dmsetup suspend top")
		if got := r.early(0, "backup"); !strings.Contains(got.Stderr, "suspended already") {
			t.Errorf("backup says %q; want that somebody has the device suspended", got.Stderr)
		}
		if got := r.Must("dmsetup", "info", "-c", "--noheadings", "-o", "suspended", "top"); !strings.Contains(got, "Suspended") {
			t.Errorf("the device that somebody suspended is %q; want it left suspended", got)
		}
		r.sh("dmsetup resume top; dmsetup remove top")
		r.same("vda", "vdc")
	})
	t.Run("a file system that is frozen", func(t *testing.T) {
		r := a.again(t)
		r.sh("mkfs.ext4 -q -F /dev/md0; mount /dev/md0 /mnt; dd if=/dev/urandom of=/mnt/x bs=1M count=3 conv=fsync status=none; fsfreeze --freeze /mnt")
		if got := r.early(0, "backup"); !strings.Contains(got.Stderr, "frozen") {
			t.Errorf("backup says %q; want that somebody has the file system frozen", got.Stderr)
		}
		r.same("vda", "vdc") // nobody can have written
		r.sh("fsfreeze --unfreeze /mnt; umount /mnt")
		r.taken("vda")
	})
}

// leavesAll requires that do changes neither a disk nor what the array is told.
func (r *rig) leavesAll(do func()) {
	r.t.Helper()
	const told = "cat $M/sync_action $M/sync_min $M/sync_max $M/suspend_lo $M/suspend_hi; grep . $M/dev-*/state"
	before := r.sh(told)
	r.untouched(do)
	if after := r.sh(told); after != before {
		r.t.Errorf("a refusal left\n%s\nwhich was\n%s", after, before)
	}
}

// flagsOutlast: the kernel's re-add drops what it is not told, so each join passes on what the drive was.
func (r *rig) flagsOutlast(t *testing.T) {
	r.account(0, "attach")
	r.sh("echo failfast > $M/dev-vdc/state")
	r.early(0, "detach")
	r.account(0, "attach")
	if got := r.File("/sys/block/md0/md/dev-vdc/state"); !strings.Contains(got, "write_mostly") || !strings.Contains(got, "failfast") {
		t.Errorf("after a join the clone is %q; want it write_mostly and failfast", got)
	}
	r.early(0, "detach")
	if s := r.onDisk(t, "vdc").Super; !s.WriteMostly || !s.FailFast {
		t.Errorf("on disk write-mostly is %v, failfast %v; want both", s.WriteMostly, s.FailFast)
	}
	r.same("vda", "vdc")
}
