//go:build vmtest

package vmtest

import (
	"strings"
	"syscall"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// TestAdopt makes a clone of arrays of every kind, and runs one cycle with each.
func TestAdopt(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 3)
		for _, test := range []struct {
			name, create, drive string
			args                []string
			slots               int
			chunk               uint32
		}{
			{"two primaries, no bitmap", "--raid-devices=2 --bitmap=none /dev/vda /dev/vdb", "/dev/vdc", nil, 3, mib},
			{"no bitmap, a chunk size of the user's", "--raid-devices=2 --bitmap=none /dev/vda /dev/vdb", "/dev/vdc", []string{"--chunk", "64K"}, 3, 64 << 10},
			{
				"another chunk size than the array has", "--raid-devices=2 --bitmap=internal --bitmap-chunk=4M /dev/vda /dev/vdb", "/dev/vdc",
				[]string{"--chunk", "1M"},
				3, mib,
			},
			{"one primary alone", "--raid-devices=1 --force --bitmap=internal --bitmap-chunk=1M /dev/vda", "/dev/vdc", nil, 2, mib},
			{"one primary and an empty slot", "--raid-devices=2 --bitmap=internal --bitmap-chunk=1M /dev/vda missing", "/dev/vdc", nil, 2, mib},
			{"a partition as the clone", "--raid-devices=2 --bitmap=internal --bitmap-chunk=1M --size=100M /dev/vda /dev/vdb", "/dev/vdc1", nil, 3, mib},
			{"metadata 1.0", "--raid-devices=2 --metadata=1.0 --bitmap=internal --bitmap-chunk=1M /dev/vda /dev/vdb", "/dev/vdc", nil, 3, mib},
			{"metadata 1.1", "--raid-devices=2 --metadata=1.1 --bitmap=internal --bitmap-chunk=1M /dev/vda /dev/vdb", "/dev/vdc", nil, 3, mib},
		} {
			if suite != suites[1] && test.args != nil && !soaking() {
				continue
			}
			t.Run(test.name, func(t *testing.T) {
				r := r.at(t)
				r.Script("mdadm --create /dev/md0 --run --level=1 --assume-clean " + test.create)
				if strings.HasSuffix(test.drive, "1") {
					r.Script("echo ',,L' | sfdisk -q --label gpt /dev/vdc")
				}
				r.early(0, append([]string{"adopt", "/dev/md0", test.drive, "--name", "data"}, test.args...)...)
				s := r.status()
				if s.RaidDisks != test.slots || s.Degraded != 0 || s.ChunkBytes != test.chunk || len(s.Clones) != 1 || s.Clones[0].State != clone.InSync {
					t.Errorf("status after adopt: %+v; want %d slots, all filled, chunks of %d bytes, the clone in sync", s, test.slots, test.chunk)
				}
				if got := r.Must("cat", "/sys/block/md0/md/dev-"+strings.TrimPrefix(test.drive, "/dev/")+"/state"); !strings.Contains(got, "write_mostly") {
					t.Errorf("the clone's flags are %q; want write_mostly among them", got)
				}
				r.early(0, "detach")
				r.write("/dev/md0", 4, 30)
				got := r.account(0, "backup")
				full := test.name == "metadata 1.0" // mounted without md, it would change and nothing would tell
				if got.Mode != "incremental" || got.DirtyBytes > 6*mib || full != (got.VerifiedBytes > 90*mib) {
					t.Errorf("backup: %+v; want an incremental one of 4 to 6 MiB, all compared: %v", got, full)
				}
				if !strings.HasSuffix(test.drive, "1") {
					r.equal()
				}
				r.blank()
			})
		}
		t.Run("a spare", func(t *testing.T) { r.at(t).adoptSpare(t) })
		t.Run("a primary fails meanwhile", func(t *testing.T) { r.at(t).adoptBesideFailure(t) })
		if suite == suites[1] || soaking() {
			t.Run("nothing can be recorded", func(t *testing.T) { r.at(t).unrecorded(t) })
		}
		t.Run("interrupted", func(t *testing.T) { r.at(t).adoptInterrupted(t) })
	})
}

// blank takes everything off the disks, and forgets what is recorded.
func (r *rig) blank() {
	r.t.Helper()
	r.Script(`mdadm --stop /dev/md0 2>/dev/null; for d in vda vdb vdc1 vdc; do [ ! -e /dev/$d ] || mdadm --zero-superblock /dev/$d 2>/dev/null || true; done
		wipefs -qa /dev/vdc /dev/vda /dev/vdb; rm -rf /etc/mdclone /var/lib/mdclone`)
}

// adoptSpare: a spare, which is also what a run leaves that is killed before it has recorded its drive, becomes the clone
// if it may be overwritten.
func (r *rig) adoptSpare(t *testing.T) {
	r.create()
	r.Script(`mdadm /dev/md0 --add /dev/vdc; test "$(cat /sys/block/md0/md/dev-vdc/slot)" = none`)
	r.quiet()
	r.untouched(func() { code(t, r.account(3, "adopt", "/dev/md0", "/dev/vdc", "--name", "data"), "member") })
	r.early(0, "adopt", "/dev/md0", "/dev/vdc", "--name", "data", "--overwrite")
	if s := r.status(); len(s.Clones) != 1 || s.Clones[0].State != clone.InSync {
		t.Errorf("clones: %+v; want the one, in sync", s.Clones)
	}
	r.early(0, "detach")
	r.equal()
	r.blank()
}

// adoptBesideFailure: a primary fails between mdadm's --add and --grow, so that md puts the spare into its place.
func (r *rig) adoptBesideFailure(t *testing.T) {
	r.create()
	r.Script(`mkdir -p /run/beside; cat >/run/beside/mdadm <<-'EOF'; chmod +x /run/beside/mdadm
		#!/bin/sh
		/sbin/mdadm "$@" || exit
		case "$*" in *--add*) /sbin/mdadm /dev/md0 --fail /dev/vdb ;; esac
		EOF`)
	got := r.Try("sh", "-c", "PATH=/run/beside:$PATH exec mdclone-early adopt /dev/md0 /dev/vdc --name data")
	if got.Code != 1 || !strings.Contains(got.Stderr, "vdb of md0 failed meanwhile: vdc stays in, in its place") {
		t.Errorf("adopt: exit code %d; want 1, and the primary named\n%s", got.Code, got.Stderr)
	}
	if slots := r.slots(); slots != "01" {
		t.Errorf("the array is %s; want 01, the clone in the place of the one that failed", slots)
	}
	if s := r.status(); len(s.Clones) != 1 || s.Clones[0].State != clone.InSync {
		t.Errorf("clones: %+v; want the one, in sync", s.Clones)
	}
	r.early(0, "detach")
	r.same("vda", "vdc")
	r.blank()
}

// unrecorded: what cannot be recorded is not begun, and the drive's owner loses nothing.
func (r *rig) unrecorded(t *testing.T) {
	r.create()
	r.Script("mkdir -p /etc/mdclone /var/lib/mdclone; mkfs.ext4 -q -F /dev/vdc")
	r.quiet()
	refused := func(want string, args ...string) {
		t.Helper()
		r.untouched(func() { code(t, r.account(3, args...), want) })
		r.tunables()
	}
	// with what is in it, as that is read before anything is written
	full := func() {
		t.Helper()
		r.Script(`mkdir -p /run/full; mount -t tmpfs -o size=1M none /run/full; cp -a /var/lib/mdclone/. /run/full; mount --move /run/full /var/lib/mdclone
			! dd if=/dev/zero of=/var/lib/mdclone/fill bs=64k status=none; df /var/lib/mdclone | grep -q 100%`)
	}
	r.Script("mount -t tmpfs -o ro none /etc/mdclone")
	refused("no-configuration", "adopt", "/dev/md0", "/dev/vdc", "--name", "data", "--overwrite")
	r.Script("umount /etc/mdclone")
	full()
	refused("no-ledger", "adopt", "/dev/md0", "/dev/vdc", "--name", "data", "--overwrite")
	r.Script("umount /var/lib/mdclone")

	// what cannot be replaced is found out only after the drive was added: mdadm would make that a spare once more
	r.Script(`mdadm --detail --export /dev/md0 | sed -n 's/^MD_UUID=/array = /p' > /etc/mdclone/data.conf
		mount --bind /etc/mdclone/data.conf /etc/mdclone/data.conf`)
	if got := r.early(1, "adopt", "/dev/md0", "/dev/vdc", "--overwrite"); !strings.Contains(got.Stderr, "data.conf") {
		t.Errorf("adopt says %q; want what could not be written", got.Stderr)
	}
	r.ownAlone()
	r.Script("if mdadm --examine /dev/vdc 2>/dev/null || ls /var/lib/mdclone/ledger/*.json; then exit 1; fi; umount /etc/mdclone/data.conf; rm /etc/mdclone/data.conf")

	r.early(0, "adopt", "/dev/md0", "/dev/vdc", "--name", "data", "--overwrite")
	r.early(0, "detach")
	r.quiet()
	full()
	refused("no-ledger", "backup")
	r.Script("umount /var/lib/mdclone")
	r.account(0, "backup")
	r.equal()
	r.blank()
}

// adoptInterrupted: a first copy that is interrupted is taken out again; the same command, run again, starts it anew
// without asking for --overwrite.
func (r *rig) adoptInterrupted(t *testing.T) {
	r.create()
	r.throttle("vdc", 8*mib) // so that the interrupt finds the first copy under way
	p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"mdclone-early", "adopt", "/dev/md0", "/dev/vdc", "--name", "data"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Script("until grep -q recovery /proc/mdstat; do :; done")
	if err := p.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	end, err := p.Wait(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	if end.Code != 130 {
		t.Errorf("exit code %d after an interrupt; want 130\n%s", end.Code, end.Stderr)
	}
	r.throttle("vdc", 0)
	if r.Try("test", "-e", "/sys/block/md0/md/dev-vdc").Code == 0 {
		t.Error("the drive is still in the array after the interrupt")
	}
	code(t, r.account(3, "backup"), "first-copy")
	r.early(0, "adopt", "/dev/md0", "/dev/vdc")
	if s := r.status(); len(s.Clones) != 1 || s.Clones[0].State != clone.InSync {
		t.Errorf("clones after the rerun: %+v; want the one, in sync", s.Clones)
	}
	r.early(0, "detach")
	r.equal()
}

// TestAdoptWithoutRoom: where mdadm finds no room for a bitmap of such small chunks, the array has the one again that it had, and
// the drive what it held.
func TestAdoptWithoutRoom(t *testing.T) {
	anySuite(t, func(t *testing.T, suite string) {
		r := &rig{suite: suite}
		for _, name := range []string{"disk0", "disk1", "disk2"} {
			r.disks = append(r.disks, NewDisk(t, name, 70<<10)) // nothing is ever written to most of it
		}
		r.boot(t)
		r.sh(`mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --assume-clean --bitmap=internal --bitmap-chunk=64M /dev/vda /dev/vdb 2>/dev/null
			mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1 /dev/vdc 1G`)
		held := func() string {
			return r.sh("for at in 0 $((70 * 64 - 1)); do dd if=/dev/vdc bs=16M count=1 skip=$at iflag=direct status=none | sha256sum; done")
		}
		before := held()
		got := r.early(1, "adopt", "/dev/md0", "/dev/vdc", "--name", "data", "--chunk", "64K", "--overwrite")
		if !strings.Contains(got.Stderr, "--bitmap-chunk=64K") {
			t.Errorf("adopt says %q; want that the bitmap could not be made", got.Stderr)
		}
		if chunk := strings.TrimSpace(r.File("/sys/block/md0/md/bitmap/chunksize")); chunk != "67108864" {
			t.Errorf("the bitmap has chunks of %s bytes; want 64 MiB, as before", chunk)
		}
		if a, b := r.onDisk(t, "vda").Bitmap, r.onDisk(t, "vdb").Bitmap; a.ChunkBytes != 64*mib || b.ChunkBytes != 64*mib {
			t.Errorf("on the disks there are bitmaps with chunks of %d and %d bytes; want 64 MiB", a.ChunkBytes, b.ChunkBytes)
		}
		if held() != before {
			t.Fatal("what the drive held was written over")
		}
		r.ownAlone()
		r.tunables()
		r.early(3, "adopt", "/dev/md0", "/dev/vdc", "--name", "data") // it still carries a file system
	})
}
