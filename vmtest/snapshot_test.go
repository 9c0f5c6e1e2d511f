//go:build vmtest

package vmtest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"mdclone/pkg/clone"
)

// snapshot is what a rig's disks held at one moment: copies on the host, by the name of the disk in the guest.
type snapshot map[string]string

// snapshot copies the disks as a power cut at this moment would leave them: the guest is paused meanwhile.
func (r *rig) snapshot() snapshot {
	r.t.Helper()
	dir := r.t.TempDir()
	s := snapshot{}
	r.qmp("stop", nil)
	for _, name := range r.named(nil) {
		s[name] = filepath.Join(dir, name)
		info, err := os.Stat(r.disk(name))
		if err != nil {
			r.t.Fatal(err)
		}
		err = errors.Join(os.WriteFile(s[name], nil, 0o600), os.Truncate(s[name], info.Size()), overwrite(r.disk(name), s[name]))
		if err != nil {
			r.t.Fatal(err)
		}
	}
	r.qmp("cont", nil)
	return s
}

// putBack gives the disks named, or all, back what they held. No array may be running from them.
func (r *rig) putBack(s snapshot, names ...string) {
	r.t.Helper()
	for _, name := range r.named(names) {
		if err := overwrite(s[name], r.disk(name)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) named(names []string) []string {
	if len(names) > 0 {
		return names
	}
	for i := range r.disks {
		names = append(names, "vd"+string(rune('a'+i)))
	}
	return names
}

func (r *rig) qmp(command string, args any) {
	r.t.Helper()
	if _, err := r.QMP(r.Context(), command, args); err != nil {
		r.t.Fatal(err)
	}
}

// overwrite makes the file to, of the same size, equal to from; only what differs is written, so that holes stay holes.
func overwrite(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	left, right := make([]byte, mib), make([]byte, mib)
	for off := int64(0); ; off += mib {
		n, err := io.ReadFull(in, left)
		if n > 0 {
			if _, e := out.ReadAt(right[:n], off); e != nil {
				return errors.Join(e, out.Close())
			}
			if !bytes.Equal(left[:n], right[:n]) {
				if _, e := out.WriteAt(left[:n], off); e != nil {
					return errors.Join(e, out.Close())
				}
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return out.Close()
		}
		if err != nil {
			return errors.Join(err, out.Close())
		}
	}
}

// powerCut cuts the power, as far as the disks can tell, and spares the boot. vda and vdb are then assembled.
func (r *rig) powerCut() {
	r.t.Helper()
	r.backTo(r.snapshot())
	r.assemble()
}

// backTo stops all arrays, whatever a failed test left on them, and gives the disks back what they held.
func (r *rig) backTo(s snapshot) {
	r.t.Helper()
	r.Try("sh", "-c", "fsfreeze --unfreeze /mnt; umount /mnt; dmsetup remove_all")
	r.stopAll()
	r.Try("dmsetup", "remove_all") // those that the array was on
	r.putBack(s)
}

// stopAll stops all arrays.
func (r *rig) stopAll() {
	r.t.Helper()
	r.sh(`for m in $(sed -n 's/^\(md[0-9]*\) .*/\1/p' /proc/mdstat); do stop /dev/$m; done; ! grep '^md' /proc/mdstat`)
}

// assemble starts /dev/md0 from the disks named, or vda and vdb, and waits until they are in sync with one another.
func (r *rig) assemble(names ...string) {
	r.t.Helper()
	if len(names) == 0 {
		names = []string{"vda", "vdb"}
	}
	r.Must(slices.Concat([]string{"bash", "-euo", "pipefail", "-c", helpers + `up "$@"; idle`, "up"}, devices(names))...)
}

func devices(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, "/dev/"+n)
	}
	return out
}

// sh runs a bash script with the words that the attacks are written in.
func (r *rig) sh(script string) string {
	r.t.Helper()
	return r.Script(helpers + script)
}

// helpers: M is the array's md directory; alone starts /dev/md9 from drives that were taken elsewhere; out fails and
// removes a member by hand; clean waits until nothing is written any more, which md (seen on 6.12, under load) may forget to
// note until it is told to; rounds writes often enough for the events to pass the clone's; slow holds a check or a sync up;
// mismatch has md compare all members.
const helpers = `
M=/sys/block/md0/md
write() { dd if=/dev/urandom of=$1 bs=1M count=$2 seek=$3 oflag=direct status=none; }
stop() { mdadm --stop $1 2>/dev/null; }
up() { mdadm --assemble /dev/md0 --run "$@" 2>/dev/null; }
alone() { mdadm --assemble /dev/md9 --run "$@" 2>/dev/null; }
out() { mdadm /dev/md0 --fail /dev/$1 --remove /dev/$1 2>/dev/null; }
clean() {
	turn=0
	until grep -q clean $M/array_state; do
		sleep 0.05; turn=$((turn + 1)); [ $((turn % 200)) = 0 ] || continue
		echo "after $turn turns: $(cat $M/array_state)" >&2; echo clean > $M/array_state || true
	done
}
rounds() { for i in 1 2 3 4 5 6 7 8; do write /dev/md0 1 $1; clean; done; }
action() { cat $M/sync_action; }
idle() { until [ "$(action)" = idle ] && ! grep -Eq 'recovery|resync|reshape' /proc/mdstat; do sleep 0.05; done; }
readd() { mdadm /dev/md0 --re-add /dev/$1 2>/dev/null; until grep -q in_sync $M/dev-$1/state; do sleep 0.05; done; idle; }
clear() { echo 1 > $M/bitmap/time_base; until mdadm -X /dev/vda | grep -q ' 0 dirty'; do sleep 0.1; done; echo 5 > $M/bitmap/time_base; }
slow() { echo 1000 > $M/sync_speed_max; echo 100 > $M/sync_speed_min; }
fast() { echo system > $M/sync_speed_max; echo system > $M/sync_speed_min; }
checking() { slow; echo check > $M/sync_action; until [ "$(action)" = check ]; do sleep 0.05; done; }
mismatch() { idle; echo check > $M/sync_action; idle; cat $M/mismatch_cnt; }
`

// attackable is a rig whose array has a clone, vdc, that left in good order and misses 4 MiB. What lay on the disks then,
// and the configuration and the ledger, can be had back.
type attackable struct {
	*rig
	start snapshot
}

// newest tells whether only what rests on the kernel is tried: on the newest and on the oldest one, unless there is time.
func (a *attackable) newest() bool { return a.suite != suites[1] && !soaking() }

// newAttackable boots a rig of small disks, so that an attack takes seconds.
func newAttackable(t *testing.T, suite string, disks int) *attackable {
	t.Helper()
	r := &rig{suite: suite}
	for i := range disks {
		r.disks = append(r.disks, NewDisk(t, "disk"+string(rune('0'+i)), 64))
	}
	r.boot(t)
	r.sh(`for d in vda vdb; do write /dev/$d 8 0; done
		mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --bitmap=internal --bitmap-chunk=1M /dev/vda /dev/vdb 2>/dev/null; idle`)
	r.early(0, "adopt", "/dev/md0", "/dev/vdc", "--name", "data")
	r.early(0, "detach")
	r.write("/dev/md0", 4, 20)
	r.stopAll()
	r.keepState()
	return &attackable{rig: r, start: r.snapshot()}
}

// keepState keeps what is configured and recorded, useState brings it back.
func (r *rig) keepState() {
	r.t.Helper()
	r.Must("tar", "-C", "/", "-cf", "/run/state.tar", "etc/mdclone", "var/lib/mdclone")
}

func (r *rig) useState() {
	r.t.Helper()
	r.Script("rm -rf /etc/mdclone /var/lib/mdclone /run/mdclone; tar -C / -xf /run/state.tar")
}

// forget removes the ledger, as in a rescue shell.
func (r *rig) forget() { r.t.Helper(); r.Must("rm", "-rf", "/var/lib/mdclone") }

// again is the attackable as it was at the start, for a subtest.
func (a *attackable) again(t *testing.T) *rig {
	t.Helper()
	r := a.at(t)
	r.backTo(a.start)
	r.useState()
	r.assemble()
	return r
}

// refused requires that the clone is refused for that reason, that status says what it is, and that not one byte of any
// disk is written.
func (r *rig) refused(want string, state clone.State, drive string) {
	r.t.Helper()
	r.quiet()
	r.untouched(func() { r.refusedNow(want, state, drive) })
}

var fullCopyCost = regexp.MustCompile(`a full copy makes it a clone again \([0-9.]+ MiB, about [0-9a-z ]+ at this drive's rate\): mdclone-early`)

func (r *rig) refusedNow(want string, state clone.State, drive string) {
	r.t.Helper()
	code(r.t, r.account(3, "backup", "--clone", drive), want)
	got := r.early(3, "check", "/dev/md0", drive)
	if state == clone.Outdated && want != "touched" && !fullCopyCost.MatchString(got.Stderr) {
		r.t.Errorf("check says %q; want what a full copy costs", got.Stderr)
	}
	for _, c := range r.status().Clones {
		if at(c) == drive && c.State != state {
			r.t.Errorf("status says %s of %s; want %s", c.State, drive, state)
		}
	}
}

// taken requires that backup takes the clone back, incrementally, and that it is then a copy of the primary.
func (r *rig) taken(primary string, args ...string) clone.Result {
	r.t.Helper()
	got := r.account(0, append([]string{"backup"}, args...)...)
	if got.Result != "done" || got.Mode != "incremental" || got.MismatchedSectors != 0 || got.Attached {
		r.t.Errorf("backup: %+v; want done, incremental, detached, nothing different", got)
	}
	r.same(primary, "vdc")
	r.tunables()
	return got
}

// mdTakes re-adds a member with plain mdadm and returns by how many sectors md's own check then says that it differs.
func (r *rig) mdTakes(name string) string {
	r.t.Helper()
	return r.sh("readd " + name + "; mismatch")
}
