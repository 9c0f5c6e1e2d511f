package limits

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"mdclone/pkg/md"
	"mdclone/pkg/sysfs"
)

// Stack is an array with what is below and above it.
type Stack struct {
	Array   Device
	Members []Device
	Holders []Device
}

// Finding is one thing worth knowing about a stack's limits.
type Finding struct {
	Code string // member-lowers, late, stays-low, logical-block, clone-lowers
	Text string
}

// ReadStack reads the limits of an array, its members and all devices above it that have a queue.
func ReadStack(a md.Array) (Stack, error) {
	s := Stack{Array: Device{Name: a.Name}}
	var err error
	if s.Array.Queue, err = Read(a.FS, a.Name); err != nil {
		return s, err
	}
	state, err := a.State()
	if err != nil {
		return s, err
	}
	for _, m := range state.Members {
		q, err := Read(a.FS, m.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was pulled out this moment
		}
		if err != nil {
			return s, err
		}
		if !m.Failed() {
			s.Members = append(s.Members, Device{m.Name, q})
		}
	}
	s.Holders, err = Holders(a.FS, a.Name)
	return s, err
}

// maxSectors is the one limit that can be written, and so raised again.
const maxSectors = "max_sectors_kb"

// limit is one of a queue's limits that only ever fall when devices are stacked (block/blk-settings.c,
// blk_stack_limits, Linux 6.12).
type limit struct {
	name string
	of   func(Queue) uint64
}

var falling = []limit{
	{maxSectors, func(q Queue) uint64 { return q.MaxSectorsKB }},
	{"max_hw_sectors_kb", func(q Queue) uint64 { return q.MaxHWSectorsKB }},
	{"max_segments", func(q Queue) uint64 { return q.MaxSegments }},
	{"max_segment_size", func(q Queue) uint64 { return q.MaxSegmentSize }},
}

// Explain says what holds the array's limits down, and which devices above it do not know that. pinned is what
// max_sectors_kb is held at, cloneKB the recorded clones' (KiB; 0 for none). It is pure.
func (s Stack) Explain(pinned, cloneKB uint64) []Finding {
	var out []Finding
	say := func(code, format string, args ...any) { out = append(out, Finding{code, fmt.Sprintf(format, args...)}) }
	for _, l := range falling {
		now := l.of(s.Array.Queue)
		low, names, next := s.lowest(l)
		switch {
		case now == 0 || len(s.Members) == 0:
		case low == now && next > low:
			wanted := pinned // by the configuration, or, where that is what the member takes, by the recorded clones
			if pinned == now {
				wanted = cloneKB
			}
			for _, n := range names {
				say("member-lowers", "%s of %s is %d because of %s: the others take %d%s", l.name, s.Array.Name, now, n, next,
					s.stays("; once it has left ", l, wanted))
			}
		case now < low && !(l.name == maxSectors && now == pinned):
			say("stays-low", "%s of %s is %d although each member takes %d: a member that has left, or a write, lowered it%s", l.name,
				s.Array.Name, now, low, s.stays(", and ", l, pinned))
		}
		for _, h := range s.Holders {
			if of := l.of(h.Queue); now != 0 && of > now {
				say("late", "%s was made with %s %d, and %s has %d now: reloading its table, or a reboot, makes it follow", h.Name, l.name,
					of, s.Array.Name, now)
			}
		}
	}
	for _, m := range s.Members {
		if m.Queue.LogicalBlock > 512 && slices.ContainsFunc(s.Members, func(o Device) bool { return o.Queue.LogicalBlock < m.Queue.LogicalBlock }) {
			say("logical-block", "%s has logical blocks of %d bytes, other members smaller ones", m.Name, m.Queue.LogicalBlock)
		}
	}
	for _, h := range s.Holders {
		if h.Queue.LogicalBlock < s.Array.Queue.LogicalBlock {
			say("logical-block", "%s was made with logical blocks of %d bytes, and %s has %d now: its smaller requests fail", h.Name,
				h.Queue.LogicalBlock, s.Array.Name, s.Array.Queue.LogicalBlock)
		}
	}
	if low, _, _ := s.lowest(falling[0]); cloneKB != 0 && cloneKB < low && pinned == cloneKB {
		say("clone-lowers", "max_sectors_kb is held at %d for the recorded clone, below the %d that each member takes: that may cost throughput",
			cloneKB, low)
	}
	return out
}

// stays says, after lead, how long a limit stays that was lowered. A pin raises max_sectors_kb at once, up to wanted KiB (0
// for no bound), but not above the array's max_hw_sectors_kb, which nothing raises while it runs.
func (s Stack) stays(lead string, l limit, wanted uint64) string {
	q := s.Array.Queue
	switch {
	case l.name == maxSectors && wanted != 0 && wanted <= q.MaxSectorsKB:
		return "" // the pin holds it there too
	case l.name == maxSectors && q.MaxSectorsKB < q.MaxHWSectorsKB:
		return lead + "mdclone-early pin raises it"
	}
	return lead + "it stays so until the array is assembled anew"
}

// lowest is the smallest value of a limit among the members, whose it is, and the smallest of the others.
func (s Stack) lowest(l limit) (low uint64, names []string, next uint64) {
	for _, m := range s.Members {
		switch of := l.of(m.Queue); {
		case of == 0:
		case low == 0 || of < low:
			next, low, names = low, of, []string{m.Name}
		case of == low:
			names = append(names, m.Name)
		case next == 0 || of < next:
			next = of
		}
	}
	return low, names, next
}

// Auto is the limit that all members and the recorded clones can take: the smallest of theirs, and of cloneKB where it
// is known (not 0).
func (s Stack) Auto(cloneKB uint64) uint64 {
	low, _, _ := s.lowest(falling[0])
	if cloneKB != 0 && (low == 0 || cloneKB < low) {
		return cloneKB
	}
	return low
}

// Below lists the arrays that a device is stacked on, directly or not; a partition is stacked on what its disk is.
func Below(f sysfs.FS, name string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for next := []string{name}; len(next) > 0; next = next[1:] {
		n := next[0]
		if seen[n] {
			continue
		}
		seen[n] = true
		if f.Exists("class/block", n, "md") {
			out = append(out, n)
			continue
		}
		down, err := f.List("class/block", n, "slaves")
		if err != nil {
			return nil, err
		}
		if disk := f.DiskOf(n); disk != n {
			down = append(down, disk)
		}
		next = append(next, down...)
	}
	return out, nil
}
