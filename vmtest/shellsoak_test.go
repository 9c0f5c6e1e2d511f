//go:build vmtest && soak

package vmtest

import (
	"testing"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// TestMachineAfterRescue: what the rescue image does cannot be recorded in the machine. Its next backup says so, once, and the
// way out that it tells is incremental.
func TestMachineAfterRescue(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite string) {
		l := Lab(t)
		p := startPrompt(t, suite, "stale", last, vm.LightArg)
		p.Up()
		p.account(0, "backup", "--verify", "changed")
		p.Script("echo changed > /etc/changed; sync; mount -o remount,ro /")
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		r := rescue(t, l, diskStates(t, l, suite)["stale"], p.conf)
		r.await(t, asked)
		r.enter(t, "clone")
		r.await(t, "safe to unplug")
		r.end(t)
		p.equal(t)

		machine := &rig{Machine: LaunchIn(t, l, p.conf)}
		machine.Up()
		if s := machine.status(); s.Clones[0].State != clone.Outdated || s.Clones[0].Reasons[0].Code != "touched" {
			t.Errorf("status: %+v; want the clone touched elsewhere", s.Clones)
		}
		code(t, machine.account(3, "backup"), "touched")
		const most = vm.MachineDisk / 2
		got := machine.account(0, "backup", "--verify", "full")
		if got.Mode != "incremental" || got.CopiedBytes > most || got.VerifiedBytes < most {
			t.Errorf("backup --verify full: %+v; want it incremental, and all compared", got)
		}
		equalButDirty(t, p.disks["p1"].Path, p.disks[vm.CloneSerial].Path)
		if got = machine.account(0, "backup"); got.Mode != "incremental" || got.VerifiedBytes > most {
			t.Errorf("the backup after that: %+v; want it incremental, and what was copied compared", got)
		}
		if err := machine.Kill(); err != nil {
			t.Fatal(err)
		}
	})
}
