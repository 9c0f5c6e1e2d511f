//go:build vmtest

package vmtest

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// failures are drives that fail in the middle of it.
func failures(t *testing.T, a *attackable) {
	t.Run("the clone has sectors that cannot be written", func(t *testing.T) { a.again(t).badBlocks(t) })
	t.Run("a primary has sectors that could not be written", func(t *testing.T) { a.again(t).primaryBad(t) })
	t.Run("a primary fails while the clone is copied to", func(t *testing.T) { a.again(t).primaryFails(t) })
	if a.newest() {
		return
	}
	t.Run("the clone has failed when it is detached", func(t *testing.T) { a.again(t).detachedLate(t) })
	t.Run("the last primary cannot be read everywhere", func(t *testing.T) { a.again(t).lastUnreadable(t) })
	t.Run("the clone is the last good copy", func(t *testing.T) { a.again(t).lastCopy(t) })
}

// badBlocks: a clone with sectors that cannot be written ends in sync, with a clear bitmap, and differs. It must never be
// said to be a clone, not even after it was taken out by hand and its sectors can be written again.
func (r *rig) badBlocks(t *testing.T) {
	r.sh(`n=$(blockdev --getsz /dev/vdc); bad=$(( $(mdadm -E /dev/vdc | awk '/Data Offset/ { print $4 }') + 21 * 2048 ))
		printf '%s\n' "0 $bad linear /dev/vdc 0" "$bad 64 error" "$((bad + 64)) $((n - bad - 64)) linear /dev/vdc $((bad + 64))" | dmsetup create drive`)
	drive := strings.TrimSpace(r.Must("readlink", "-f", "/dev/mapper/drive"))
	code(t, r.account(1, "backup", "--clone", drive), "bad-blocks")
	code(t, r.account(1, "detach", "--clone", drive), "bad-blocks")
	name := strings.TrimPrefix(drive, "/dev/")
	r.sh("mismatch > /dev/null; clear; out " + name + `; until ! [ -e $M/dev-` + name + ` ]; do sleep 0.05; done
		echo 0 $(blockdev --getsz /dev/vdc) linear /dev/vdc 0 | dmsetup load drive; dmsetup resume drive`)
	if got := r.early(0, "check", "/dev/md0", drive); !strings.Contains(got.Stdout+got.Stderr, "could not be written") {
		t.Errorf("check says %q; want it to tell of the sectors", got.Stdout+got.Stderr)
	}
	code(t, r.account(1, "backup", "--clone", drive), "bad-blocks")
	r.sh("out " + name + "; dmsetup remove drive")
}

// primaryBad: what lies where a primary has bad blocks might not reach the clone. They are gone when they were written anew, by
// the kernel's word, whatever is still in the log on that disk.
func (r *rig) primaryBad(t *testing.T) {
	at := r.onDisk(t, "vda").Super.DataOffset + 21*2048
	r.sh(fmt.Sprintf("echo %d 8 > $M/dev-vda/bad_blocks", at))
	r.write("/dev/md0", 1, 10) // so that the log is on disk
	r.quiet()
	if !r.onDisk(t, "vda").Super.HasBadBlocks() {
		t.Fatal("there is no log of bad blocks on the primary")
	}
	r.untouched(func() { code(t, r.account(3, "backup"), "bad-blocks") })
	r.sh("dd if=/dev/urandom of=/dev/md0 bs=1M count=1 seek=21 oflag=direct status=none")
	r.account(0, "backup")
	r.equal()
}

// detachedLate: detach takes it out, and does not call it a clone.
func (r *rig) detachedLate(t *testing.T) {
	r.account(0, "attach")
	r.sh("echo faulty > $M/dev-vdc/state")
	r.write("/dev/md0", 2, 30)
	if c := r.status().Clones[0]; c.State != clone.Stale || c.DetachedAt != nil || len(c.Reasons) != 1 || c.Reasons[0].Code != "failed" {
		t.Errorf("status: %+v; want that it has failed in the array, and was not detached", c)
	}
	got := r.account(1, "detach")
	if code(t, got, "drive-failed"); got.Attached {
		t.Errorf("detach of a clone that failed: %+v; want it out", got)
	}
	r.ownAlone()
	r.tunables()
	r.taken("vda")
}

// lastUnreadable: what md cannot read of a member while it compares, it writes anew from another one, and all around it too. That
// must not be a clone that differs.
func (r *rig) lastUnreadable(t *testing.T) {
	data := r.onDisk(t, "vda").Super.DataOffset
	r.sh(fmt.Sprintf(`out vdb; stop /dev/md0
		n=$(blockdev --getsz /dev/vda); bad=%d
		printf '%%s\n' "0 $bad linear /dev/vda 0" "$bad 8 error" "$((bad + 8)) $((n - bad - 8)) linear /dev/vda $((bad + 8))" | dmsetup create own
		dd if=/dev/urandom of=/dev/vdc bs=64k count=1 seek=%d oflag=direct status=none
		up /dev/mapper/own`, data+40*2048+64, (r.onDisk(t, "vdc").Super.DataOffset*512+40*mib)/(64<<10)))
	around := fmt.Sprintf("dd if=/dev/vda bs=4k count=8 skip=%d iflag=direct status=none | sha256sum", (data*512+40*mib)/4096)
	before := r.sh(around)
	r.forget() // so it is doubted
	code(t, r.account(1, "backup", "--verify", "full"), "primary-unreadable")
	if r.sh(around) != before {
		t.Error("what the clone holds was written over the last primary")
	}
	r.early(0, "detach", "--verify", "none") // as the hint says
}

// primaryFails: the clone is brought in sync from the one that is left, and stays in its place until the user takes it out.
func (r *rig) primaryFails(t *testing.T) {
	r.write("/dev/md0", 24, 30)
	p := r.copying(t)
	r.sh("echo faulty > $M/dev-vda/state")
	r.throttle("vdc", 0)
	got := r.ended(p, 1)
	if code(t, got, "primary-failed"); !got.Attached {
		t.Errorf("backup: %+v; want the clone to stay", got)
	}
	code(t, r.account(3, "backup"), "stands-in")
	r.limits(r.disks[2].Serial, 4*mib, 0)
	p = r.start("verify")
	r.sh(`until [ "$(action)" = check ] && grep -q / $M/sync_completed; do :; done`)
	if err := p.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := r.ended(p, 130); !got.Attached {
		t.Errorf("verify, interrupted: %+v; want the clone to stay", got)
	}
	r.limits(r.disks[2].Serial, 0, 0)
	r.sh("grep -q in_sync $M/dev-vdc/state")
	r.account(0, "detach")
	r.same("vdb", "vdc")
	r.sh("mdadm /dev/md0 --remove /dev/vda 2>/dev/null")
	r.write("/dev/md0", 2, 10)
	r.account(0, "backup")
	r.same("vdb", "vdc")
}

// copying begins a backup and returns when the clone is being copied to, slowly.
func (r *rig) copying(t *testing.T) *vm.Process {
	t.Helper()
	r.throttle("vdc", 2*mib)
	p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"mdclone-early", "backup", "--json"}})
	if err != nil {
		t.Fatal(err)
	}
	r.sh(`until grep -q recovery /proc/mdstat && [ "$(cat $M/dev-vdc/slot)" = 2 ]; do sleep 0.05; done`)
	return p
}

// throttle bounds what a disk takes, in bytes a second; 0 lifts it.
func (r *rig) throttle(name string, bps int) {
	r.t.Helper()
	r.limit(r.disks[int(name[len(name)-1]-'a')].Serial, bps)
}

// limit bounds what is written to the disk with serial, in bytes per second; 0 for no bound.
func (r *rig) limit(serial string, bps int) { r.t.Helper(); r.limits(serial, 0, bps) }

// limits bounds what is read from and written to it.
func (r *rig) limits(serial string, read, write int) {
	r.t.Helper()
	r.qmp("block_set_io_throttle", map[string]any{
		"id": "/machine/peripheral/" + serial + "/virtio-backend", "bps": 0, "bps_rd": read, "bps_wr": write, "iops": 0, "iops_rd": 0, "iops_wr": 0,
	})
}

// lastCopy: the clone is all that is left. Taking it out would break the array for every later write.
func (r *rig) lastCopy(t *testing.T) {
	r.account(0, "attach")
	r.sh("clear") // no bit is left to be cleared later
	r.sh("for d in vda vdb; do echo faulty > $M/dev-$d/state; done; until [ $(cat $M/degraded) = 2 ]; do sleep 0.05; done")
	r.quiet()
	r.untouched(func() {
		for _, command := range []string{"detach", "backup", "attach"} {
			code(t, r.account(3, command), "no-primary")
		}
	})
	r.write("/dev/md0", 1, 10) // it still works
	if got := r.File("/sys/block/md0/md/dev-vdc/state"); !strings.Contains(got, "in_sync") {
		t.Errorf("the clone is %q; want it in sync, the last copy", got)
	}
}
