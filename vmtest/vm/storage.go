package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The sizes of a machine, in bytes.
const (
	MachineDisk = 768 << 20 // of each member; a clone must be as large
	machineRoot = 512 << 20 // of the root file system
)

// MachineArray is the UUID of each machine's array: files that name it can be written before there is an array.
const MachineArray = "6d64636c:6f6e6500:7261696c:31000001"

// buildStorage makes array and volume on empty disks, and prints where the volume begins on each of them, in sectors.
// The array's flush to read-only leaves no dirty chunk in its bitmap: a new array has them all. A Layout fills it in: what is
// done first, the members, the metadata, what is put onto the array, which tells in $start where the volume begins there, the
// first member.
const buildStorage = `
%[1]smdadm --create /dev/md0 --run --quiet --level=1 --raid-devices=$(set -- /dev/%[2]s; echo $#) --metadata=%[3]s --bitmap=internal \
	--assume-clean --uuid=` + MachineArray + ` --homehost=machine --name=0 /dev/%[2]s
%[4]s[ "$(cat /sys/block/md0/md/dev-%[2]s/offset | sort -u | wc -l)" = 1 ]
echo $((start + $(cat /sys/block/md0/md/dev-%[5]s/offset)))
echo readonly > /sys/block/md0/md/array_state
mdadm -X /dev/%[5]s | grep -q ' 0 dirty'
mdadm --stop --quiet /dev/md0
`

// buildVolume makes the volume, on what it is told.
const buildVolume = `pvcreate -q %[1]s >&2
vgcreate -q vg0 %[1]s >&2
lvcreate -qy -Wn -Zn -L "$SIZE"b -n root vg0 >&2
start=$(dmsetup table vg0-root | cut -d' ' -f5)
vgchange -qan vg0 >&2
`

// storage returns a directory with the disks p1.img and p2.img (and clone.img, a member like these), on which there are
// array and volume, and the file start: where the volume begins on each, in bytes. Arrays are only ever made in guests. The file system is written into the
// volume from the host later, to both members alike, which takes a fraction of the time.
func (l *Lab) storage(ctx context.Context, suite string, y Layout, names []string) (dir string, start int64, err error) {
	k := key(y.script(), MachineDisk, machineRoot, names)
	dir, err = l.entry(ctx, entryName("storage", suite, y, names), k, func(dir string) error {
		var disks []Disk
		for _, name := range names {
			d, err := NewDisk(dir, name, MachineDisk)
			if err != nil {
				return err
			}
			disks = append(disks, d)
		}
		v, err := l.Start(ctx, Config{Suite: suite, Disks: disks, Dir: dir})
		if err != nil {
			return err
		}
		sectors, err := storageIn(ctx, v, y)
		if err == nil {
			err = v.PowerOff(ctx)
		}
		if err != nil {
			return joinClose(fmt.Errorf("make array and volume: %w", err), v)
		}
		return errors.Join(writeAll(dir, map[string]string{"start": strconv.FormatInt(sectors*512, 10)}),
			os.Remove(filepath.Join(dir, "initrd")))
	})
	if err != nil {
		return "", 0, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "start"))
	if err != nil {
		return "", 0, err
	}
	start, err = strconv.ParseInt(string(text), 10, 64)
	return dir, start, err
}

// entryName is a cache entry's for a suite or a system: what has a clone is kept apart from what has none.
func entryName(what, suite string, y Layout, names []string) string {
	what += y.String()
	if len(names) > len(y.members()) {
		what += "-clone"
	}
	return what + "-" + suite
}

// storageIn makes the storage and returns where the volume begins.
func storageIn(ctx context.Context, v *VM, y Layout) (sectors int64, err error) {
	p, err := v.Spawn(ctx, Command{
		Argv: []string{"bash", "-euo", "pipefail", "-c", y.script()},
		Env:  []string{"SIZE=" + strconv.Itoa(machineRoot)},
	})
	if err != nil {
		return 0, err
	}
	r, err := p.Wait(ctx)
	if err = errors.Join(err, r.Err()); err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(r.Stdout), 10, 64)
}

// joinClose ends v, which has failed with err.
func joinClose(err error, v *VM) error { return errors.Join(v.why(err), v.Close()) }
