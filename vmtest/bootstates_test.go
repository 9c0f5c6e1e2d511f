//go:build vmtest

package vmtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// generation is the file in the machine's root file system that tells whose data was booted.
const generation = "/etc/generation"

// light is a /sbin/init that only starts the tests' agent: what comes before it is the machine's own, and what comes after
// it takes most of a boot's time.
const light = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -o remount,rw /
modprobe virtio_console
/usr/local/sbin/agent
`

// cloneMachine is the full machine with a clone that is in sync, configured and installed, and its clone's UUID.
func cloneMachine(t *testing.T, l *vm.Lab, suite string) (vm.Machine, md.UUID) {
	t.Helper()
	var clone md.UUID
	m, err := l.CloneMachine(t.Context(), suite, func(u md.UUID) []vm.File {
		clone = u
		conf := fmt.Sprintf("array = %s\nclone = %s\nmax-sectors-kb = %s\n", vm.MachineArray, u, pinKB)
		return append([]vm.File{
			{Path: "/etc/mdclone/root.conf", Data: []byte(conf)},
			{Path: generation, Data: []byte("old\n")},
			{Path: "/usr/local/sbin/light", Mode: 0o755, Data: []byte(light)},
		}, productFiles(t, l)...)
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, clone
}

// states are the states in which the tests find the disks, each made by its script. In a script $A and $B are the
// primaries, $C is the clone, $md is the array; "up" assembles it from the members given, "put" writes whose data it is into
// its file system, "cut" cuts the power.
var states = []struct{ name, script string }{
	{"stale", `up $A $B $C; leave; put current`},
	{"diverged", `up $A $B $C; leave; put current; mdadm --stop $md; for i in 1 2 3 4 5; do up $C; put own; mdadm --stop $md; done`},
	{"ended", `up $A $B $C; put current`}, // in good order, with the clone attached
	{"cut", `up $A $B $C; put current; written=$(written); fill & until [ $(written) -gt $((written + 16384)) ]; do :; done; cut`},
	{"syncing", `up $A $B $C; leave; put current; fill; slow; mdadm $md --re-add $C; syncing $C; cut`},
	{"ahead", `up $A $B $C; put current; mdadm $md --fail $A; mdadm $md --fail $B; put newest`},
	{"rollback", `up $A $B $C; leave; put current; fill; mdadm --stop $md
		up $C; put own; slow; echo 0-11 > $sys/bitmap_set_bits # what the primaries have changed: simply all of it
		# both before the sync begins: a member that comes later waits for the end of it
		echo frozen > $sys/sync_action; mdadm $md --re-add $A; mdadm $md --re-add $B; echo idle > $sys/sync_action
		syncing $A; syncing $B; cut`},
}

// stateLibrary is what the scripts use. The members are reached through device-mapper, which can end them all at once: mdadm
// has no two arrays of one UUID at a time, so that a state cannot wait for the machine's own end.
const stateLibrary = `
md=/dev/md0 sys=/sys/block/md0/md members=
disk() { echo "0 $(blockdev --getsz /dev/$1) linear /dev/$1 0" | dmsetup create $2; members="$members $2"; }
up() { mdadm --assemble --run --quiet $md "$@"; }
leave() { mdadm $md --fail $C; mdadm $md --remove $C; }
# a loop device, as the volume manager would take the states' volumes for one
put() { mount -t ext4 -o loop,offset=$VOLUME $md /mnt; echo $1 > /mnt` + generation + `; umount /mnt; }
fill() { dd if=/dev/urandom of=$md bs=1M seek=640 count=64 oflag=direct status=none; } # past the volume
written() { awk '{ print $7 }' $sys/../stat; } # sectors
slow() { echo 1 > $sys/sync_speed_min; echo 100 > $sys/sync_speed_max; }
syncing() { until mdadm --examine $1 | grep -q 'Recovery Offset'; do sleep 0.2; done; } # on its own disk
cut() {
	for m in $members; do dmsetup suspend --noflush --nolockfs $m; done
	for m in $members; do echo "0 $(blockdev --getsz /dev/mapper/$m) error" | dmsetup load $m; done
	for m in $members; do dmsetup resume $m; done
	wait || true
}
disk $P1 a; disk $P2 b; disk $CLONE c
A=/dev/mapper/a B=/dev/mapper/b C=/dev/mapper/c
`

// stateAtMost bounds the making of one state: a hundred times what it takes.
const stateAtMost = 10 * time.Minute

// stateEnd leaves the guest as it was.
const stateEnd = `
[ ! -e $sys ] || mdadm --stop $md
dmsetup remove $members
`

// diskStates makes the states of a system's machine, once for each suite.
func diskStates(t *testing.T, l *vm.Lab, system string) map[string]vm.Machine {
	t.Helper()
	base, _ := cloneMachine(t, l, system)
	suite := vm.SuiteOf(system)
	if suite != system {
		all := diskStates(t, l, suite)
		for name, m := range all {
			all[name] = m.StartedBy(base)
		}
		return all
	}
	member := readMember(t, base.Disks[0].Path).Super
	volume := base.Volume - int64(member.DataOffset)*512
	s := vm.Sets{Suite: suite, Base: base, Key: fmt.Sprint(states, stateLibrary, stateEnd)}
	for _, state := range states {
		s.Names = append(s.Names, state.name)
	}
	s.Do = func(ctx context.Context, v *vm.VM, disks map[string]map[string]string) error {
		for _, state := range states {
			d := disks[state.name]
			p, err := v.Spawn(ctx, vm.Command{
				Argv: []string{"bash", "-euxo", "pipefail", "-c", stateLibrary + state.script + stateEnd},
				Env: []string{
					"VOLUME=" + strconv.FormatInt(volume, 10), "P1=" + d["p1"], "P2=" + d["p2"], "CLONE=" + d[vm.CloneSerial],
				},
			})
			if err != nil {
				return err
			}
			bounded, cancel := context.WithTimeout(ctx, stateAtMost)
			r, err := p.Wait(bounded)
			cancel()
			if err == nil {
				err = r.Err()
			}
			if err != nil {
				return fmt.Errorf("state %s: %w\n%s", state.name, err, p.Stderr())
			}
		}
		return nil
	}
	all, err := l.Sets(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// super is the superblock on a disk of any image format.
func super(t *testing.T, d vm.Disk) *md.Superblock {
	t.Helper()
	// 1.2 metadata is in the first MiB
	out := t.TempDir() + "/head"
	cmd := exec.CommandContext(t.Context(), "qemu-img", "dd", "-O", "raw", "bs=1M", "count=1", "if="+d.Path, "of="+out)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("qemu-img dd: %v: %s", err, text)
	}
	head, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	const at = 8 // sector
	s, err := md.DecodeSuperblock(head[at*512:], at)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBootStates requires that the states are what their names say: else the tests of booting from them show nothing.
func TestBootStates(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite string) {
		all := diskStates(t, Lab(t), suite)
		for name, want := range map[string]string{
			"stale":    "01- 01- 012 behind",
			"diverged": "01- 01- --2 ahead",
			"ended":    "012 012 012 equal",
			"cut":      "012 012 012 equal unclean",
			"syncing":  "012 012 012~ equal",
			"ahead":    "012 -12 --2 ahead",
			"rollback": "012~ 012~ 012 equal",
		} {
			var got []string
			var events []uint64
			unclean := 0
			for _, d := range all[name].Disks {
				s := super(t, d)
				view := s.View()
				if s.Recovering() {
					view += "~"
				}
				if s.ResyncOffset != md.NoResync {
					unclean++
				}
				got, events = append(got, view), append(events, s.Events)
			}
			a, c := max(events[0], events[1]), events[2]
			switch {
			case c > a+1:
				got = append(got, "ahead")
			case a > c+1:
				got = append(got, "behind")
			case a == c:
				got = append(got, "equal")
			default:
				got = append(got, "one event apart")
			}
			if name == "cut" && unclean == len(events) {
				got = append(got, "unclean")
			}
			if text := strings.Join(got, " "); text != want {
				t.Errorf("%s: %s (events %v); want %s", name, text, events, want)
			}
		}
	})
}
