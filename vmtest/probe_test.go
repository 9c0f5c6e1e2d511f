//go:build vmtest

package vmtest

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/pkg/limits"
	"mdclone/vmtest/vm"
)

// traces is all that a probe could leave: devices, arrays, mappings, files, mounts, processes.
const traces = `ls /sys/block /dev /dev/mapper /dev/md /run /tmp /mnt; cat /proc/mdstat /proc/partitions; dmsetup ls; losetup -a; df -k /tmp | awk '{ print $3 }'
	grep -l -e mdclone-[e]arly -e undo-[w]hen /proc/[0-9]*/cmdline 2>/dev/null || true`

// slow keeps md from copying, so that a probe stays at its join.
const slow = "echo 1 > /proc/sys/dev/raid/speed_limit_min; echo 1 > /proc/sys/dev/raid/speed_limit_max"

const fast = "echo 200000 > /proc/sys/dev/raid/speed_limit_max; echo 1000 > /proc/sys/dev/raid/speed_limit_min"

// TestProbe runs the test of the kernel on every kernel: each passes, and nothing is left however the probe ends.
func TestProbe(t *testing.T) {
	eachKernel(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 1, func(c *vm.Config) {
			f, err := Lab(t).Helper(t.Context(), t.TempDir(), "nbd")
			if err != nil {
				t.Fatal(err)
			}
			c.Files, c.Load = append(c.Files, f), append(c.Load, "nbd", "ext4")
		})
		r.Script("mkdir -p /run/mdclone; mount -t tmpfs none /tmp; mkfs.ext4 -q /dev/vda; mount /dev/vda /mnt; " + fast)
		before := r.Script(traces)
		clean := func(t *testing.T) {
			t.Helper()
			// of a guard that works on it is not known when it is ready; its bound is our patience
			r.at(t).Script("while grep -qs undo-[w]hen /proc/[0-9]*/cmdline; do sleep 0.05; done")
			if after := r.Script(traces); after != before {
				t.Errorf("the probe leaves something behind: before\n%s\nafter\n%s", before, after)
			}
		}
		for _, where := range [][]string{{}, {"--dir", "/tmp"}, {"--dir", "/mnt"}} {
			t.Run("passes "+strings.Join(where, " "), func(t *testing.T) {
				r := r.at(t)
				got := read[clone.ProbeResult](r, r.early(0, append([]string{"probe", "--json"}, where...)...).Stdout)
				l := got.Limits
				if got.Verdict != "passes" || got.Kernel != r.Release() || l["array_before"] <= l["member"] || l["array_after"] != l["member"] ||
					l["holder"] != l["array_before"] {
					t.Errorf("probe says %+v; want that it passes although the limit fell below dm's", got)
				}
				clean(t)
			})
		}
		if t.Failed() {
			return
		}
		for _, test := range []struct {
			name    string
			most    int // KiB, see nbd
			code    int
			verdict limits.Verdict
			reason  string
			says    string
		}{
			{"no request fails", 0, 0, limits.Passes, "passes", "were split and arrived"},
			{"what is longer than 64 KiB fails", 64, 1, limits.Fails, "bio-too-big", ": 128 KiB: "},
			{"what each member takes fails too", 8, 1, limits.Unknown, "inconclusive", ": 16 KiB: "},
		} {
			if test.most != 64 && suite != suites[1] && !soaking() {
				continue
			}
			t.Run(test.name, func(t *testing.T) {
				got := r.at(t).probeThrough(t, test.most)
				account := read[clone.ProbeResult](r, got.Stdout)
				if got.Code != test.code || account.Verdict != test.verdict || account.Reasons[0].Code != test.reason ||
					!strings.Contains(account.Reasons[0].Text, test.says) {
					t.Errorf("probe = %d, %+v; want %d, %s, %s with %q", got.Code, account, test.code, test.verdict, test.reason, test.says)
				}
				clean(t)
			})
		}
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
			t.Run(signal.String(), func(t *testing.T) {
				r := r.at(t)
				p := r.probing(t)
				if err := p.Signal(signal); err != nil {
					t.Fatal(err)
				}
				got, err := p.Wait(r.Context())
				if err != nil {
					t.Fatal(err)
				}
				if signal != syscall.SIGKILL && got.Code != 130 {
					t.Errorf("exit code %d after %s; want 130\n%s", got.Code, signal, got.Stderr)
				}
				clean(t)
				r.Script(fast)
			})
		}
		t.Run("its guard killed too", func(t *testing.T) {
			r := r.at(t)
			r.probing(t)
			r.Script("for p in $(grep -l -e mdclone-[e]arly -e undo-[w]hen /proc/[0-9]*/cmdline | cut -d/ -f3 | sort -rn); do kill -9 $p 2>/dev/null || true; done; " + fast)
			r.Script("test -e /sys/block/md1000001")
			r.early(0, "probe") // removes what is left before it begins
			clean(t)
		})
		if suite != suites[1] && !soaking() { // what follows is not the kernel's doing
			return
		}
		t.Run("two at once", func(t *testing.T) {
			r := r.at(t)
			p := r.probing(t)
			if got := r.early(3, "probe"); !strings.Contains(got.Stderr, "another probe") {
				t.Errorf("a second probe says %q", got.Stderr)
			}
			r.Script(fast)
			if got, err := p.Wait(r.Context()); err != nil || got.Code != 0 {
				t.Errorf("the first probe = %d, %v; want 0\n%s", got.Code, err, got.Stderr)
			}
			clean(t)
		})
		t.Run("a device of its name", func(t *testing.T) {
			r := r.at(t)
			r.Script(`truncate -s 8M /tmp/file; losetup /dev/loop0 /tmp/file; echo md1000001 > /sys/module/md_mod/parameters/new_array
				cd /sys/block/md1000001/md; echo none > metadata_version; echo raid1 > level; echo 2 > raid_disks; echo 4096 > component_size
				cat /sys/block/loop0/dev > new_dev; echo 0 > dev-loop0/slot; echo active > array_state`)
			r.early(3, "probe")
			r.Script(`mdadm --stop /dev/md1000001 2>/dev/null; losetup -d /dev/loop0; rm /tmp/file`)
			clean(t)
		})
		t.Run("loop devices that are not its own", func(t *testing.T) {
			r := r.at(t)
			// one is left unbound, as by a probe that was killed before it had an array, one is bound, and one is open: nodes
			// that are opened make their devices
			r.Script(`truncate -s 8M /tmp/file; losetup /dev/loop3841 /tmp/file; mknod /tmp/left b 7 3840; mknod /tmp/open b 7 3842
				: < /tmp/left; sleep 1000 < /tmp/open >/dev/null 2>&1 & echo $! > /tmp/holder; ls -d /sys/block/loop384[012]`)
			r.early(0, "probe")
			if got := r.Script("cd /sys/block; echo loop38*; cat loop3841/loop/backing_file"); got != "loop3841 loop3842\n/tmp/file\n" {
				t.Errorf("after a probe there are %s; want what others have, and nothing else", got)
			}
			r.Script("losetup -d /dev/loop3841; kill $(cat /tmp/holder); rm /tmp/holder /tmp/left /tmp/open /tmp/file")
			r.early(0, "probe") // removes those too: nobody has them now
			clean(t)
		})
		for _, test := range []struct {
			name  string
			taken string
			code  int
		}{
			{"another program is quicker", "loop3840 loop3841 loop3843", 0},
			{"other programs take all its loop devices", "loop3840 loop3841 loop3842 loop3843 loop3844 loop3845 loop3846 loop3847 " +
				"loop3848 loop3849 loop3850 loop3851 loop3852 loop3853 loop3854 loop3855", 3},
		} {
			t.Run(test.name, func(t *testing.T) {
				r := r.at(t)
				// a frozen file system holds the probe between its choice of numbers and their use
				r.Script("truncate -s 8M /tmp/file; fsfreeze -f /mnt")
				p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"mdclone-early", "probe", "--json", "--dir", "/mnt"}})
				if err != nil {
					t.Fatal(err)
				}
				r.Script(fmt.Sprintf("until cat /proc/%d/task/*/status | grep -q '^State:.D'; do kill -0 %d; sleep 0.05; done", p.PID, p.PID))
				r.Script("for l in " + test.taken + "; do losetup /dev/$l /tmp/file; done; fsfreeze -u /mnt")
				got, err := p.Wait(r.Context())
				if err != nil {
					t.Fatal(err)
				}
				account := read[clone.ProbeResult](r, got.Stdout)
				if got.Code != test.code || len(account.Reasons) != 1 { // a guard that waits for what others have ends with a second
					t.Errorf("probe = %d, %+v; want %d, and nothing of what others have", got.Code, account, test.code)
				}
				if test.code == 3 && !strings.Contains(account.Reasons[0].Text, "loop devices 3840 to 3855") {
					t.Errorf("probe says %+v; want it to name the loop devices", account.Reasons)
				}
				if got := r.Script("cd /sys/block; echo loop38*; cat loop38*/loop/backing_file | sort -u"); got != test.taken+"\n/tmp/file\n" {
					t.Errorf("after the probe there are %s; want %s", got, test.taken)
				}
				r.Script("for l in " + test.taken + "; do losetup -d /dev/$l; done; rm /tmp/file")
				r.early(0, "probe")
				clean(t)
			})
		}
		t.Run("no space", func(t *testing.T) {
			r := r.at(t)
			r.Script("mkdir /tmp/small; mount -t tmpfs -o size=6M none /tmp/small")
			r.early(3, "probe", "--dir", "/tmp/small")
			r.Script("umount /tmp/small; rmdir /tmp/small")
			clean(t)
			r.early(2, "probe", "--dir", "/proc/version")
		})
		t.Run("modules", func(t *testing.T) {
			r := r.at(t)
			r.Script("rmmod raid1; modprobe -r loop dm_mod; mv /lib/modules /lib/away")
			if got := r.early(3, "probe"); !strings.Contains(got.Stderr, "raid1, loop, dm-mod") {
				t.Errorf("probe without modules says %q", got.Stderr)
			}
			r.Script("mv /lib/away /lib/modules")
			r.early(0, "probe")
		})
	})
}

// probeThrough has a probe's requests go, from the moment at which its small member joins, through a device that fails those of
// more than most KiB, and carries out the others on the probe's array.
func (r *rig) probeThrough(t *testing.T, most int) vm.Result {
	t.Helper()
	p := r.probing(t)
	nbd, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"nbd", "/dev/nbd0", "/dev/md1000001", fmt.Sprint(most)}})
	if err != nil {
		t.Fatal(err)
	}
	r.Script(`until [ "$(cat /sys/block/nbd0/size)" = 8192 ]; do sleep 0.05; done; echo 2048 > /sys/block/nbd0/queue/max_sectors_kb
		dmsetup suspend mdclone-probe; echo 0 8192 linear /dev/nbd0 0 | dmsetup load mdclone-probe; dmsetup resume mdclone-probe
		rm -f /dev/mapper/mdclone-probe # the node is dmsetup's
		` + fast + `; while ls /sys/block | grep -q ^dm-; do sleep 0.05; done`)
	r.stopProcess(nbd) // the guard waits for it
	r.Script(`until [ "$(cat /sys/block/nbd0/size)" = 0 ]; do sleep 0.05; done`)
	got, err := p.Wait(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// probing starts a probe and waits until its small member is being copied to, which md is kept from.
func (r *rig) probing(t *testing.T) *vm.Process {
	t.Helper()
	r.Script(slow)
	p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"mdclone-early", "probe", "--json"}})
	if err != nil {
		t.Fatal(err)
	}
	// of a mirror that starts with an empty slot md says so for a moment too (drivers/md/md.c, md_run, Linux 6.1)
	r.Script(fmt.Sprintf(`cd /sys/block; until [ $(ls -d md1000001/md/dev-* 2>/dev/null | wc -l) = 2 ] && [ "$(cat md1000001/md/sync_action)" = recover ]
		do kill -0 %d; sleep 0.1; done`, p.PID))
	return p
}
