package clone

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/limits"
	"mdclone/pkg/md"
)

// A touch is a write through the array that changes nothing on it. Before a detach it moves Events Cleared past the
// clone; after it, it leaves the canary. How it can be done without a race depends on what is on the array.

// touchWay is one way to touch.
type touchWay struct {
	kind  touchKind
	mount string   // of touchFreeze
	dms   []string // of touchSuspend: kernel names, only those next to the array: what is above them would wait for them
}

type touchKind int

const (
	touchNone      touchKind = iota // not possible
	touchExclusive                  // nobody has the array open: rewrite its first block, held exclusively
	touchSector0                    // rewrite sector 0 alone, which nobody else writes (LVM, btrfs)
	touchFreeze                     // freeze and thaw a file system: it writes its superblock itself
	touchSuspend                    // suspend the dm devices, rewrite the first block, resume
)

// layout is what the first blocks of an array show.
type layout int

const (
	layoutOther layout = iota
	layoutLVM          // an LVM PV whose label is not in sector 0
	layoutBtrfs
)

// sniff tells a layout by the first 64 KiB and a bit of an array (LVM2 label: lib/format_text/layout.h; btrfs:
// BTRFS_SUPER_INFO_OFFSET and its magic, fs/btrfs/fs.h, Linux 6.12).
func sniff(head []byte) layout {
	const label, super, magic = "LABELONE", 64 << 10, "_BHRfS_M"
	at := func(off int, text string) bool {
		return off+len(text) <= len(head) && bytes.HasPrefix(head[off:], []byte(text))
	}
	if at(0, label) {
		return layoutOther // somebody does write sector 0
	}
	for _, sector := range []int{1, 2, 3} {
		if at(sector*512, label) && at(sector*512+24, "LVM2 001") {
			return layoutLVM
		}
	}
	if at(super+64, magic) {
		return layoutBtrfs
	}
	return layoutOther
}

// freezable are the file systems that write when they are frozen and thawed, idle or not. btrfs does not.
var freezable = []string{"ext4", "xfs"}

// chooseTouch decides how to touch. held is false only if nobody has the array open.
func chooseTouch(held bool, array string, users []user, l layout, logicalBlock uint64) touchWay {
	if !held {
		return touchWay{kind: touchExclusive}
	}
	if l != layoutOther && logicalBlock == 512 {
		return touchWay{kind: touchSector0}
	}
	var dms []string
	for _, u := range users {
		if u.mount != nil && slices.Contains(freezable, u.mount.Type) {
			return touchWay{kind: touchFreeze, mount: u.mount.Point}
		}
		if u.direct && strings.HasPrefix(u.device, "dm-") {
			dms = append(dms, u.device)
		}
	}
	if len(dms) > 0 && !onArrayItself(array, users) {
		return touchWay{kind: touchSuspend, dms: dms}
	}
	return touchWay{kind: touchNone}
}

// onArrayItself tells whether something that cannot be suspended sits on the array directly: a mount or swap.
func onArrayItself(array string, users []user) bool {
	return slices.ContainsFunc(users, func(u user) bool { return u.device == array && (u.mount != nil || u.swap) })
}

// touch touches the array. Whether it did what it is for is then read from the members' disks by the caller, never
// taken from here.
func (s *session) touch(ctx context.Context) (touchWay, error) {
	t := s.Target
	held, err := heldExclusively(t.Array.Path())
	if err != nil {
		return touchWay{}, err
	}
	users, err := t.env.users(t.Array.Name)
	if err != nil {
		return touchWay{}, err
	}
	q, err := limits.Read(t.env.FS, t.Array.Name)
	if err != nil {
		return touchWay{}, err
	}
	l, err := t.sniff()
	if err != nil {
		return touchWay{}, err
	}
	held = held || len(users) > 0           // a loop device holds nothing
	if !held && (!s.resting || s.follows) { // else nobody had it open a moment ago
		alone, err := s.alone(ctx)
		if err != nil {
			return touchWay{}, err
		}
		if !alone {
			return touchWay{}, fmt.Errorf("%s: somebody has it open, and a touch could undo what is written meanwhile", t.Array.Name)
		}
	}
	way := chooseTouch(held, t.Array.Name, users, l, q.LogicalBlock)
	switch way.kind {
	case touchExclusive:
		return way, rewrite(t.Array.Path(), int(max(q.LogicalBlock, 4096)), unix.O_EXCL, 0)
	case touchSector0:
		return way, rewrite(t.Array.Path(), 512, 0, 0)
	case touchFreeze:
		return way, freezeAndThaw(way.mount)
	case touchSuspend:
		return way, t.env.whileSuspended(way.dms, func() error {
			return rewrite(t.Array.Path(), int(max(q.LogicalBlock, 4096)), 0, frozenAtMost/2) // then the guard resumes them
		})
	default:
		return way, fmt.Errorf("%s: nothing that is on it (%s) lets a block be rewritten without a race", t.Array.Name, describe(users))
	}
}

func describe(users []user) string {
	words := make([]string, 0, len(users))
	for _, u := range users {
		words = append(words, u.String())
	}
	if len(words) == 0 {
		return "somebody has it open"
	}
	return strings.Join(words, ", ")
}

func (t *Target) sniff() (layout, error) {
	d, err := md.OpenDisk(t.Array.Path(), unix.O_RDONLY)
	if err != nil {
		return layoutOther, err
	}
	defer d.Close()
	head := md.AlignedBuffer(int(min(d.Size(), 68<<10)) &^ 4095)
	if err := d.ReadAligned(head, 0); err != nil {
		return layoutOther, err
	}
	return sniff(head), nil
}

// rewrite reads the first n bytes of a device and writes them back, unless the reading takes longer than most; 0 is no bound.
func rewrite(path string, n, flags int, most time.Duration) error {
	d, err := md.OpenDisk(path, unix.O_RDWR|flags)
	if err != nil {
		return err
	}
	defer d.Close()
	block, start := md.AlignedBuffer(n), time.Now()
	if err := d.ReadAligned(block, 0); err != nil {
		return err
	}
	if took := time.Since(start); most > 0 && took > most {
		return fmt.Errorf("reading %s took %s", path, took.Round(time.Second))
	}
	return d.WriteAligned(block, 0)
}
