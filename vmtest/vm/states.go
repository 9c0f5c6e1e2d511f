package vm

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// state is a script that makes one.
type state struct{ name, script string }

// states are those in which a cloned machine may find its disks, each made by its script. In a script $A and $B are the
// primaries, $C is the clone, $md is the array; "up" assembles it from the members given, "put" writes whose data it is into
// its file system, "cut" cuts the power.
var states = []state{
	{"stale", `up $A $B $C; leave; put current`},
	{"diverged", `up $A $B $C; leave; put current; mdadm --stop $md; for i in 1 2 3 4 5; do up $C; put own; mdadm --stop $md; done`},
	{"ended", `up $A $B $C; put current`}, // in good order, with the clone attached
	{"cut", `up $A $B $C; put current; written=$(written); fill & until [ $(written) -gt $((written + 16384)) ]; do :; done; cut`},
	{"syncing", `up $A $B $C; leave; put current; fill; slow; mdadm $md --re-add $C; syncing $C; cut`},
	{"ahead", `up $A $B $C; put current; fail $A $B; mdadm $md --fail $B; put newest`},
	{"rebuilding", `up $A $B $C; leave; put current; fill; slow
		mdadm $md --fail $B; mdadm $md --remove $B; mdadm --zero-superblock $B; mdadm $md --add $B; syncing $B; cut`},
	{"rollback", `up $A $B $C; leave; put current; fill; mdadm --stop $md
		up $C; put own; slow; echo 0-11 > $sys/bitmap_set_bits # what the primaries have changed: simply all of it
		# both before the sync begins: a member that comes later waits for the end of it
		echo frozen > $sys/sync_action; mdadm $md --re-add $A; mdadm $md --re-add $B; echo idle > $sys/sync_action
		syncing $A; syncing $B; cut`},
}

// FailFirst is a function of a shell that has $1 of $md fail, and waits until both changes of $2's superblock are on disk: where
// the two are one event apart, mdadm --incremental starts the array from $2, whatever it lists (mdadm 4.4).
const FailFirst = `
events() { mdadm --examine $1 | sed -n 's/.*Events : //p'; }
fail() { mdadm $md --fail $1; [ -z "$2" ] || until [ $(events $2) -ge $(($(events $1) + 2)) ]; do sleep 0.05; done; }
`

// stateLibrary is what the scripts use. The members are reached through device-mapper, which can end them all at once: mdadm
// has no two arrays of one UUID at a time, so that a state cannot wait for the machine's own end.
const stateLibrary = `
md=/dev/md0 sys=/sys/block/md0/md members=
disk() { echo "0 $(blockdev --getsz /dev/$1) linear /dev/$1 0" | dmsetup create $2; members="$members $2"; }
up() { mdadm --assemble --run --quiet $md "$@"; }
` + FailFirst + `leave() { mdadm $md --fail $C; mdadm $md --remove $C; }
# a loop device, as the volume manager would take the states' volumes for one
put() { mount -t ext4 -o loop,offset=$VOLUME $md /mnt; echo $1 > /mnt` + Generation + `; umount /mnt; }
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
`

// twoPrimaries are the names of the members, and onePrimary those where there is only one.
const twoPrimaries = `disk $P1 a; disk $P2 b; disk $CLONE c
A=/dev/mapper/a B=/dev/mapper/b C=/dev/mapper/c
`

const onePrimary = `disk $P1 a; disk $CLONE c
A=/dev/mapper/a B= C=/dev/mapper/c
`

// encrypted has the states write into what is encrypted.
const encrypted = `
modprobe dm_crypt
put() {
	printf ` + Passphrase + ` | cryptsetup open --key-file=- $md crypt0
	mount -t ext4 -o loop,offset=$VOLUME /dev/mapper/crypt0 /mnt; echo $1 > /mnt` + Generation + `; umount /mnt
	cryptsetup close crypt0
}
`

// stateAtMost bounds the making of one state: a hundred times what it takes.
const stateAtMost = 10 * time.Minute

// stateEnd leaves the guest as it was.
const stateEnd = `
while [ -e $sys ]; do mdadm --stop $md || sleep 0.1; done # one that is stopped goes a moment later
dmsetup remove $members
`

// stateLibrary is what the scripts use on a machine of this layout.
func (y Layout) stateLibrary() string {
	library := stateLibrary + twoPrimaries
	if y.Primaries == 1 {
		library = stateLibrary + onePrimary
	}
	if y.LUKS {
		library += encrypted
	}
	return library
}

// CloneStates returns the full machine with a clone, laid out as y says, configured and installed, in each of the states that
// are named, or in all of them. They are made once for each suite; product is what Product returns.
func (l *Lab) CloneStates(ctx context.Context, system string, y Layout, product []File, names ...string) (map[string]Machine, error) {
	base, err := l.Cloned(ctx, system, y, product)
	if err != nil {
		return nil, err
	}
	suite := SuiteOf(system)
	if suite != system {
		all, err := l.CloneStates(ctx, suite, y, product, names...)
		for name, m := range all {
			all[name] = m.StartedBy(base)
		}
		return all, err
	}
	volume, err := base.Inside()
	if err != nil {
		return nil, err
	}
	library := y.stateLibrary()
	wanted := states
	if len(names) > 0 {
		wanted = slices.DeleteFunc(slices.Clone(states), func(s state) bool { return !slices.Contains(names, s.name) })
	}
	s := Sets{Suite: suite, Base: base, Key: fmt.Sprint(wanted, library, stateEnd)}
	for _, state := range wanted {
		s.Names = append(s.Names, state.name)
	}
	s.Do = func(ctx context.Context, v *VM, disks map[string]map[string]string) error {
		for _, state := range wanted {
			env := []string{"VOLUME=" + strconv.FormatInt(volume, 10)}
			for serial, disk := range disks[state.name] {
				env = append(env, strings.ToUpper(serial)+"="+y.Node(disk))
			}
			if err := makeState(ctx, v, library+state.script, env); err != nil {
				return fmt.Errorf("state %s: %w", state.name, err)
			}
		}
		return nil
	}
	return l.Sets(ctx, s)
}

// makeState runs a state's script.
func makeState(ctx context.Context, v *VM, script string, env []string) error {
	p, err := v.Spawn(ctx, Command{Argv: []string{"bash", "-euxo", "pipefail", "-c", script + stateEnd}, Env: env})
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, stateAtMost)
	defer cancel()
	r, err := p.Wait(bounded)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.Stderr())
	}
	return nil
}
