//go:build vmtest

package vmtest

import (
	"strings"
	"testing"
)

// TestArrayOfNewerKernel: an array that was made on the newest kernel is left alone by the oldest, which cannot assemble it, and
// the reason is told.
func TestArrayOfNewerKernel(t *testing.T) {
	t.Parallel()
	r := newLastingRig(t, kernels[len(kernels)-1])
	r.adopted()
	r.stopAll()
	if err := r.PowerOff(r.Context()); err != nil {
		t.Fatal(err)
	}
	r.suite = kernels[0]
	r.boot(t)
	if r.Try("bash", "-c", helpers+"up /dev/vda /dev/vdb").Code == 0 {
		t.Fatalf("Linux %s assembles the array: this shows nothing", r.Release())
	}
	r.Try("mdadm", "--stop", "/dev/md0")
	r.untouched(func() {
		for _, command := range []string{"backup", "attach", "detach"} {
			code(t, r.account(3, command), "kernel-too-old")
		}
		if got := r.early(0, "status").Stdout; !strings.Contains(got, "cannot be assembled by") {
			t.Errorf("status says\n%s\nwant why it is not assembled", got)
		}
	})
}
