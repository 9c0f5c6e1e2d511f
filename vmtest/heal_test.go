//go:build vmtest

package vmtest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// alone assembles the clone without the primaries, as a machine does that boots from it, and writes so many MiB to it.
func (r *rig) alone(mib, at int) {
	r.t.Helper()
	r.whileAlone(func() { r.write("/dev/md9", mib, at) })
}

// whileAlone has something happen to /dev/md9, which is the clone without the primaries.
func (r *rig) whileAlone(do func()) {
	r.t.Helper()
	r.Script(`mdadm --stop /dev/md0 2>/dev/null; mdadm --assemble /dev/md9 --run /dev/vdc 2>/dev/null`)
	do()
	r.Script(`mdadm --stop /dev/md9 2>/dev/null`)
	r.assemble()
}

// TestHeal: a clone that was booted is refused, says what would help, and comes back incrementally with --heal.
func TestHeal(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 3)
		r.create()
		r.chunks("/dev/md0", "32K") // so that there can be thousands of places
		r.adopt()
		for _, test := range []struct {
			name   string
			events func(r *rig) // after both sides were written
		}{
			{"events above the array's", func(r *rig) { r.ahead(40) }},
			{"events equal", func(r *rig) { r.ahead(0) }},
			{"events below", func(r *rig) { r.ahead(-1) }},
		} {
			t.Run(test.name, func(t *testing.T) {
				r := r.at(t)
				r.write("/dev/md0", 4, 20)
				r.alone(10, 60)
				r.quiet()
				test.events(r)
				r.untouched(func() {
					refused := r.account(3, "backup")
					code(t, refused, "ran-alone")
					code(t, refused, "own-writes")
					got := r.early(3, "check", "/dev/vdc")
					if !strings.Contains(got.Stderr, "--heal") {
						t.Errorf("check says %q; want a hint of --heal", got.Stderr)
					}
				})
				before := r.writtenTo("vdb")
				got := r.account(0, "backup", "--heal")
				if got.Mode != "healed" || got.DirtyBytes < 14*mib || got.DirtyBytes > 18*mib || got.CopiedBytes > got.DirtyBytes*11/10 {
					t.Errorf("backup --heal: %+v; want healed, both sides' writes copied and little more", got)
				}
				if got.VerifiedBytes < got.DirtyBytes+100*mib || got.MismatchedSectors != 0 {
					t.Errorf("backup --heal: %+v; want all of it compared", got)
				}
				if n := r.writtenTo("vdb") - before; n > 2*mib {
					t.Errorf("healing wrote %d bytes to a primary; want none of its data resynced", n)
				}
				r.equal()
				r.tunables()
				if got := r.account(0, "backup"); got.VerifiedBytes > 10*mib {
					t.Errorf("the backup after it: %+v; want nothing doubted any more", got)
				}
				r.equal()
			})
		}
		t.Run("thousands of places", func(t *testing.T) {
			r := r.at(t)
			const places = 2400 // in every other chunk
			r.whileAlone(func() {
				r.Script(fmt.Sprintf("for ((i = 0; i < %d; i++)); do echo pwrite -q $((i * 64))k 4k; done | xfs_io -d /dev/md9", places))
			})
			r.quiet()
			before := r.requestsTo("vdb")
			got := r.account(0, "backup", "--heal")
			if got.Mode != "healed" || got.DirtyBytes < places*32<<10 || got.DirtyBytes > places*34<<10 || got.MismatchedSectors != 0 {
				t.Errorf("backup --heal: %+v; want healed, what was written and little more", got)
			}
			if n := r.requestsTo("vdb") - before; n > 2*places {
				t.Errorf("%d writes to a primary for %d places; want one for each, to mark it, and few more", n, places)
			}
			r.equal()
		})
		t.Run("only what is known to have changed is compared", func(t *testing.T) {
			r := r.at(t)
			r.alone(10, 60)
			got := r.early(0, "backup", "--heal", "--verify", "changed")
			if !strings.Contains(got.Stderr, "is not seen") {
				t.Errorf("--heal --verify changed says %q; want what it cannot see", got.Stderr)
			}
			r.equal()
			if got := r.account(0, "backup"); got.VerifiedBytes < 100*mib {
				t.Errorf("the backup after it: %+v; want all compared, as the healing is doubted until then", got)
			}
		})
		t.Run("bitmap made anew meanwhile", func(t *testing.T) {
			r := r.at(t)
			r.alone(4, 60)
			r.chunks("/dev/md0", "32K")
			r.quiet()
			r.untouched(func() {
				got := r.account(3, "backup", "--heal")
				code(t, got, "ran-alone")
				code(t, got, "bits-cleared")
			})
			if got := r.account(0, "backup", "--full"); got.Mode != "full" || got.CopiedBytes < 100*mib {
				t.Errorf("backup --full: %+v; want all of it copied", got)
			}
			r.equal()
			r.account(0, "backup")
			r.equal()
		})
		t.Run("made anew with other chunks on its side", func(t *testing.T) {
			r := r.at(t)
			r.alone(4, 60)
			r.whileAlone(func() { r.chunks("/dev/md9", "64K") })
			r.quiet()
			r.untouched(func() { code(t, r.account(3, "backup", "--heal"), "bitmap-remade") })
			r.account(0, "backup", "--full")
			r.equal()
		})
	})
}

// chunks makes an array's bitmap anew.
func (r *rig) chunks(array, size string) {
	r.t.Helper()
	r.Script("mdadm --grow " + array + " --bitmap=none; mdadm --grow " + array + " --bitmap=internal --bitmap-chunk=" + size)
}

// ahead gives the clone, which is out, so many events more than the primaries have.
func (r *rig) ahead(by int64) {
	r.t.Helper()
	a, c := readMember(r.t, r.disk("vda")), readMember(r.t, r.disk("vdc"))
	block, err := md.Reseated(c.Raw, c.Super.Slot(), uint64(int64(a.Super.Events)+by), true)
	if err != nil {
		r.t.Fatal(err)
	}
	f, err := os.OpenFile(r.disk("vdc"), os.O_WRONLY, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = f.WriteAt(block, int64(c.Super.SuperOffset)*512)
	if e := f.Close(); err != nil || e != nil {
		r.t.Fatal(err, e)
	}
}

// writtenTo is how many bytes the guest has written to a disk since it booted.
func (r *rig) writtenTo(name string) int64 { r.t.Helper(); return 512 * r.stat(name, 7) }

// requestsTo is in how many requests.
func (r *rig) requestsTo(name string) int64 { r.t.Helper(); return r.stat(name, 5) }

// stat reads a field of a disk's statistics, counted from 1 (Documentation/block/stat.rst).
func (r *rig) stat(name string, field int) (n int64) {
	r.t.Helper()
	if _, err := fmt.Sscan(r.Script(fmt.Sprintf("awk '{ print $%d }' /sys/block/%s/stat", field, name)), &n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// mostSlowly is a rate in bytes a second at which the next block takes as long as an impatient person waits.
const mostSlowly = 256

// slowFromNow writes one block, where the bitmap need not be written, and lets a primary take no other for some time.
func (r *rig) slowFromNow(name string) {
	r.t.Helper()
	r.throttle(name, mostSlowly)
	r.sh("dd if=/dev/urandom of=/dev/md0 bs=4096 count=1 seek=$((20 * 256)) oflag=direct status=none")
}

// TestHealIsCut: the power is lost after marking, after joining, and in mid-sync of a healing; it is finished by the next run.
func TestHealIsCut(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		all, whole := newLastingRig(t, suite), t
		all.adopted()
		for i, test := range []struct{ name, until string }{
			// one primary has the marks, the other not yet
			{"after marking", `until [ "$(cat /sys/block/md0/md/sync_action)" = frozen ] && [ "$(mdadm -X /dev/vdb | sed -n 's/.* \([0-9]*\) dirty.*/\1/p')" -ge 38 ]; do :; done`},
			{"after joining", "until [ -e /sys/block/md0/md/dev-vdc ]; do :; done"},
			{"in mid-sync", "until grep -q / /sys/block/md0/md/sync_completed && [ -e /sys/block/md0/md/dev-vdc ]; do :; done"},
		} {
			t.Run(test.name, func(t *testing.T) {
				r := all.at(t)
				r.write("/dev/md0", 8, 20)
				r.alone(30, 60)
				if i == 0 {
					r.slowFromNow("vda")
				}
				if _, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"mdclone-early", "backup", "--heal"}}); err != nil {
					t.Fatal(err)
				}
				r.Script(test.until)
				all.cut(whole)
				r = all.at(t)
				got := r.account(0, "backup", "--heal")
				if got.Mode == "full" || got.DirtyBytes > 60*mib || got.VerifiedBytes < 100*mib {
					t.Errorf("backup --heal after the cut: %+v; want an incremental one, all compared", got)
				}
				r.equal()
				r.tunables()
				if s := r.status(); s.Clones[0].State != clone.Stale {
					t.Errorf("status after it: %+v; want the clone stale", s.Clones)
				}
			})
		}
	})
}

// TestJoinIsCut: from the join until md's thread has run, the drive's superblock says spare. A power cut in that window
// must not cost a full copy: the drive gets its slot back, and what its own bitmap names is copied too.
func TestJoinIsCut(t *testing.T) {
	const cuts = 10  // on each kernel
	realCuts := cuts // by the product's own join
	if !soaking() {
		realCuts = 2 // the others spare the boot
	}
	eachGuest(t, func(t *testing.T, suite string) {
		r := newLastingRig(t, suite)
		r.adopted()
		for i := range cuts {
			diverged := i%3 == 2 // one that ran alone loses its roles there: only its own bitmap tells what it wrote
			r.write("/dev/md0", 4, 20+i)
			if diverged {
				r.alone(6, 80+i)
			}
			if i < realCuts { // a drive that takes its next superblock late holds the window open
				r.throttle("vdc", mostSlowly)
				argv := []string{"mdclone-early", "backup"}
				if diverged {
					argv = append(argv, "--heal")
				}
				if _, err := r.Spawn(r.Context(), vm.Command{Argv: argv}); err != nil {
					t.Fatal(err)
				}
			} else { // a check does
				r.Script(`cd /sys/block/md0/md; echo 2000 > sync_speed_max; echo check > sync_action
					until grep -q / sync_completed; do :; done
					mdadm /dev/md0 --re-add /dev/vdc 2>/dev/null || true`)
			}
			r.Script("until mdadm -E /dev/vdc | grep -q 'Device Role : spare'; do :; done")
			if i < realCuts {
				r.cut(t)
			} else {
				r.write("/dev/md0", 2, 40+i)
				r.powerCut()
			}
			if s := r.status(); s.Clones[0].State != clone.Interrupted || toCopy(s.Clones[0]) > 20*mib {
				t.Fatalf("cut %d: status says %+v; want interrupted, incremental", i, s.Clones[0])
			}
			got := r.account(0, "backup", "--verify", "changed")
			if got.Mode != "incremental" || got.DirtyBytes > 20*mib {
				t.Fatalf("cut %d: backup: %+v; want an incremental one", i, got)
			}
			if r.equal(); t.Failed() {
				t.Fatalf("cut %d, diverged %v", i, diverged)
			}
		}
	})
}
