//go:build vmtest && soak

package vmtest

import (
	"regexp"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/pkg/report"
	"mdclone/vmtest/vm"
)

// breakAt are the kernel parameters that start dracut's own shell, for which root's password is not asked.
func breakAt(place string, more ...string) []string {
	return append([]string{"rd.break=" + place, "SYSTEMD_SULOGIN_FORCE=1", vm.LightArg}, more...)
}

// TestPromptOfDracut makes the clone at dracut's own prompt: before it starts what is on the array, without and with the hold
// of mdclone=backup, and after that, when the clone is held.
func TestPromptOfDracut(t *testing.T) {
	t.Parallel()
	for _, system := range systems[len(suites):] {
		at := func(t *testing.T, args []string) *prompt {
			p := startPrompt(t, system, "stale", first, args...)
			p.await(t, "rdsosreport.txt")
			p.maintain(t, regexp.MustCompile(`(?s)rdsosreport\.txt.*# $`))
			p.says(t, "udevadm settle")
			return p
		}
		t.Run(system+"/initqueue", func(t *testing.T) {
			t.Parallel()
			p := at(t, breakAt("initqueue"))
			p.says(t, "mdclone-early status", ": stale at /dev/vda;")
			p.says(t, "mdclone-early backup --offline --verify changed", "safe to unplug")
			p.equal(t)
			p.enter(t, "exit")
			p.knows(t, 1, true)
		})
		t.Run(system+"/held", func(t *testing.T) {
			t.Parallel()
			p := at(t, breakAt("initqueue", "mdclone=backup", "mdclone.until=1700000000"))
			p.says(t, "mdclone-early backup --offline --verify changed", "safe to unplug")
			p.equal(t)
			p.enter(t, "exit")
			p.Up()
			p.nothingBefore(t)
			p.outcome(t, offlineCase{code: report.Done, why: "expired"})
			if got := p.slots(); got != "01-" {
				t.Errorf("the array is %s; want 01-", got)
			}
		})
		t.Run(system+"/pre-mount", func(t *testing.T) {
			t.Parallel()
			p := at(t, breakAt("pre-mount"))
			p.says(t, "mdclone-early status", "vda is in use: ", "mdclone-early boot hold vda (process ")
			p.says(t, "for f in /run/mdclone/claim-*; do read -r pid name <$f; kill $pid; done") // as the console says
			p.says(t, "mdclone-early backup --offline", "this is not offline: dm-0 is on it", "hint: ", "lvm vgchange -an")
			p.says(t, "lvm vgchange -an; mdclone-early backup --offline --verify changed; lvm vgchange -ay", "safe to unplug")
			p.equal(t)
			p.enter(t, "exit")
			p.knows(t, 1, true)
		})
	}
}

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
