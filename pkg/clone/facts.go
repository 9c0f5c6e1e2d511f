package clone

import (
	"encoding/json"

	"mdclone/pkg/limits"
	"mdclone/pkg/md"
)

// Facts is all that the verdict on a drive rests on, read before anything is changed.
type Facts struct {
	Array     md.State // as the kernel has it
	ArrayName string   // kernel name
	ArrayUUID md.UUID
	Queue     limits.Queue // of the array
	Holders   []limits.Device
	InUse     bool // something is stacked on the array, mounts it or has it open exclusively

	// Primaries are the in-sync members that are no recorded clone, the freshest first; none if there is none.
	Primaries []*md.Member
	// BadMembers are the kernel names of those whose log of bad blocks has an entry by the kernel's word: what was written anew
	// is still in the log on disk for a while.
	BadMembers []string

	DriveName  string
	Drive      *md.Member // nil if it has no readable superblock
	DriveErr   error      // why Drive is nil
	DriveQueue limits.Queue
	DriveBytes uint64
	ReadOnly   bool
	Uses       []string // what else has the drive: mounted, swap, held by another device
	// Attached is the drive's state in this array where it is one of its members.
	Attached *md.MemberState
	Stay     string // names that membership, see Env.stay
	Twin     string // another drive with the same identity; "" for none

	Recorded    bool   // the drive is a recorded clone of this array, or the user named it and nothing is recorded
	OtherClones int    // recorded clones besides this one
	AwayClones  int    // those of them that are not in the array
	Ledger      *Entry // nil without one
	Policy      string // a line of mdadm.conf by which mdadm would let the drive in by itself; "" for none
}

// looksLikeClone tells whether a drive may be a clone where nothing is recorded: it is marked as adopt marks one. One of the
// array's own disks that has fallen out would be copied to and taken out again; a member is taken out only from the last slot.
func (f Facts) looksLikeClone() bool {
	if f.Attached != nil {
		return f.Attached.Has("write_mostly") && f.Attached.Slot == f.Array.RaidDisks-1
	}
	return f.Drive != nil && f.Drive.Super.WriteMostly
}

// State is what a clone drive is to its array: the words of `status`.
type State string

// MarshalJSON gives null for a state that is not known.
func (s State) MarshalJSON() ([]byte, error) {
	if s == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(s))
}

// The states. Stale, Interrupted and InSync may join; the rest may not.
const (
	Absent      State = "absent"      // not plugged in
	Stale       State = "stale"       // left in good order, behind
	Interrupted State = "interrupted" // its last sync was cut, the bitmap knows the rest
	Diverged    State = "diverged"    // written without the array
	Ahead       State = "ahead"       // the array went on on it after the primaries failed
	Outdated    State = "outdated"    // the bitmap no longer covers what it misses
	Syncing     State = "syncing"     // in the array, being copied to
	InSync      State = "in-sync"     // in the array, or cut off while it was in sync
	Foreign     State = "foreign"     // not a clone of this array
	Unsuitable  State = "unsuitable"  // this array cannot take it
)
