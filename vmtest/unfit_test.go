//go:build vmtest

package vmtest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"mdclone/pkg/clone"
)

// unfitClones are clones that left in good order and return where the array cannot take them, or while somebody uses them.
func unfitClones(t *testing.T, a *attackable) {
	t.Run("the drive", func(t *testing.T) { a.again(t).unfitDrives(t) })
	t.Run("its slot is filled before it joins, another is empty", func(t *testing.T) { a.again(t).filledMeanwhile(t, true) })
	t.Run("a file system behind a loop device on the array", func(t *testing.T) { a.again(t).behindLoop(t) })
	if soaking() {
		t.Run("its slot is filled before it joins", func(t *testing.T) { a.again(t).filledMeanwhile(t, false) }) // waits for a minute
		t.Run("mdadm.conf lets it in", func(t *testing.T) { a.again(t).letIn(t) })
	}
}

// unfitDrives makes one after the other of the same clone, which at the end is as good as before.
func (r *rig) unfitDrives(t *testing.T) {
	super := r.onDisk(t, "vdc").Super
	need := super.DataOffset + super.Size // sectors
	const drive, loop = "/dev/mapper/drive", "/dev/loop0"
	r.sh("mkswap /dev/md0 > /dev/null")
	r.quiet()
	for _, test := range []struct {
		name, make, undo, drive, code string
		writes                        bool // what makes it writes to a disk, which md then does for a moment too
	}{
		{name: "read-only", make: "blockdev --setro /dev/vdc", undo: "blockdev --setrw /dev/vdc", code: "read-only"},
		{name: "held by dm", make: "echo 0 2048 linear /dev/vdc 0 | dmsetup create drive", undo: "dmsetup remove drive", code: "in-use"},
		{name: "under a loop device", make: "losetup /dev/loop0 /dev/vdc", undo: "losetup -d /dev/loop0", code: "in-use"},
		{
			name: "in an array that has no metadata", undo: "stop /dev/md9", code: "in-use",
			make: "mdadm --build /dev/md9 --level=1 --raid-devices=2 --assume-clean /dev/vdc missing 2>/dev/null",
		},
		{
			name: "copied to a drive that is a sector too small", undo: "dmsetup remove drive", drive: drive, code: "too-small",
			make: fmt.Sprintf("echo 0 %d linear /dev/vdc 0 | dmsetup create drive", need-1),
		},
		{
			name: "copied to one that is just large enough", undo: "dmsetup remove drive", drive: drive,
			make: fmt.Sprintf("echo 0 %d linear /dev/vdc 0 | dmsetup create drive", need),
		},
		{
			name: "copied to a drive with blocks of 4096 bytes", drive: loop, code: "logical-block",
			make: "losetup --sector-size 4096 /dev/loop0 /dev/vdc", undo: "losetup -d /dev/loop0",
		},
		{
			name: "small requests, a device on the array", code: "holder-limit", undo: "dmsetup remove top; echo 1280 > /sys/block/vdc/queue/max_sectors_kb",
			make: "echo 64 > /sys/block/vdc/queue/max_sectors_kb; echo 0 2048 linear /dev/md0 0 | dmsetup create top",
		},
		{
			name: "small requests, swap on the array", code: "array-limit", undo: "swapoff /dev/md0; echo 1280 > /sys/block/vdc/queue/max_sectors_kb",
			make: "echo 64 > /sys/block/vdc/queue/max_sectors_kb; swapon /dev/md0",
		},
		{
			name: "a spare waits", code: "spares", undo: "mdadm /dev/md0 --remove /dev/vdd 2>/dev/null; echo idle > $M/sync_action", writes: true,
			make: "echo frozen > $M/sync_action; mdadm /dev/md0 --add /dev/vdd 2>/dev/null; grep -q none $M/dev-vdd/slot",
		},
		{
			name: "the array got one more slot", code: "raid-devices", undo: "mdadm --grow /dev/md0 --raid-devices=3 2>/dev/null; idle", writes: true,
			make: "mdadm --grow /dev/md0 --raid-devices=4 --force 2>/dev/null; idle",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := r.at(t)
			if test.drive == "" {
				test.drive = "/dev/vdc"
			}
			defer r.sh(test.undo)
			r.sh(test.make)
			if test.writes {
				r.quiet()
			}
			r.untouched(func() {
				if test.code == "" {
					r.early(0, "check", "/dev/md0", test.drive)
					return
				}
				state := clone.Unsuitable
				if test.code == "raid-devices" {
					state = clone.Outdated
				}
				r.refusedNow(test.code, state, test.drive)
				if test.code == "too-small" { // it is no member any more, and recognised all the same
					code(t, r.account(3, "backup"), test.code)
					if c := r.status().Clones[0]; c.State != state || at(c) != test.drive && at(c) != "/dev/dm-0" {
						t.Errorf("status: %+v; want it %s, with its drive", c, state)
					}
				}
			})
		})
	}
	r.taken("vda")
}

// behindLoop: md knows of no opener, but somebody writes.
func (r *rig) behindLoop(t *testing.T) {
	r.early(0, "pin", "/dev/md0", "--max-sectors-kb", "1280") // md's own limit is larger on the newest kernel
	r.sh("losetup /dev/loop0 /dev/md0; mkfs.ext4 -q -F /dev/loop0; mount /dev/loop0 /mnt")
	defer r.Try("sh", "-c", "umount /mnt; losetup -d /dev/loop0")
	code(t, r.account(3, "backup", "--offline"), "in-use")
	if got := r.account(0, "backup"); got.Offline {
		t.Errorf("backup: %+v; want it to know that the array is in use", got)
	}
	r.sh("dd if=/dev/urandom of=/mnt/x bs=1M count=2 conv=fsync status=none; umount /mnt; losetup -d /dev/loop0")
	r.taken("vda")
}

// letIn: what a line of mdadm.conf lets in past every verdict is named with it; plain md takes the drive as it is.
func (r *rig) letIn(t *testing.T) {
	r.sh(differingDrives[0].do + "; mkdir -p /etc/mdadm")
	for _, test := range []struct {
		action string
		strong bool
	}{{"include", false}, {"re-add", true}} {
		r.sh("echo 'POLICY action=" + test.action + "' > /etc/mdadm/mdadm.conf")
		got := r.account(3, "check", "/dev/md0", "/dev/vdc")
		if code(t, got, "ran-alone"); strings.Contains(fmt.Sprint(got.Reasons), "POLICY") != test.strong {
			t.Errorf("with %s check says %v; want it to name the policy: %v", test.action, got.Reasons, test.strong)
		}
		r.Try("mdadm", "-I", "/dev/vdc")
		if in := r.Try("test", "-e", "/sys/block/md0/md/dev-vdc").Code == 0; in != test.strong {
			t.Errorf("with %s mdadm lets the drive in: %v; want %v", test.action, in, test.strong)
		}
	}
	r.sh("until grep -q in_sync $M/dev-vdc/state; do sleep 0.05; done; rm /etc/mdadm/mdadm.conf")
	if n := r.sh("mismatch"); n == "0\n" {
		t.Error("what mdadm makes of it is a good mirror: this shows nothing")
	}
}

// filledMeanwhile: between the verdict and the join somebody puts another drive into the clone's slot, and the kernel then puts the
// clone into another one that is empty, or into none.
func (r *rig) filledMeanwhile(t *testing.T, empty bool) {
	r.sh(`truncate -s 16M /run/kept; mkfs.ext4 -q /run/kept; mount -o loop /run/kept /mnt; cp -a /var/lib/mdclone/. /mnt; umount /mnt
		mount -o loop /run/kept /var/lib/mdclone; fsfreeze --freeze /var/lib/mdclone`)
	defer r.Script("fsfreeze --unfreeze /var/lib/mdclone 2>/dev/null || true; umount /var/lib/mdclone; rm /run/kept")
	put := "mdadm /dev/md0 --add /dev/vdd 2>/dev/null"
	if empty {
		r.sh("out vdb")
		put = "echo frozen > $M/sync_action; " + put + "; echo 2 > $M/dev-vdd/slot; echo idle > $M/sync_action"
	}
	before := r.onDisk(t, "vdc")
	p := r.start("backup")
	r.sh(theRun + `; until grep -qs percpu_rwsem_wait /proc/$run/task/*/stack; do sleep 0.05; done
		` + put + `; until grep -q in_sync $M/dev-vdd/state; do sleep 0.05; done; idle; [ "$(cat $M/dev-vdd/slot)" = 2 ]
		fsfreeze --unfreeze /var/lib/mdclone`)
	if got := r.ended(p, 1); got.Attached {
		t.Errorf("backup: %+v; want the clone out again", got)
	} else {
		code(t, got, "join")
	}
	r.sh("! [ -e $M/dev-vdc ]; idle; clean")
	if !empty && !bytes.Equal(r.onDisk(t, "vdc").Raw, before.Raw) {
		t.Error("the clone did not get its superblock back")
	}
	r.tunables()
	r.same("vda", "vdd")
	if !empty {
		r.refused("slot-taken", clone.Outdated, "/dev/vdc")
	} else if got := r.taken("vda"); got.VerifiedBytes < 50*mib {
		t.Errorf("the next backup: %+v; want all compared, as it was in another's slot", got)
	}
}
