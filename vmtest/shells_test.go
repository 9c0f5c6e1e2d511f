//go:build vmtest

package vmtest

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// A prompt is a shell on the serial console of a machine, as a person has it there.
type prompt struct {
	offline
	conf  vm.Config
	lines int
}

// startPrompt boots the machine in a state of its disks, which the host can read meanwhile. args lead to a shell.
func startPrompt(t *testing.T, suite, state, plugged string, args ...string) *prompt {
	t.Helper()
	l := Lab(t)
	conf, disks := bootCase{disks: strings.Fields(plugged), args: args}.config(t, diskStates(t, l, suite)[state])
	for serial, d := range disks {
		one := vm.Config{Disks: []vm.Disk{d}}
		raw(t, &one)
		disks[serial] = one.Disks[0]
	}
	for i, d := range conf.Disks {
		conf.Disks[i] = disks[d.Serial]
	}
	return &prompt{offline: offline{&rig{Machine: LaunchIn(t, l, conf)}, disks}, conf: conf}
}

// maintain answers sulogin's question, after which there is a prompt. What is typed before it listens is lost, and nothing
// tells when that is: so again and again.
func (p *prompt) maintain(t *testing.T, ready *regexp.Regexp) {
	t.Helper()
	all := p.Context()
	for {
		p.enter(t, "")
		once, cancel := context.WithTimeout(all, 5*time.Second)
		err := p.AwaitConsoleMatch(once, ready)
		cancel()
		if err == nil {
			return
		}
		if once.Err() == nil || all.Err() != nil {
			t.Fatal(err)
		}
	}
}

// says types a line at the prompt, waits for its end, and requires that it says all of words.
func (p *prompt) says(t *testing.T, line string, words ...string) {
	t.Helper()
	p.lines++
	before := len(p.Console())
	p.enter(t, fmt.Sprintf(`%s; echo "over $((%d))."`, line, p.lines)) // the echo of it reads otherwise
	p.await(t, fmt.Sprintf("over %d.", p.lines))
	said := p.Console()[before:]
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("%s says\n%s\nwant %q", line, said, w)
		}
	}
}

// equal requires that all members hold the same now: nothing is mounted.
func (p *prompt) equal(t *testing.T) {
	t.Helper()
	sameMembers(t, p.disks["p1"].Path, p.disks["p2"].Path)
	sameMembers(t, p.disks["p1"].Path, p.disks[vm.CloneSerial].Path)
}

// knows requires that the system that is booted in the end knows of the clones that were made, the last one offline or not, and
// that it takes the drive for what it is.
func (p *prompt) knows(t *testing.T, clones int, offline bool) {
	t.Helper()
	p.Up()
	if got := p.slots(); got != "01-" {
		t.Errorf("the array is %s; want 01-", got)
	}
	if s := p.status(); s.Clones[0].State != clone.Stale || s.Clones[0].DetachedAt == nil {
		t.Errorf("status: %+v; want the clone stale, and when it was detached", s.Clones)
	}
	lines := slices.Collect(strings.Lines(p.File("/var/lib/mdclone/history.jsonl")))
	if last := lines[len(lines)-1]; len(lines) != clones || !strings.Contains(last, `"result":"done"`) ||
		!strings.Contains(last, fmt.Sprintf(`"offline":%v`, offline)) {
		t.Errorf("the history is\n%s\nwant %d lines, the last of a clone that was made, offline %v", strings.Join(lines, ""), clones, offline)
	}
	// nothing had vouched for the drive, so that it would be compared again, for minutes in an emulated machine
	if got := p.account(0, "backup", "--verify", "changed"); got.Mode != "incremental" || got.Offline {
		t.Errorf("the next backup: %+v; want it incremental and online", got)
	}
	equalButDirty(t, p.disks["p1"].Path, p.disks[vm.CloneSerial].Path)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
}

// TestPromptOfInitramfs makes the clone at the prompt of an initramfs, without the hold of mdclone=backup: the array may have
// been started, and what is on it too, though nothing is mounted.
func TestPromptOfInitramfs(t *testing.T) {
	t.Parallel()
	for i, suite := range suites {
		if i > 0 && !soaking() {
			continue
		}
		t.Run(suite+"/started", func(t *testing.T) {
			t.Parallel()
			p := startPrompt(t, suite, "stale", first, append(vm.ShellAt(suite, "premount"), vm.LightArg)...)
			p.await(t, "(initramfs)")
			p.says(t, "mdclone-early status", ": stale at /dev/vda;")
			p.says(t, "mdclone-early backup --offline", "this is not offline: dm-0 is on it", "hint: ", "lvm vgchange -an")
			p.says(t, "mdclone-early backup --verify changed", "what a power cut at that moment would have left", "safe to unplug")
			p.equal(t)
			p.says(t, "lvm vgchange -an; mdclone-early backup --offline --verify changed", "safe to unplug")
			p.equal(t)
			p.enter(t, "exit")
			p.knows(t, 2, true)
		})
		for _, state := range []string{"ended", "cut"} { // with the clone attached
			if !soaking() {
				continue
			}
			t.Run(suite+"/"+state, func(t *testing.T) {
				t.Parallel()
				p := startPrompt(t, suite, state, first, append(vm.ShellAt(suite, "premount"), vm.LightArg)...)
				p.await(t, "(initramfs)")
				p.says(t, "mdclone-early status", "root: /dev/md0 was not started (inactive)", "hint: ")
				p.says(t, "mdclone-early backup", "error: md0 was not started (inactive)", "mdadm --run /dev/md0 starts it")
				p.says(t, "mdadm --run /dev/md0; udevadm settle") // else the volumes come in the middle of it, or not
				p.says(t, "mdclone-early backup --verify changed", "safe to unplug")
				p.equal(t)
				p.enter(t, "exit")
				p.knows(t, 1, false)
			})
		}
	}
}

// TestRescueTarget makes the clone at the prompt of the machine's own single-user mode, where the root file system is mounted.
func TestRescueTarget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, suite, arg string
		plugged          bool // from the start
		readOnly         bool
		rare             bool
	}{
		{"rescue", "trixie", "systemd.unit=rescue.target", false, false, false},
		{"single", "bookworm", "single", true, false, true},
		{"emergency", "bookworm", "systemd.unit=emergency.target", true, true, true},
	} {
		if c.rare && !soaking() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			disks := last
			if !c.plugged {
				disks = both
			}
			p := startPrompt(t, c.suite, "stale", disks, c.arg, "systemd.setenv=SYSTEMD_SULOGIN_FORCE=1") // root has no password
			p.await(t, "Control-D to continue")
			p.maintain(t, regexp.MustCompile("root@machine:~# "))
			if !c.plugged {
				p.says(t, "mdclone-early backup", "no clone drive of root is plugged in", "hint: ")
				if err := p.Attach(p.Context(), p.disks[vm.CloneSerial]); err != nil {
					t.Fatal(err)
				}
			}
			p.says(t, "mdclone-early backup --offline --wait 10m", "this is not offline: ", "mounted on /", "mdclone-gen boot-once backup")
			p.says(t, "mdclone-early status", ": stale at /dev/vdc;")
			if c.readOnly {
				p.says(t, "mdclone-early backup", "cannot be recorded", "mount what holds /var/lib/mdclone/ledger read-write")
				p.says(t, "mount -o remount,rw /")
			}
			p.says(t, "mdclone-early backup --verify changed", "what a power cut at that moment would have left", "safe to unplug")
			equalButDirty(t, p.disks["p1"].Path, p.disks[vm.CloneSerial].Path)
			p.enter(t, "systemctl default")
			p.knows(t, 1, false)
		})
	}
}

// TestCopiedBinary makes the clone from a system that knows nothing of mdclone, with the program alone, as the README has it.
// The machine itself then takes the way out that it is told.
func TestCopiedBinary(t *testing.T) {
	anySuite(t, func(t *testing.T, suite string) {
		r := newLastingRig(t, suite)
		r.adopted()
		all := r.status().Size
		r.write("/dev/md0", 4, 20)
		r.quiet()
		machine := r.elsewhere(t)

		r.early(0, "status")
		r.saysNo(2, "--clone DRIVE", "backup")
		r.Script("mdadm --assemble --run /dev/md0 /dev/vda /dev/vdb")
		r.saysNo(2, "--clone", "backup", "/dev/md0")
		r.early(0, "check", "/dev/md0", "/dev/vdc")
		got := r.account(0, "backup", "/dev/md0", "--clone", "/dev/vdc", "--offline")
		if got.Mode != "incremental" || got.VerifiedBytes != all || got.CopiedBytes > all/2 || !got.Offline {
			t.Errorf("backup without a configuration: %+v; want it incremental, offline, and all compared", got)
		}
		r.equal()

		// with the machine's own configuration no names are needed
		r.Script("mdadm --stop /dev/md0; mount -o ro /dev/" + r.Plugged(*machine) + " /mnt; cp -r /mnt/etc /etc/mdclone; umount /mnt")
		const assemble = "mdadm --assemble --run /dev/md/data /dev/vda /dev/vdb"
		r.saysNo(1, assemble, "backup", "--offline")
		r.Script(assemble)
		if got = r.account(0, "backup", "--offline"); got.Mode != "incremental" || got.VerifiedBytes > all/2 {
			t.Errorf("backup with the configuration: %+v; want it incremental, and what was copied compared", got)
		}
		r.equal()

		r.home(t, machine)
		if s := r.status(); s.Clones[0].State != clone.Outdated || s.Clones[0].Reasons[0].Code != "touched" {
			t.Errorf("status in the machine: %+v; want the clone touched elsewhere", s.Clones)
		}
		code(t, r.account(3, "backup"), "touched")
		r.equal()
		r.write("/dev/md0", 4, 40)
		got = r.account(0, "backup", "--verify", "full")
		if got.Mode != "incremental" || got.VerifiedBytes != all || got.CopiedBytes > all/2 {
			t.Errorf("backup --verify full: %+v; want it incremental, and all compared", got)
		}
		r.equal()
		r.write("/dev/md0", 4, 60)
		if got = r.account(0, "backup"); got.Mode != "incremental" || got.VerifiedBytes > all/2 {
			t.Errorf("the backup after that: %+v; want it incremental, and what was copied compared", got)
		}
		r.equal()
	})
}

// elsewhere cuts the machine's power and boots another system on its disks: of the machine's root file system it has nothing.
func (r *rig) elsewhere(t *testing.T) (machine *vm.Disk) {
	t.Helper()
	machine, r.state = r.state, nil
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	r.boot(t)
	return machine
}

// home is the way back.
func (r *rig) home(t *testing.T, machine *vm.Disk) {
	t.Helper()
	r.Script("mdadm --stop --scan")
	r.state = machine
	r.cut(t)
}
