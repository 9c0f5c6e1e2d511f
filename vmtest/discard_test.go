//go:build vmtest

package vmtest

import (
	"strings"
	"testing"

	"mdclone/pkg/clone"
)

// TestDiscards: the clone's drive takes no discards, the array's own disks do. md says that it is done on all of them.
func TestDiscards(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := &rig{suite: suite}
		for _, name := range []string{"disk0", "disk1"} {
			d := NewDisk(t, name, diskMiB)
			d.Block = map[string]any{"driver": "raw", "discard": "unmap", "file": map[string]any{"driver": "file", "filename": d.Path, "discard": "unmap"}}
			r.disks = append(r.disks, d)
		}
		d := NewDisk(t, "disk2", diskMiB)
		d.Device = map[string]any{"discard": false}
		r.disks = append(r.disks, d)
		r.boot(t)
		r.adopted()
		for disk, takes := range map[string]bool{"vda": true, "vdc": false} {
			if got := r.File("/sys/block/" + disk + "/queue/discard_max_bytes"); (got != "0\n") != takes {
				t.Fatalf("%s discards %q at most: this shows nothing", disk, got)
			}
		}
		const discard = "blkdiscard -o 31457280 -l 4194304 /dev/md0"
		r.write("/dev/md0", 4, 30)
		r.Script(discard) // what is freed while the clone is away it is told of
		r.taken("vda")

		if got := r.early(0, "attach"); !strings.Contains(got.Stderr, "not all disks of md0 take discards") {
			t.Errorf("attach says %q; want what a discard does now", got.Stderr)
		}
		r.write("/dev/md0", 4, 30)
		r.Script(discard)
		r.quiet()
		got := r.early(5, "verify")
		if !strings.Contains(got.Stderr, "in 8192 sectors") || !strings.Contains(got.Stderr, "fstrim") {
			t.Errorf("verify says %q; want the 4 MiB that were discarded, and that it may be that", got.Stderr)
		}
		r.account(0, "verify", "--repair")
		r.account(0, "detach")
		r.equal()
		if s := r.status(); s.Clones[0].State != clone.Stale {
			t.Errorf("status: %+v; want the clone stale", s.Clones)
		}
	})
}
