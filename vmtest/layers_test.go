//go:build vmtest

package vmtest

import (
	"os"
	"slices"
	"strings"
	"testing"

	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// layer is what can lie on an array while a clone is made: how it is put there and taken away, and how it is written to.
type layer struct{ name, up, down, write string }

var layers = []layer{
	{"nothing", "true", "true", "dd if=/dev/urandom of=/dev/md0 bs=1M count=3 seek=40 oflag=direct status=none"},
	{"ext4", "mkfs.ext4 -q -F /dev/md0; mount /dev/md0 /mnt", "umount /mnt; wipefs -qa /dev/md0", inFS},
	{"xfs", "mkfs.xfs -q -f /dev/md0; mount /dev/md0 /mnt", "umount /mnt; wipefs -qa /dev/md0", inFS},
	{"btrfs", "mkfs.btrfs -q -f /dev/md0; mount /dev/md0 /mnt", "umount /mnt; wipefs -qa /dev/md0", inFS},
	{
		"dm", "echo 0 $(blockdev --getsz /dev/md0) linear /dev/md0 0 | dmsetup create top", "dmsetup remove top",
		"dd if=/dev/urandom of=/dev/mapper/top bs=1M count=3 seek=40 oflag=direct status=none",
	},
	onLVM("ext4", "mkfs.ext4 -q /dev/vg0/lv; mount /dev/vg0/lv /mnt", "umount /mnt; wipefs -qa /dev/vg0/lv", inFS),
	onLVM("swap", "mkswap /dev/vg0/lv > /dev/null; swapon /dev/vg0/lv", "swapoff /dev/vg0/lv", inOtherVolume),
	onLVM("nothing", "true", "true", inOtherVolume),
	{
		"ext4 on LUKS", `echo secret | cryptsetup luksFormat -q --key-file=- --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/md0
		echo secret | cryptsetup open --key-file=- /dev/md0 crypt; mkfs.ext4 -q /dev/mapper/crypt; mount /dev/mapper/crypt /mnt`,
		"umount /mnt; cryptsetup close crypt; wipefs -qa /dev/md0", inFS,
	},
}

// moreLayers are touched as others are: tried on the newest kernel alone, unless there is time.
var moreLayers = []layer{
	onLVM("xfs", "mkfs.xfs -q -f /dev/vg0/lv; mount /dev/vg0/lv /mnt", "umount /mnt; wipefs -qa /dev/vg0/lv", inFS),
	onLVM("btrfs", "mkfs.btrfs -q -f /dev/vg0/lv; mount /dev/vg0/lv /mnt", "umount /mnt; wipefs -qa /dev/vg0/lv", inFS),
}

// onLVM is a layer on a volume of LVM, beside another volume.
func onLVM(name, up, down, write string) layer {
	return layer{
		name + " on LVM", `wipefs -qa /dev/md0; vgcreate -qy vg0 /dev/md0; lvcreate -qy -Wn -L 304M -n lv vg0
		lvcreate -qy -Wn -L 16M -n other vg0; ` + up,
		down + "; vgchange -qan vg0; vgremove -qy vg0; wipefs -qa /dev/md0", write,
	}
}

const (
	inFS          = "dd if=/dev/urandom of=/mnt/x bs=1M count=3 conv=fsync status=none"
	inOtherVolume = "dd if=/dev/urandom of=/dev/vg0/other bs=1M count=3 seek=4 oflag=direct status=none"
)

// TestLayers runs a cycle under each layer: the touch must have moved Events Cleared past the clone on every disk, and
// the canary's chunk must be dirty, with nothing frozen or suspended left behind.
func TestLayers(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := &rig{suite: suite}
		for _, name := range []string{"disk0", "disk1", "disk2"} {
			r.disks = append(r.disks, NewDisk(t, name, 340)) // the least that xfs takes, and a bit
		}
		r.boot(t, func(c *vm.Config) { c.Load = append(c.Load, "xfs", "btrfs", "dm_crypt") })
		r.adopted()
		tried := layers
		if suite == suites[1] || soaking() {
			tried = slices.Concat(layers, moreLayers)
		}
		for _, layer := range tried {
			t.Run(layer.name, func(t *testing.T) {
				r := r.at(t)
				r.Script(layer.up)
				r.Script(layer.write)
				before := r.onDisk(t, "vdc")
				got := r.early(0, "backup", "--json")
				if strings.Contains(got.Stderr, "warning") {
					t.Errorf("backup warns: %s", got.Stderr)
				}
				a, b, c := r.onDisk(t, "vda"), r.onDisk(t, "vdb"), r.onDisk(t, "vdc")
				// what is on the array may write once more between the last look and the detach
				if ec := c.Bitmap.EventsCleared; ec <= before.Super.Events || ec > a.Bitmap.EventsCleared || a.Bitmap.EventsCleared > c.Super.Events ||
					a.Bitmap.EventsCleared != b.Bitmap.EventsCleared {
					t.Errorf("Events Cleared on the disks: %d, %d, clone %d; want the clone's above %d, its events before, and the others' between that "+
						"and %d, its events now", a.Bitmap.EventsCleared, b.Bitmap.EventsCleared, ec, before.Super.Events, c.Super.Events)
				}
				if a.Bitmap.Dirty.Count() == 0 || b.Bitmap.Dirty.Count() == 0 || a.Super.View() != "01-" || c.Super.View() != "012" {
					t.Errorf("after the cycle: %d and %d chunks dirty, the primary lists %s, the clone %s; want a canary, 01- and 012",
						a.Bitmap.Dirty.Count(), b.Bitmap.Dirty.Count(), a.Super.View(), c.Super.View())
				}
				r.Script(layer.write) // hangs if something is left frozen
				r.tunables()
				r.Script(layer.down)
				r.early(0, "backup", "--offline")
				r.equal()
			})
		}
		t.Run("swap", func(t *testing.T) {
			r := r.at(t)
			r.Script("mkswap /dev/md0 > /dev/null; swapon /dev/md0")
			if got := r.early(0, "backup"); !strings.Contains(got.Stderr, "swap") {
				t.Errorf("backup under swap says %q; want it to say what swap prevents", got.Stderr)
			}
			r.Script("swapoff /dev/md0")
			r.equal()
		})
	})
}

// onDisk is what a disk of the rig holds.
func (r *rig) onDisk(t *testing.T, name string) *md.Member {
	t.Helper()
	return readMember(t, r.disk(name))
}

// readMember reads a member's metadata on the host.
func readMember(t testing.TB, path string) *md.Member {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := md.ReadMember(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	if m.Bitmap == nil {
		t.Fatalf("%s has no bitmap: %v", path, m.BitmapErr)
	}
	return m
}
