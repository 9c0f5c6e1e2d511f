//go:build vmtest

package vmtest

import (
	"testing"

	"mdclone/pkg/clone"
)

// whileAway is what may be done to the array while the clone is away.
func whileAway(t *testing.T, a *attackable) {
	t.Run("checked, repaired, restarted, grown, cut, its primaries replaced", func(t *testing.T) { a.again(t).muchHappens(t) })
	t.Run("a clone with metadata 1.0 is mounted without md", func(t *testing.T) { a.again(t).mountedWithoutMd(t) })
}

// muchHappens: no bit that was set while the slot is empty is ever lost, so the clone comes back with what it misses, and
// no canary is missed that is there.
func (r *rig) muchHappens(t *testing.T) {
	r.sh(`mismatch > /dev/null; echo repair > $M/sync_action; idle
		stop /dev/md0; up /dev/vdb; write /dev/md0 2 30; readd vda
		mdadm --grow /dev/md0 --raid-devices=4 --force > /dev/null 2>&1; mdadm --grow /dev/md0 --raid-devices=3 > /dev/null 2>&1; idle
		write /dev/md0 1 40`)
	r.powerCut()
	replace := func(old, with string) {
		t.Helper()
		r.sh("out " + old + "; write /dev/md0 1 45; mdadm /dev/md0 --add /dev/" + with + ` 2>/dev/null
			until grep -q in_sync $M/dev-` + with + "/state; do sleep 0.1; done; idle; write /dev/md0 1 50")
	}
	replace("vda", "vdd")
	r.taken("vdb")
	r.write("/dev/md0", 2, 35)
	replace("vdb", "vde")
	replace("vdd", "vda")
	// it may know none of the primaries now; that it did not run without them, the ledger says
	r.taken("vda")
	r.same("vde", "vdc")
}

// mountedWithoutMd: nothing that md looks at changes, so the whole of such a clone is compared each time.
func (r *rig) mountedWithoutMd(t *testing.T) {
	r.stopAll()
	r.Script(`rm -rf /etc/mdclone /var/lib/mdclone; mdadm --zero-superblock /dev/vda /dev/vdb /dev/vdc
		mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.0 --assume-clean --bitmap=internal --bitmap-chunk=1M /dev/vda /dev/vdb 2>/dev/null
		mkfs.ext4 -q -F /dev/md0`)
	r.early(0, "adopt", "/dev/md0", "/dev/vdc", "--name", "data", "--overwrite")
	r.early(0, "detach")
	r.Script("mount -t ext4 /dev/vdc /mnt; dd if=/dev/urandom of=/mnt/x bs=1M count=5 conv=fsync status=none; mount -o remount,ro /mnt")
	r.refused("in-use", clone.Unsuitable, "/dev/vdc")
	r.Script("umount /mnt")
	got := r.account(5, "backup")
	code(t, got, "mismatch")
	if got.MismatchedSectors == 0 || !got.Attached {
		t.Errorf("backup of a clone that was mounted: %+v; want that it differs, and left in", got)
	}
	r.sh("echo repair > $M/sync_action; idle")
	r.taken("vda")
}
