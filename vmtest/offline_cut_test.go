//go:build vmtest

package vmtest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"mdclone/pkg/clone"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/vmtest/vm"
)

// TestOfflineBootIsCut loses the power in the middle of the copy of a cycle at boot. The next boot, though chosen again by a
// boot loader that cannot forget, is a normal one, and the next backup goes on, though what the running system remembers of
// the clone is from before.
func TestOfflineBootIsCut(t *testing.T) {
	eachSystem(t, systems[1:3], func(t *testing.T, system string) {
		l := Lab(t)
		boot := bootCase{disks: strings.Fields(last), args: []string{vm.LightArg}}
		conf, disks := boot.config(t, diskStates(t, l, system)["stale"])
		raw(t, &conf)
		for _, d := range conf.Disks {
			disks[d.Serial] = d
		}
		primary, cloneDisk := disks["p1"].Path, disks[vm.CloneSerial].Path
		before := entryOf(readMember(t, primary), readMember(t, cloneDisk))

		choose(t, &conf, disks)
		r := offline{&rig{Machine: LaunchIn(t, l, conf)}, disks}
		r.await(t, looking)
		r.inSync(t)
		for readMember(t, cloneDisk).Super.Features&md.FeatureRecoveryOffset == 0 {
			time.Sleep(50 * time.Millisecond) // a disk's image does not announce that it was written
			if err := r.Context().Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		if !readMember(t, cloneDisk).Super.Recovering() {
			t.Fatal("the power was not cut in the middle of the copy: this test shows nothing")
		}

		r.Machine = BootIn(t, l, conf)
		if got, data := r.slots(), strings.TrimSpace(r.File(vm.Generation)); got != "01-" || data != "current" {
			t.Errorf("after the power cut the array is %s, its data %q; want 01-, current", got, data)
		}
		r.outcome(t, offlineCase{code: report.Failed, why: "unfinished"})
		text, err := json.Marshal(before)
		if err != nil {
			t.Fatal(err)
		}
		r.Script("mkdir -p /var/lib/mdclone/ledger && cat > /var/lib/mdclone/ledger/" +
			strings.ReplaceAll(before.Clone.String(), ":", "") + ".json <<'END'\n" + string(text) + "\nEND")
		if got := r.status().Clones[0]; got.State != clone.Interrupted {
			t.Errorf("status: %+v; want the clone interrupted", got)
		}
		code(t, r.account(3, "backup", "--verify", "changed"), "unrecorded-sync")
		if got := r.account(0, "backup"); got.Mode != "incremental" || got.DirtyBytes > uint64(vm.MachineDisk)/2 ||
			got.VerifiedBytes < uint64(vm.MachineDisk)/2 {
			t.Errorf("backup after the power cut: %+v; want an incremental one, all of it compared", got)
		}
		equalButDirty(t, primary, cloneDisk)
	})
}

// entryOf is what the ledger says of a clone that leaves now in good order.
func entryOf(primary, left *md.Member) clone.Entry {
	return clone.Entry{
		Clone: left.Super.Device, Array: left.Super.Array, FirstCopy: true, Complete: true, DetachedAt: time.Now().UTC(),
		Slot: left.Super.Slot(), Events: left.Super.Events, Updated: left.Super.Updated, Super: left.Raw,
		EventsCleared: primary.Bitmap.EventsCleared, ChunkBytes: primary.Bitmap.ChunkBytes,
	}
}
