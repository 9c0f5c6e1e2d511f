//go:build vmtest && soak

package vmtest

import (
	"strings"
	"testing"

	"mdclone/vmtest/vm"
)

// TestBootOnceAgain: a boot that was chosen with the clone attached makes it, as one that was chosen with the clone away. The
// same boot once more makes no other, as the clone has left the array.
func TestBootOnceAgain(t *testing.T) {
	eachSystem(t, systems, func(t *testing.T, system string) {
		l := Lab(t)
		all := diskStates(t, l, system)
		for _, state := range []string{"ended", "cut"} {
			t.Run(state, func(t *testing.T) {
				t.Parallel()
				conf, disks := bootCase{disks: strings.Fields(last), args: []string{vm.LightArg}}.config(t, all[state])
				raw(t, &conf)
				for _, d := range conf.Disks {
					disks[d.Serial] = d
				}
				choose(t, &conf, disks)
				for _, c := range []offlineCase{{}, {why: "spent"}} {
					r := offline{&rig{Machine: BootIn(t, l, conf)}, disks}
					if got := r.slots(); got != "01-" {
						t.Errorf("the array is %s; want 01-", got)
					}
					if o := r.outcome(t, c); (o.Account == nil) != (c.why != "") {
						t.Errorf("the account is %+v; want one if the clone is made", o.Account)
					}
					if err := r.Kill(); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	})
}
