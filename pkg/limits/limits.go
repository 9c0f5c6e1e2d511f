// Package limits knows the queue limits of block devices and what is stacked on an array: which limits a drive has,
// whether it fits below what runs now, and how to pin an array's.
package limits

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"mdclone/pkg/md"
	"mdclone/pkg/sysfs"
)

// Queue is the part of /sys/block/X/queue that a mirror depends on (Documentation/ABI/stable/sysfs-block).
type Queue struct {
	MaxSectorsKB   uint64 `json:"max_sectors_kb"`     // KiB of the largest request in use
	MaxHWSectorsKB uint64 `json:"max_hw_sectors_kb"`  // KiB of the largest request that the hardware takes
	LogicalBlock   uint64 `json:"logical_block_size"` // bytes
	MaxSegments    uint64 `json:"max_segments"`
	MaxSegmentSize uint64 `json:"max_segment_size"` // bytes
}

// dir is where a device's queue is: a partition has its disk's.
func dir(f sysfs.FS, name string) string {
	if d := filepath.Join("class/block", name, "queue"); f.Exists(d) {
		return d
	}
	return filepath.Join("class/block", f.DiskOf(name), "queue")
}

// Read reads the limits of a block device by kernel name.
func Read(f sysfs.FS, name string) (Queue, error) {
	var q Queue
	d := dir(f, name)
	for attr, to := range map[string]*uint64{
		"max_sectors_kb": &q.MaxSectorsKB, "max_hw_sectors_kb": &q.MaxHWSectorsKB, "logical_block_size": &q.LogicalBlock,
		"max_segments": &q.MaxSegments, "max_segment_size": &q.MaxSegmentSize,
	} {
		var err error
		if *to, err = f.Uint(d, attr); err != nil {
			return Queue{}, err
		}
	}
	return q, nil
}

// Above lists every block device stacked on name, directly or not: partitions, dm, md, each once, nearest first.
func Above(f sysfs.FS, name string) ([]string, error) {
	var all []string
	next := []string{name}
	for len(next) > 0 {
		up, err := directlyAbove(f, next[0])
		if err != nil {
			return nil, err
		}
		next = next[1:]
		for _, u := range up {
			if !slices.Contains(all, u) {
				all, next = append(all, u), append(next, u)
			}
		}
	}
	return all, nil
}

func directlyAbove(f sysfs.FS, name string) ([]string, error) {
	d := filepath.Join("class/block", name)
	up, err := f.List(d, "holders")
	if err != nil {
		return nil, err
	}
	entries, err := f.List(d)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if f.Exists(d, e, "partition") {
			up = append(up, e)
		}
	}
	return up, nil
}

// Device is a block device with its limits.
type Device struct {
	Name  string
	Queue Queue
}

// Holders reads the limits of each device above name that has a queue of its own.
func Holders(f sysfs.FS, name string) ([]Device, error) {
	above, err := Above(f, name)
	if err != nil {
		return nil, err
	}
	var out []Device
	for _, n := range above {
		if !f.Exists("class/block", n, "queue") {
			continue
		}
		q, err := Read(f, n)
		if err != nil {
			return nil, err
		}
		out = append(out, Device{n, q})
	}
	return out, nil
}

// PinResult is what Pin found.
type PinResult struct {
	Wanted, Before, After uint64   // KiB
	Members               uint64   // KiB: the most that all members take
	Late                  []Device // those above above with a larger limit than the array's: they were made before the pin
}

// ErrNotActive says that an array cannot be pinned yet: 6.12 forgets a value written before the start.
var ErrNotActive = errors.New("the array is not active")

// Pin sets the array's max_sectors_kb to wanted KiB, but no higher than each member takes, reads it back, and looks at
// what is above. wanted 0 only looks. What the array's max_hw_sectors_kb bounds cannot be raised before it is assembled anew.
func Pin(a md.Array, wanted uint64) (PinResult, error) {
	state, err := a.State()
	if err != nil {
		return PinResult{}, err
	}
	if !state.Active() {
		return PinResult{}, fmt.Errorf("%s: %w", a.Name, ErrNotActive)
	}
	stack, err := ReadStack(a)
	if err != nil {
		return PinResult{}, err
	}
	q := stack.Array.Queue
	r := PinResult{Wanted: wanted, Before: q.MaxSectorsKB, After: q.MaxSectorsKB, Members: stack.Auto(0)}
	if low := stack.Auto(wanted); wanted != 0 {
		wanted = low
	}
	if wanted != 0 && q.MaxSectorsKB != wanted {
		err := a.FS.SetUint(wanted, "block", a.Name, "queue/max_sectors_kb")
		var kept *sysfs.KeptError
		if err != nil && !errors.As(err, &kept) {
			return PinResult{}, err
		}
		if r.After, err = a.FS.Uint("block", a.Name, "queue/max_sectors_kb"); err != nil {
			return PinResult{}, err
		}
		if r.After > wanted {
			return r, fmt.Errorf("pin %s: wanted %d KiB, the kernel kept %d", a.Name, wanted, r.After)
		}
	}
	for _, h := range stack.Holders {
		if h.Queue.MaxSectorsKB > r.After {
			r.Late = append(r.Late, h)
		}
	}
	return r, nil
}
