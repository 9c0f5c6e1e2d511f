//go:build vmtest

package vmtest

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// accountsJSON is what a command over several clones prints.
type accountsJSON struct {
	Arrays []clone.Result `json:"arrays"`
}

// accounts runs a command over several clones and reads their accounts.
func (r *rig) accounts(want int, args ...string) []clone.Result {
	r.t.Helper()
	return read[accountsJSON](r, r.early(want, append(args, "--json")...).Stdout).Arrays
}

// bothEqual is equal for two clones, vdc and vdd.
func (r *rig) bothEqual() {
	r.t.Helper()
	r.equal()
	swapped := *r
	swapped.disks = slices.Clone(r.disks)
	swapped.disks[2], swapped.disks[3] = swapped.disks[3], swapped.disks[2]
	swapped.equal()
}

// TestTwoClones: each has a slot of its own. Alone, each copies what either of them misses, and status says how much of
// that it has already; a session with both ends that.
func TestTwoClones(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 5)
		r.adopted()
		r.account(0, "backup", "--keep") // a new one is adopted while all others are in
		r.early(0, "adopt", "data", "/dev/vdd")
		if got := r.early(0, "detach"); strings.Count(got.Stdout, "safe to unplug") != 1 {
			t.Errorf("detach of two clones says %q; want once that it is safe to unplug", got.Stdout)
		}
		c, d := r.status().Clones[0], r.status().Clones[1]
		if c.Slot != 2 || d.Slot != 3 || c.State != clone.Stale || d.State != clone.Stale {
			t.Fatalf("status: %+v, %+v; want both stale, in slots 2 and 3", c, d)
		}
		first := func(args ...string) clone.Result { return r.account(0, append(args, "--clone", "/dev/vdc")...) }

		r.write("/dev/md0", 16, 20)
		first("backup")
		r.write("/dev/md0", 4, 60)
		s := r.status()
		if c = s.Clones[0]; toCopy(c) < 20*mib || c.AgainBytes < 16*mib || c.AgainBytes > 19*mib {
			t.Errorf("status of the clone that was backed up: %+v; want 20 MiB to copy, of which it has 16", c)
		}
		if text := r.early(0, "status").Stdout; !strings.Contains(text, "of that it has already") {
			t.Errorf("status says %q; want why the clone copies more than it misses", text)
		}
		if got := first("backup"); got.DirtyBytes < 20*mib {
			t.Errorf("backup: %+v; want the union of what both miss", got)
		}
		r.equal()

		if suite == suites[1] || soaking() {
			t.Run("made offline, and somebody writes as soon as that is possible", func(t *testing.T) { r.at(t).bothOffline(t) })
		}
		both := r.accounts(0, "backup")
		if len(both) != 2 || both[0].Clone == both[1].Clone || both[0].MismatchedSectors+both[1].MismatchedSectors != 0 || both[0].Attached || both[1].Attached {
			t.Errorf("backup of both: %+v; want two accounts, both out", both)
		}
		r.bothEqual()
		r.tunables()
		r.write("/dev/md0", 4, 60)
		if got := first("backup"); got.DirtyBytes > 6*mib {
			t.Errorf("backup after a session with both: %+v; want only what changed since", got)
		}
		r.equal()

		if suite == suites[1] || soaking() {
			t.Run("interrupted while the first is copied to", func(t *testing.T) { r.at(t).interruptedInFirst(t) })
			t.Run("interrupted when one of them is known to differ", func(t *testing.T) { r.at(t).interruptedWhenOneDiffers(t) })
		}
		t.Run("a primary is replaced while they are away", func(t *testing.T) {
			r := r.at(t)
			r.Script("mdadm /dev/md0 --fail /dev/vdb --remove /dev/vdb 2>/dev/null; mdadm --zero-superblock /dev/vdb")
			if text := r.early(0, "status").Stdout; !strings.Contains(text, "into its slot, 1") {
				t.Errorf("status says %q; want that a new drive takes slot 1", text)
			}
			r.Script("mdadm /dev/md0 --add /dev/vde 2>/dev/null; mdadm --wait /dev/md0 || true; grep -q 1 /sys/block/md0/md/dev-vde/slot")
			r.write("/dev/md0", 2, 90)
			if got := r.accounts(0, "backup"); got[0].Mode != "incremental" || got[1].Mode != "incremental" || got[1].CopiedBytes > 40*mib {
				t.Errorf("backup after a primary was replaced: %+v; want both incremental", got)
			}
			r.bothEqual()
		})
		t.Run("one of them was booted", func(t *testing.T) {
			r := r.at(t)
			r.Script(`mdadm --stop /dev/md0 2>/dev/null; mdadm --assemble /dev/md9 --run /dev/vdd 2>/dev/null`)
			r.write("/dev/md9", 2, 100)
			r.Script("mdadm --stop /dev/md9; mdadm --assemble /dev/md0 --run /dev/vda /dev/vde 2>/dev/null")
			got := r.accounts(3, "backup")
			if got[0].Result != "done" || got[1].Result != "refused" {
				t.Errorf("backup: %+v; want the one done and the other refused", got)
			}
			r.equal()
			if got := r.accounts(0, "backup", "--heal"); got[0].Mode != "incremental" || got[1].Mode != "healed" {
				t.Errorf("backup --heal: %+v; want the one incremental and the other healed", got)
			}
			r.bothEqual()
		})
		t.Run("one of them is pulled out in the comparison of both", func(t *testing.T) {
			r := r.at(t)
			r.limits(r.disks[2].Serial, 8*mib, 0)
			p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"mdclone-early", "backup", "--verify", "full", "--json"}})
			if err != nil {
				t.Fatal(err)
			}
			r.sh(`until [ "$(action)" = check ] && grep -q / $M/sync_completed; do :; done`)
			r.Unplugged(r.disks[3].Serial)
			r.write("/dev/md0", 1, 100) // md looks at a drive when it writes to it
			r.limits(r.disks[2].Serial, 0, 0)
			ended, err := p.Wait(r.Context())
			if err != nil {
				t.Fatal(err)
			}
			got := read[accountsJSON](r, ended.Stdout).Arrays
			if ended.Code != 1 || got[0].Result != "done" || got[0].VerifiedBytes < 100*mib || got[0].Attached || got[1].Result != "failed" {
				t.Errorf("exit code %d, %+v; want the other one compared and done\n%s", ended.Code, got, ended.Stderr)
			}
			r.equal()
			r.Plugged(r.disks[3])
			r.accounts(0, "backup")
			r.bothEqual()
			r.tunables()
		})
		t.Run("the array was shrunk and grown beside one of them", func(t *testing.T) {
			r := r.at(t)
			r.account(0, "attach", "--clone", "/dev/vdc")
			r.sh(`write /dev/md0 2 100; mdadm --grow /dev/md0 --size=81920 2>/dev/null; idle; write /dev/md0 1 30
				mdadm --grow /dev/md0 --size=max 2>/dev/null; idle; stop /dev/md0; up /dev/vda /dev/vde /dev/vdc`)
			r.account(0, "detach", "--clone", "/dev/vdc") // leaves its canary where the other's was
			code(t, r.account(5, "backup", "--clone", "/dev/vdd"), "mismatch")
			r.account(0, "verify", "--repair", "--clone", "/dev/vdd")
			r.account(0, "detach", "--clone", "/dev/vdd")
			r.bothEqual()
		})
	})
}

// interruptedInFirst: the one is taken out, with most of its copy still to come, and the other is not even let in.
func (r *rig) interruptedInFirst(t *testing.T) {
	r.write("/dev/md0", 24, 20)
	r.quiet()
	before := r.sums()[3]
	p := r.copying(t)
	if err := p.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ended, err := p.Wait(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.throttle("vdc", 0)
	got := read[accountsJSON](r, ended.Stdout).Arrays
	if ended.Code != 130 || len(got) != 2 {
		t.Fatalf("exit code %d, %+v; want 130, and two accounts\n%s", ended.Code, got, ended.Stderr)
	}
	for i, c := range got {
		if code(t, c, "interrupted"); c.Result != "interrupted" || c.Attached || c.Device != []string{"/dev/vdc", "/dev/vdd"}[i] {
			t.Errorf("account of clone %d: %+v; want it interrupted, and out", i, c)
		}
	}
	if got[0].CopiedBytes >= got[0].DirtyBytes || got[1].CopiedBytes > 0 {
		t.Errorf("%d of %d bytes were copied to the first, %d to the second; want not all, and none", got[0].CopiedBytes, got[0].DirtyBytes,
			got[1].CopiedBytes)
	}
	if after := r.sums()[3]; after != before {
		t.Error("the second clone was written to; want it as it was")
	}
	r.tunables()
	r.accounts(0, "backup")
	r.bothEqual()
}

// interruptedWhenOneDiffers: the kernel does not say which of them it is, so neither is a clone before it is compared.
func (r *rig) interruptedWhenOneDiffers(t *testing.T) {
	r.accounts(0, "attach")
	r.spoil("vdd", 5)
	r.limits(r.disks[2].Serial, 8*mib, 0)
	p := r.start("verify")
	r.sh(`until [ "$(cat $M/mismatch_cnt)" -gt 0 ]; do :; done; [ "$(action)" = check ]`)
	if err := p.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if ended, err := p.Wait(r.Context()); err != nil || ended.Code != 130 {
		t.Fatalf("%v, exit code %d; want 130\n%s", err, ended.Code, ended.Stderr)
	}
	r.limits(r.disks[2].Serial, 0, 0)
	for _, c := range r.status().Clones {
		if c.State != clone.InSync {
			t.Errorf("after an interrupt: %+v; want it in", c)
		}
	}
	code(t, r.account(5, "backup", "--clone", "/dev/vdd"), "mismatch")
	r.account(0, "verify", "--repair", "--clone", "/dev/vdd")
	for _, c := range r.accounts(0, "backup") {
		if c.Device == "/dev/vdc" && c.VerifiedBytes < 100*mib {
			t.Errorf("backup: %+v; want all of the other compared too", c)
		}
	}
	r.bothEqual()
	r.tunables()
}

// asStatusSays replaces a missing primary by a new drive, as status says, and waits until it is in sync.
func (r *rig) asStatusSays(drive string) {
	r.t.Helper()
	var typed []string
	for _, line := range strings.Split(r.early(0, "status").Stdout, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "echo ") || strings.HasPrefix(line, "mdadm ") {
			typed = append(typed, strings.ReplaceAll(line, "NEW", drive))
		}
	}
	r.Script(strings.Join(typed, "\n") + "\nmdadm --wait /dev/md0 || true; grep -q in_sync /sys/block/md0/md/dev-" + drive + "/state")
}

// TestReplacedIntoItsSlot: the clone has the lowest slot, and a replaced primary was put there by a plain --add.
func TestReplacedIntoItsSlot(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 4)
		// no adopt makes this: a clone in slot 0
		r.Script(`for d in vda vdb vdc; do dd if=/dev/urandom of=/dev/$d bs=1M count=8 oflag=direct status=none; done
			mdadm --create /dev/md0 --run --level=1 --raid-devices=3 --bitmap=internal --bitmap-chunk=1M /dev/vdc /dev/vda /dev/vdb
			mdadm --wait /dev/md0 || true; test "$(cat /sys/block/md0/md/degraded)" = 0
			mkdir -p /etc/mdclone; uuid() { mdadm -E /dev/vdc | sed -n "s/ *$1 UUID : //p"; }
			printf 'array = %s\nclone = %s\n' "$(uuid Array)" "$(uuid Device)" > /etc/mdclone/data.conf`)
		r.account(0, "backup", "--verify", "full")
		r.write("/dev/md0", 4, 20)
		r.Script("mdadm /dev/md0 --fail /dev/vdb --remove /dev/vdb 2>/dev/null; mdadm --zero-superblock /dev/vdb")
		r.asStatusSays("vdd")
		if slot := strings.TrimSpace(r.File("/sys/block/md0/md/dev-vdd/slot")); slot != "2" {
			t.Errorf("done as status says, the new drive is in slot %s; want 2", slot)
		}
		r.write("/dev/md0", 2, 60)
		if got := r.account(0, "backup"); got.Mode != "incremental" || got.CopiedBytes > 20*mib {
			t.Errorf("backup after a primary was replaced: %+v; want it incremental", got)
		}
		r.equal()

		r.Script("mdadm /dev/md0 --fail /dev/vdd --remove /dev/vdd 2>/dev/null; mdadm --zero-superblock /dev/vdd")
		r.Script(`mdadm /dev/md0 --add /dev/vdd 2>/dev/null; mdadm --wait /dev/md0 || true; grep -q 0 /sys/block/md0/md/dev-vdd/slot`)
		r.write("/dev/md0", 4, 40)
		got := r.account(0, "backup")
		code(t, got, "slot-moved")
		if got.Mode != "incremental" || got.CopiedBytes > 20*mib {
			t.Errorf("backup: %+v; want it incremental, in the other slot", got)
		}
		r.equal()
		if c := r.status().Clones[0]; c.Slot != 2 || c.State != clone.Stale {
			t.Errorf("status: %+v; want it stale, its slot 2 now", c)
		}
		r.account(0, "backup")
		r.equal()
	})
}

// bothOffline: somebody writes whenever that is possible, and nothing from the comparison on before the last of them is out.
func (r *rig) bothOffline(t *testing.T) {
	r.write("/dev/md0", 2, 40)
	r.Must("mkfifo", "/run/never")
	writer, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", `while [ ! -e /run/enough ]; do
			dd if=/dev/urandom of=/dev/md0 bs=4k count=1 seek=5000 oflag=direct conv=notrunc status=none 2>/dev/null
			read -r state </sys/block/md0/md/array_state; [ $state = readonly ] || read -t 0.3 <>/run/never; done`}})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range r.accounts(0, "backup", "--offline") {
		if !got.Offline || got.Attached {
			t.Errorf("backup --offline: %+v; want it out, made offline", got)
		}
	}
	r.Must("touch", "/run/enough")
	if _, err := writer.Wait(r.Context()); err != nil {
		t.Fatal(err)
	}
	r.same("vdc", "vdd")
}
