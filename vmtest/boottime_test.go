//go:build vmtest

package vmtest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/pkg/config"
	"mdclone/pkg/report"
	"mdclone/vmtest/vm"
)

// A pace is how long a boot may take, told by another of the same machine that runs beside it.
type pace struct {
	name  string
	state string // of the disks
	than  bootCase
	boot  bootCase
	// most is how long it may take, in seconds of the initramfs. than is how long the other took, r is the machine that is up.
	most func(t *testing.T, than float64, r *rig) float64
	on   where
	// tools says that it is not for dracut, which by itself waits for two minutes and more
	tools bool
	once  bool // one pair is enough if it is not late, also where there is time
}

// stock is the machine as its distribution has it.
var stock = []string{"mdclone=off"}

var paces = []pace{
	{
		name: "clone first after a power cut", state: "cut",
		than: bootCase{disks: strings.Fields(both)}, boot: bootCase{disks: strings.Fields(first)},
		most: atOnce, on: firstSuite,
	},
	withClone("cut", last),
	withClone("stale", first),
	withClone("stale", middle),
	withClone("stale", last),
	withClone("diverged", first),
	{
		// others than one who left in good order are waited for by both, for as long
		name: "alone, stale", state: "stale",
		than: bootCase{disks: []string{"clone"}, args: stock}, boot: bootCase{disks: []string{"clone"}},
		most: asLong, on: firstSuite, tools: true,
	},
	{
		// one who ran alone is started by mdadm without any wait for others
		name: "alone, diverged", state: "diverged",
		than: bootCase{disks: []string{"clone"}, args: stock}, boot: bootCase{disks: []string{"clone"}},
		most: afterTheWait, on: never,
	},
	{
		name: "made before anything is started", state: "stale",
		than: bootCase{disks: strings.Fields(both)},
		boot: bootCase{disks: strings.Fields(first), args: []string{"mdclone=backup", "mdclone.verify=changed"}},
		most: afterTheCopy, on: never,
	},
}

// withClone is a boot with the clone plugged in, beside one without it.
func withClone(state, disks string) pace {
	return pace{
		name: state + ", " + disks, state: state, than: bootCase{disks: strings.Fields(both)}, boot: bootCase{disks: strings.Fields(disks)},
		most: atOnce, on: rareTools, once: true,
	}
}

// slack is what a boot may take longer than it should: two seconds, or a quarter where the machine is slow.
func slack(than float64) float64 { return max(2, than/4) }

func atOnce(_ *testing.T, than float64, _ *rig) float64 { return than + slack(than) }

// asLong is atOnce where both wait. initramfs-tools does so for two thirds of its 30 seconds (scripts/local-block/mdadm).
func asLong(_ *testing.T, than float64, _ *rig) float64 { return than + slack(than-20) }

// afterTheWait is atOnce after primaries were waited for.
func afterTheWait(t *testing.T, than float64, _ *rig) float64 {
	t.Helper()
	seconds, ok := config.BootWait(0).Seconds()
	if !ok {
		t.Fatal("by default the clone alone is never started")
	}
	return than + float64(seconds) + slack(than)
}

// afterTheCopy leaves a second more than atOnce beside what sync and comparison took.
func afterTheCopy(t *testing.T, than float64, r *rig) float64 {
	t.Helper()
	var o struct {
		Code    report.Code
		Account clone.Result
	}
	text := r.File("/run/mdclone/boot.json")
	if err := json.Unmarshal([]byte(text), &o); err != nil || o.Code != report.Done || o.Account.VerifiedBytes == 0 {
		t.Fatalf("the clone was not made and compared (%v): %s", err, text)
	}
	t.Logf("sync %.1f s, comparison %.1f s of %d MiB", o.Account.Seconds.Sync, o.Account.Seconds.Verify, o.Account.CopiedBytes>>20)
	return than + o.Account.Seconds.Sync + o.Account.Seconds.Verify + 1 + slack(than)
}

// TestBootTime: what the boot set does takes a boot no time, or the time that it says. Both boots run side by side, by their
// own clocks: what slows the host down slows both.
func TestBootTime(t *testing.T) {
	for i, system := range systems {
		some := slices.DeleteFunc(runOn(i, paces, func(p pace) where { return p.on }), func(p pace) bool { return p.tools && vm.HasDracut(system) })
		if len(some) == 0 {
			continue
		}
		t.Run(system, func(t *testing.T) {
			l := Lab(t)
			all := diskStates(t, l, system)
			for _, p := range some {
				t.Run(p.name, func(t *testing.T) { p.run(t, l, all[p.state]) })
			}
		})
	}
}

// run boots pairs, until the median of how much too long it took is none. Where one pair was disturbed, more of them tell.
func (p pace) run(t *testing.T, l *vm.Lab, base vm.Machine) {
	least, most := 1, 5
	if soaking() && !p.once {
		least = 3
	}
	var late []float64
	for len(late) < most {
		late = append(late, p.pair(t, l, base))
		sorted := slices.Sorted(slices.Values(late))
		if n := len(late); n >= least && n%2 == 1 && sorted[n/2] <= 0 {
			return
		}
	}
	t.Errorf("the boot took longer than it may by %.1f s, each time", late)
}

// pair boots both and tells by how many seconds the second took longer than it may.
func (p pace) pair(t *testing.T, l *vm.Lab, base vm.Machine) float64 {
	t.Helper()
	than, _ := p.than.launch(t, l, base)
	boot, _ := p.boot.launch(t, l, base)
	took := func(r *rig) float64 {
		r.Up()
		seconds, err := r.InitramfsTook(r.Context())
		if err != nil {
			t.Fatal(err)
		}
		return seconds
	}
	a, b := took(than), took(boot)
	most := p.most(t, a, boot)
	t.Logf("%.1f s; %.1f s beside it, at most %.1f s", a, b, most)
	for _, r := range []*rig{than, boot} {
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	return b - most
}
