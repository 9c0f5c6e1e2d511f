//go:build vmtest

package vmtest

import (
	"fmt"
	"strings"
	"testing"

	"mdclone/vmtest/vm"
)

// failing makes a dm device that can be made to fail over each disk; the array and its clone are made of those.
func (r *rig) failing() {
	r.t.Helper()
	r.Script(`for d in vda vdb vdc; do dd if=/dev/urandom of=/dev/$d bs=1M count=8 oflag=direct status=none
			echo "0 $(blockdev --getsz /dev/$d) linear /dev/$d 0" | dmsetup create on-$d; done
		mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --bitmap=internal --bitmap-chunk=1M /dev/mapper/on-vda /dev/mapper/on-vdb
		mdadm --wait /dev/md0 || true`)
	r.early(0, "adopt", "/dev/md0", "/dev/mapper/on-vdc", "--name", "data")
	r.early(0, "detach")
	r.holder()
}

// break1 makes a disk fail every request, or ends that.
func (r *rig) break1(disk string, failing bool) {
	r.t.Helper()
	if failing {
		r.table(disk, "error")
	} else {
		r.table(disk, "linear /dev/"+disk+" 0")
	}
}

// table changes what the dm device over a disk does.
func (r *rig) table(disk, table string) {
	r.t.Helper()
	r.Script(fmt.Sprintf(`dmsetup suspend --noflush on-%[1]s; echo "0 $(blockdev --getsz /dev/%[1]s) %[2]s" | dmsetup load on-%[1]s
		dmsetup resume on-%[1]s`, disk, table))
}

// kernelName is that of a dm device.
func (r *rig) kernelName(dm string) string {
	r.t.Helper()
	return strings.TrimSpace(r.Must("dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", dm))
}

// replaced gives the array a new primary in the place of one that failed, by its node and kernel name: md remembers where the
// old one could not be read.
func (r *rig) replaced(drive, kernel string) {
	r.t.Helper()
	r.Script(`drive=` + drive + `; dir=/sys/block/md0/md/dev-` + kernel + `; [ ! -e $dir ] || mdadm /dev/md0 --remove $drive
		while [ -e $dir ]; do :; done
		mdadm --zero-superblock $drive; mdadm /dev/md0 --add $drive
		until grep -q in_sync $dir/state; do sleep 0.05; done`)
}

// TestDiskFails: a disk answers every request with an error in the middle of a cycle.
func TestDiskFails(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 3)
		r.failing()
		t.Run("the clone, joining", func(t *testing.T) {
			r := r.at(t)
			r.write(r.top, 4, 40)
			r.table("vdc", "flakey /dev/vdc 0 0 1 1 error_writes") // it is read, and judged
			got := r.account(1, "backup")
			if code(t, got, "drive-failed"); got.Attached || got.Seconds.Total > 30 {
				t.Errorf("a clone that takes no superblock: %+v; want it out, soon", got)
			}
			r.tunables()
			r.alive()
			r.break1("vdc", false)
			r.finished()
		})
		for _, p := range []phase{copying, settling, comparing} {
			t.Run("the clone, "+p.name, func(t *testing.T) {
				r := r.at(t)
				run := r.reached(p, func(*vm.Process) {
					r.break1("vdc", true)
					r.write("/dev/mapper/data", 1, 10)
				})
				if got := r.ended(run, 1); got.Result != "failed" || got.Attached {
					t.Errorf("after the clone failed: %+v; want failed, the clone out", got)
				}
				r.break1("vdc", false)
				r.finished()
			})
			t.Run("a primary, "+p.name, func(t *testing.T) {
				r := r.at(t)
				run := r.reached(p, func(*vm.Process) {
					r.break1("vdb", true)
					r.write("/dev/mapper/data", 1, 10)
				})
				got := r.ended(run, 1)
				code(t, got, "primary-failed")
				if !got.Attached {
					t.Errorf("after a primary failed: %+v; want the clone to stay", got)
				}
				r.tunables()
				r.break1("vdb", false)
				r.replaced("/dev/mapper/on-vdb", r.kernelName("on-vdb"))
				r.early(0, "detach")
				r.equal()
			})
		}
		t.Run("the last primary, copying", func(t *testing.T) { r.at(t).lastPrimaryFails(t) })
		t.Run("both primaries, the clone attached", func(t *testing.T) {
			r := r.at(t)
			r.early(0, "attach")
			r.break1("vdb", true)
			r.write("/dev/mapper/data", 1, 10)
			r.break1("vda", true)
			r.write("/dev/mapper/data", 1, 11)
			got := r.account(3, "detach")
			if code(t, got, "no-primary"); !got.Attached {
				t.Errorf("detach: %+v; want the clone called attached", got)
			}
			if state := r.File("/sys/block/md0/md/dev-" + r.kernelName("on-vdc") + "/state"); !strings.Contains(state, "in_sync") {
				t.Errorf("the clone is %q; want it in sync, in the array: it is the last good copy", state)
			}
			r.write("/dev/mapper/data", 1, 12) // and the array still takes writes
		})
	})
}

// lastPrimaryFails: the clone that is being copied to is no mirror yet, and nothing is taken out or called whole.
func (r *rig) lastPrimaryFails(t *testing.T) {
	r.Script("mdadm /dev/md0 --fail /dev/mapper/on-vdb --remove /dev/mapper/on-vdb 2>/dev/null")
	r.throttle("vdc", 4*mib) // so that the copy is under way still
	run := r.reached(copying, func(*vm.Process) {
		r.break1("vda", true)
		r.throttle("vdc", 0)
		if got := r.Try("dd", "if=/dev/zero", "of=/dev/mapper/data", "bs=1M", "count=1", "seek=10", "oflag=direct"); got.Code == 0 {
			t.Error("a write to an array without any member that works succeeded")
		}
	})
	got := r.ended(run, 1)
	code(t, got, "last-primary")
	if !got.Attached {
		t.Errorf("after the last primary failed: %+v; want nothing taken out", got)
	}
	// it can be read again; md has no chance to write there what it failed to write before, in part: bad blocks without their list
	r.table("vda", "flakey /dev/vda 0 0 1 1 error_writes")
	r.Script(`until [ "$(cat /sys/block/md0/md/array_state)" = broken ]; do sleep 0.05; done`) // it is active for a moment, which hides that
	for _, command := range []string{"detach", "backup"} {                                     // not even now, md goes on only after a new start
		code(t, r.account(3, command), "broken")
	}
	for _, dm := range []string{"on-vda", "on-vdc"} {
		r.Must("test", "-e", "/sys/block/md0/md/dev-"+r.kernelName(dm))
	}
	r.tunables()
	r.Script("dmsetup remove data; mdadm --stop /dev/md0")
	r.break1("vda", false)
	r.Script("mdadm --assemble /dev/md0 --run /dev/mapper/on-vda")
	r.holder()
	r.finished()
	r.replaced("/dev/mapper/on-vdb", r.kernelName("on-vdb"))
}
