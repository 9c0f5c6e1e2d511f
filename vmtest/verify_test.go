//go:build vmtest

package vmtest

import (
	"fmt"
	"testing"
)

// TestVerify: a clone that differs is told from one that does not, and can be made equal.
func TestVerify(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 4)
		r.adopted()
		code(t, r.account(3, "verify"), "not-attached")
		r.account(0, "attach")
		if got := r.account(0, "verify"); got.VerifiedBytes < 100*mib || !got.Attached {
			t.Errorf("verify: %+v; want all compared, the clone still in", got)
		}
		const where = 50 * mib
		spoil := func() {
			c := readMember(t, r.disk("vdc"))
			r.Script(fmt.Sprintf("dd if=/dev/urandom of=/dev/vdc bs=4k count=16 seek=%d oflag=direct status=none", (c.Super.DataOffset*512+where)/4096))
		}
		spoil()
		got := r.account(5, "verify")
		if code(t, got, "mismatch"); got.MismatchedSectors < 128 {
			t.Errorf("verify of a clone that differs: %+v; want 128 sectors or more", got)
		}
		if got := r.account(0, "verify", "--repair"); got.MismatchedSectors != 0 {
			t.Errorf("verify --repair: %+v; want nothing different any more", got)
		}
		r.account(0, "verify", "--changed")
		r.account(0, "detach")
		r.equal()
		r.tunables()

		// the clone comes before the one primary that is left: md would repair that one
		r.account(0, "attach")
		r.sh(`mdadm /dev/md0 --add /dev/vdd 2>/dev/null; mdadm --grow /dev/md0 --raid-devices=4 2>/dev/null
			until grep -q in_sync $M/dev-vdd/state; do sleep 0.05; done; idle; out vda; out vdb`)
		spoil()
		there := func() string {
			return r.Must("dd", "if=/dev/md0", "bs=4k", "count=16", fmt.Sprint("skip=", where/4096), "iflag=direct", "status=none")
		}
		before := there()
		code(t, r.account(5, "verify", "--repair"), "repair-source")
		if there() != before {
			t.Error("what the clone holds was written over the primary")
		}
	})
}
