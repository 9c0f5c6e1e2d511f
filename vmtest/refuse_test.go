//go:build vmtest

package vmtest

import (
	"testing"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// TestRefusals makes drives that must not join, as a bad day makes them, and requires that each is refused with its
// reason, without one byte written.
func TestRefusals(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 4)
		r.adopted()
		r.write("/dev/md0", 4, 20)
		save := "for i in 0 1; do dd if=/dev/vdc of=/run/saved.$i bs=1M skip=$((i * 32)) count=32 iflag=direct status=none; done"
		r.Script(save) // superblock, bitmap and the start of the data; the rest of the clone is not written below
		restore := "for i in 0 1; do dd if=/run/saved.$i of=/dev/vdc bs=1M seek=$((i * 32)) oflag=direct status=none; done"

		for _, test := range []struct {
			name, make, undo, code string
			state                  clone.State
		}{
			{
				"booted once, events below", `mdadm --stop /dev/md0 2>/dev/null
				mdadm --assemble /dev/md9 --run /dev/vdc 2>/dev/null; dd if=/dev/urandom of=/dev/md9 bs=1M count=1 seek=5 oflag=direct status=none
				mdadm --stop /dev/md9 2>/dev/null; mdadm --assemble /dev/md0 --run /dev/vda /dev/vdb 2>/dev/null
				for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/dev/md0 bs=4k count=1 seek=$((i * 999)) oflag=direct status=none; sleep 0.3; done`,
				restore, "ran-alone", clone.Diverged,
			},
			{"booted often, events above", `mdadm --stop /dev/md0 2>/dev/null
				for i in 1 2 3 4 5 6 7 8; do mdadm --assemble /dev/md9 --run /dev/vdc 2>/dev/null
				dd if=/dev/urandom of=/dev/md9 bs=4k count=1 seek=$i oflag=direct status=none; mdadm --stop /dev/md9 2>/dev/null; done
				mdadm --assemble /dev/md0 --run /dev/vda /dev/vdb 2>/dev/null`, restore, "ran-alone", clone.Diverged},
			{"its superblock was rewritten elsewhere", `mdadm --stop /dev/md0 2>/dev/null
				mdadm --assemble /dev/md9 --readonly --run --update=name --name=other /dev/vdc 2>/dev/null; mdadm --stop /dev/md9 2>/dev/null
				mdadm --assemble /dev/md0 --run /dev/vda /dev/vdb 2>/dev/null`, restore, "", ""},
			{"another drive sat in its slot", `mdadm /dev/md0 --add /dev/vdd 2>/dev/null; mdadm --wait /dev/md0 || true
				echo 1 > /sys/block/md0/md/bitmap/time_base; until mdadm -X /dev/vda | grep -q ' 0 dirty'; do sleep 0.1; done
				echo 5 > /sys/block/md0/md/bitmap/time_base`, "", "slot-taken", clone.Outdated},
			{"and left again", "mdadm /dev/md0 --fail /dev/vdd --remove /dev/vdd 2>/dev/null; mdadm --zero-superblock /dev/vdd", "", "", clone.Outdated},
			{"the bitmap was made anew", "mdadm --grow /dev/md0 --bitmap=none; mdadm --grow /dev/md0 --bitmap=internal --bitmap-chunk=1M", "", "bits-cleared", clone.Outdated},
			{"no bitmap", "mdadm --grow /dev/md0 --bitmap=none", "mdadm --grow /dev/md0 --bitmap=internal --bitmap-chunk=1M", "no-bitmap", clone.Outdated},
			{"raid-devices was changed", "mdadm --grow /dev/md0 --raid-devices=2 2>/dev/null", "", "raid-devices", clone.Outdated},
		} {
			t.Run(test.name, func(t *testing.T) {
				r := r.at(t)
				r.Script(test.make)
				r.quiet()
				r.untouched(func() {
					got := r.account(3, "backup")
					if test.code != "" {
						code(t, got, test.code)
					}
					r.account(3, "attach")
					r.early(3, "check", "/dev/md0", "/dev/vdc")
				})
				if s := r.status(); test.state != "" && s.Clones[0].State != test.state {
					t.Errorf("status says %s; want %s", s.Clones[0].State, test.state)
				}
				if test.undo != "" {
					r.Script(test.undo)
				}
			})
		}
	})
}

// TestUnfitDrives are drives that the array, or what is on it, cannot take. On the newer suite unfitClones has them, of clones that
// return.
func TestUnfitDrives(t *testing.T) {
	some := suites[:1]
	if soaking() {
		some = kernels
	}
	onEach(t, some, func(t *testing.T, suite string) {
		r := newRig(t, suite, 3, func(c *vm.Config) { c.SCSI, c.USB = true, true })
		r.create()
		with := func(t *testing.T, serial string, size int64, change func(*vm.Disk), do func(drive string)) {
			t.Helper()
			d := NewDisk(t, serial, size)
			change(&d)
			do("/dev/" + r.at(t).Plugged(d))
			r.at(t).Unplugged(serial)
		}
		plain := func(*vm.Disk) {}
		adopt := func(t *testing.T, drive, want string, more ...string) {
			t.Helper()
			r := r.at(t)
			r.quiet()
			r.untouched(func() { code(t, r.account(3, append([]string{"adopt", "/dev/md0", drive}, more...)...), want) })
		}
		t.Run("too small", func(t *testing.T) {
			with(t, "small", diskMiB-1, plain, func(drive string) { adopt(t, drive, "too-small") })
		})
		t.Run("4096-byte blocks", func(t *testing.T) {
			blocks := func(d *vm.Disk) { d.Bus, d.LogicalBlock = vm.SCSI, 4096 }
			with(t, "blocks", diskMiB, blocks, func(drive string) { adopt(t, drive, "logical-block") })
		})
		t.Run("read-only", func(t *testing.T) {
			with(t, "readonly", diskMiB, func(d *vm.Disk) { d.ReadOnly = true }, func(drive string) { adopt(t, drive, "read-only") })
		})
		t.Run("a file system", func(t *testing.T) {
			r.at(t).Script("mkfs.ext4 -q /dev/vdc")
			adopt(t, "/dev/vdc", "signature")
		})
		t.Run("mounted, overwrite or not", func(t *testing.T) {
			r.at(t).Script("mount -o ro /dev/vdc /mnt")
			adopt(t, "/dev/vdc", "in-use")
			adopt(t, "/dev/vdc", "in-use", "--overwrite")
			r.at(t).Script("umount /mnt")
		})
		t.Run("held by dm", func(t *testing.T) {
			r.at(t).Script("echo 0 2048 linear /dev/vdc 0 | dmsetup create held")
			adopt(t, "/dev/vdc", "in-use", "--overwrite")
			r.at(t).Script("dmsetup remove held; wipefs -qa /dev/vdc")
		})
		t.Run("a partition table", func(t *testing.T) {
			r.at(t).Script("echo ',,L' | sfdisk -q --label gpt /dev/vdc")
			adopt(t, "/dev/vdc", "signature")
			r.at(t).Script("wipefs -qa /dev/vdc")
		})
		t.Run("another array's member", func(t *testing.T) {
			r.at(t).Script("mdadm --create /dev/md7 --run --level=1 --raid-devices=2 --assume-clean /dev/vdc missing 2>/dev/null; mdadm --stop /dev/md7 2>/dev/null")
			adopt(t, "/dev/vdc", "signature")
			r.at(t).Script("mdadm --zero-superblock /dev/vdc")
		})
		t.Run("0.90 metadata", func(t *testing.T) {
			r := r.at(t)
			r.Script("mdadm --create /dev/md7 --run --level=1 --raid-devices=2 --metadata=0.90 --assume-clean /dev/vdc missing 2>/dev/null")
			r.early(3, "adopt", "/dev/md7", "/dev/vdb")
			r.Script("mdadm --stop /dev/md7 2>/dev/null")
			adopt(t, "/dev/vdc", "signature")
			r.Script("mdadm --zero-superblock /dev/vdc")
		})
		t.Run("a spare in the array", func(t *testing.T) {
			with(t, "spare", diskMiB, plain, func(drive string) {
				r.at(t).Script("mdadm /dev/md0 --add " + drive + " 2>/dev/null")
				adopt(t, "/dev/vdc", "spares")
				r.at(t).Script("mdadm /dev/md0 --remove " + drive + " 2>/dev/null")
			})
		})
		t.Run("a primary that md wants to replace", func(t *testing.T) {
			r.at(t).Script("echo want_replacement > /sys/block/md0/md/dev-vda/state")
			adopt(t, "/dev/vdc", "want-replacement")
			r.at(t).Script("echo -want_replacement > /sys/block/md0/md/dev-vda/state")
		})
		t.Run("small requests under a holder, under a file system", func(t *testing.T) {
			with(t, "usb-clone", diskMiB, func(d *vm.Disk) { d.Bus = vm.USB }, func(drive string) {
				r.at(t).Script("mkfs.ext4 -q /dev/md0; mount -o ro /dev/md0 /mnt") // a file system of its own accord writes for a while
				adopt(t, drive, "array-limit")
				r.at(t).Script("umount /mnt; wipefs -qa /dev/md0")
				adoptUnderHolder(r.at(t), drive, func() { adopt(t, drive, "holder-limit") })
			})
		})
	})
}

// adoptUnderHolder: a USB drive takes requests of 120 KiB. Under a dm device that was made with more it is refused;
// pinned first, it is taken, and is refused again once the pin is gone.
func adoptUnderHolder(r *rig, drive string, refused func()) {
	const top = "echo 0 $(blockdev --getsz /dev/md0) linear /dev/md0 0 | dmsetup create top"
	r.Script(top)
	refused()
	r.Script("dmsetup remove top")
	r.early(0, "pin", "/dev/md0", "--max-sectors-kb", "120")
	r.Script(top)
	r.early(0, "adopt", "/dev/md0", drive, "--name", "data")
	r.early(0, "check", drive)
	r.early(0, "detach")
	r.early(0, "check", drive)
	// a member that is gone no longer lowers the limit once the array is assembled anew
	r.Script("dmsetup remove top; mdadm --stop /dev/md0 2>/dev/null; mdadm --assemble /dev/md0 --run /dev/vda /dev/vdb 2>/dev/null; " + top)
	r.early(3, "check", drive)
	r.early(3, "backup")
	r.Script("dmsetup remove top")
	r.early(0, "backup", "--offline")
}
