//go:build vmtest

package vmtest

import (
	"fmt"
	"testing"
)

// TestVerify: a clone that differs is told from one that does not, and can be made equal.
func TestVerify(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 3)
		r.adopted()
		code(t, r.account(3, "verify"), "not-attached")
		r.account(0, "attach")
		if got := r.account(0, "verify"); got.VerifiedBytes < 100*mib || !got.Attached {
			t.Errorf("verify: %+v; want all compared, the clone still in", got)
		}
		c := readMember(t, r.disk("vdc"))
		r.Script(fmt.Sprintf("dd if=/dev/urandom of=/dev/vdc bs=4k count=16 seek=%d oflag=direct status=none", (c.Super.DataOffset*512+50*mib)/4096))
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
	})
}
