package clone

import (
	"fmt"
	"slices"
	"strings"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Verdict is what a drive is to its array and whether it may join now.
type Verdict struct {
	State   State
	Admit   bool            // may join, or is in already
	Reasons []report.Reason // why not, or what is worth knowing
	Hints   []string
	// Verify is the least that should be compared after the sync, by what is not known about the drive; WhyVerify says
	// what that is.
	Verify    config.Verify
	WhyVerify string
	// CopyBytes is what a join would copy, as the primaries' bitmap has it now; the whole size where only a full copy
	// is right.
	CopyBytes uint64
	// Mend is what must be put right before the kernel may see the drive; MendHeal and MendFull if the user asks for it.
	Mend Mend
	// Slot is the drive's own, which its superblock may have lost.
	Slot int
	// OnlyFull says that the drive may join only if all of it is compared afterwards.
	OnlyFull bool
	// FullCopy says that nothing but a full copy helps.
	FullCopy bool
}

// Mend is a way to make a drive fit to join incrementally.
type Mend string

// The ways.
const (
	MendNothing Mend = ""
	MendOwn     Mend = "own"  // copy what its own bitmap names too
	MendJoin    Mend = "join" // give it back the slot that a cut join took from it, and copy what its own bitmap names too
	MendHeal    Mend = "heal" // copy back what its own bitmap says it wrote when it ran alone
	MendFull    Mend = "full" // copy everything
)

// rule looks at the facts and gives a verdict, or says that it has none.
type rule func(Facts) (Verdict, bool)

// rules in the order in which they are asked: the first verdict counts. The order is part of each rule's meaning: a
// drive that is no clone is never judged by roles, a diverged one never by its events.
var rules = []rule{
	otherLevel, foreignDrive, inactiveArray, unfitMetadata, noPrimary, otherArray, suspendedArray, alreadyIn, unfitDevice, otherGeometry, tooSmallRequests, twoDrives, unsettled,
	slotTaken, aheadOfArray, cutRollback, badBitmap,
	noSlotOfItsOwn, divergedDrive, outdatedByEvents, firstCopyUnfinished, touchedElsewhere, outdatedByLedger,
}

// Judge says what the drive is. It is pure: the same facts, the same verdict.
func Judge(f Facts) Verdict {
	recorded := f.Ledger
	f.Ledger = f.outrun()
	v := f.mindBadBlocks(firstVerdict(f))
	if v.FullCopy {
		v.askFull(f)
	}
	v.OnlyFull = f.Ledger != recorded && f.Attached == nil
	if f.Policy != "" && v.State != Foreign && v.State != InSync && v.State != Syncing {
		v.say("policy", "mdadm.conf says %q: where the udev rule does not hide the drive, mdadm lets it in by itself", f.Policy)
		return v.hint("take that line out, or run mdclone-gen install")
	}
	return v
}

func firstVerdict(f Facts) Verdict {
	for _, r := range rules {
		if v, ok := r(f); ok {
			if !v.Admit && v.Mend == MendNothing {
				v.CopyBytes = f.Array.ComponentSize
			}
			if f.Drive != nil && v.Mend != MendJoin {
				v.Slot = f.targetSlot()
			}
			return v
		}
	}
	v := Verdict{State: Stale, Admit: true, Verify: config.VerifyChanged, CopyBytes: f.dirtyBytes(), Slot: f.targetSlot()}
	a, c := f.Primaries[0].Super, f.Drive.Super
	ghost := unplugged(f.Array, c.Slot(), f.Ledger)
	switch listed := a.SlotOf(c.DevNumber) == c.Slot(); {
	case c.Features&md.FeatureRecoveryOffset != 0:
		v.State = Interrupted
		v.say("interrupted", "its last sync was cut; the bitmap knows the rest")
	case listed && ghost == "":
		v.State = InSync
		v.say("was-in-sync", "the array ended while it was in sync; what was written at that moment is copied again")
	case v.Slot != c.Slot():
		v.say("slot-moved", "its slot %d was filled by a new drive, so it goes to the empty one, %d", c.Slot(), v.Slot)
	}
	// Of an array that comes up with one disk md forgets what was being written when it ended (drivers/md/raid1.c, raid1_run, sets
	// recovery_cp, and md_bitmap_load then takes no chunk as needed, Linux 6.12). The drive was there, and its bitmap knows.
	if (f.Ledger == nil || f.Ledger.Attached) && f.Drive.Bitmap.Dirty.Count() > 0 {
		v.Mend, v.CopyBytes = MendOwn, f.unionBytes()
	}
	switch {
	case f.Attached != nil:
		v.say("failed", "it has failed in %s and is in it still: it is no complete clone", f.ArrayName)
	case ghost != "":
		v.Reasons = append(v.Reasons, stillThere(f.ArrayName, ghost))
	}
	v.askVerify(f)
	return v
}

func (v *Verdict) say(code, format string, args ...any) {
	v.Reasons = append(v.Reasons, report.Reason{Code: code, Text: fmt.Sprintf(format, args...)})
}

func refuse(s State, code, format string, args ...any) Verdict {
	v := Verdict{State: s}
	v.say(code, format, args...)
	return v
}

func (v Verdict) hint(format string, args ...any) Verdict {
	v.Hints = append(v.Hints, fmt.Sprintf(format, args...))
	return v
}

// askVerify raises what should be compared where no record of ours vouches for the drive.
func (v *Verdict) askVerify(f Facts) {
	switch {
	case f.Primaries[0].Super.Minor == 0:
		v.WhyVerify = "metadata 1.0: a drive that was mounted without md cannot be told from one that was not"
	case f.Ledger == nil:
		v.WhyVerify = "nothing is recorded of how this drive left"
	case f.Ledger.Doubt != "":
		v.WhyVerify = f.Ledger.Doubt
	case v.Mend == MendJoin && !f.Ledger.Attached:
		v.WhyVerify = "its join was begun without mdclone"
	case (v.Mend == MendNothing || v.Mend == MendOwn) && f.Ledger.Attached && !lists(f.Primaries[0], f.Drive):
		v.WhyVerify = "it left without mdclone"
	default:
		return
	}
	v.Verify = config.VerifyFull
}

// dirtyBytes is what the bitmap of the primaries says a returning drive misses.
func (f Facts) dirtyBytes() uint64 {
	if len(f.Primaries) == 0 || f.Primaries[0].Bitmap == nil {
		return f.Array.ComponentSize
	}
	b := f.Primaries[0].Bitmap
	return b.Bytes(b.Dirty)
}

// needsFullCopy marks a verdict that nothing but a full copy changes; what that costs is for the edge to find out.
func (v Verdict) needsFullCopy() Verdict {
	v.FullCopy = true
	return v
}

func slotTaken(f Facts) (Verdict, bool) {
	slot := f.Drive.Super.Slot()
	if m, taken := f.Array.AtSlot(slot); slot >= 0 && taken && m.Name != f.DriveName && f.movesTo() < 0 {
		v := refuse(Outdated, "slot-taken", "its slot %d is filled by %s", slot, m.Name).
			hint("the kernel would put it into another slot, that of another drive perhaps").needsFullCopy()
		if empty := f.Array.EmptySlots(); len(empty) > 0 {
			v = v.hint("slot %d is empty: if %s has replaced a failed disk, it belongs there: while another is in sync, mdadm /dev/%s --fail "+
				"/dev/%[2]s --remove /dev/%[2]s, then put it back as mdclone-early status says", empty[0], m.Name, f.ArrayName)
		}
		return v, true
	}
	if name := f.numberTaken(); name != "" {
		return refuse(Outdated, "number-taken", "its number in the array, %d, was given to %s", f.Drive.Super.DevNumber, name).needsFullCopy(), true
	}
	return takenBySpare(f.ArrayName, f.DriveName, f.Array)
}

// takenBySpare is a slot that the kernel gives to a spare as soon as the drive is out.
func takenBySpare(array, drive string, state md.State) (Verdict, bool) {
	spares := slices.DeleteFunc(state.Spares(), func(name string) bool { return name == drive })
	if len(spares) == 0 {
		return Verdict{}, false
	}
	return refuse(Unsuitable, "spares", "the array has spares (%s), which could take its slot", join(spares)).
		hint("remove them first: mdadm /dev/%s --remove /dev/%s", array, spares[0]), true
}

// numberTaken names the primary that has the drive's number in the array by now, "" for none: mdadm --add gives a new drive the
// first that no member has, and the kernel takes no two with the same (drivers/md/md.c, bind_rdev_to_array, Linux 6.12).
func (f Facts) numberTaken() string {
	for _, p := range f.Primaries {
		if m, ok := f.Array.AtSlot(p.Super.Slot()); ok && m.Name != f.DriveName && p.Super.DevNumber == f.Drive.Super.DevNumber {
			return m.Name
		}
	}
	return ""
}

// movesTo is the slot that the kernel gives to a drive whose own was filled by a replaced primary: right only if exactly
// one is empty, no other clone could own it, and the canary shows that no slot was filled and synced since it left with
// none empty. -1 if it is not right.
func (f Facts) movesTo() int {
	empty := f.Array.EmptySlots()
	if len(empty) != 1 || f.OtherClones > 0 || f.Ledger == nil || f.Ledger.Attached || len(f.Ledger.Dirty) == 0 {
		return -1
	}
	if _, found := outdatedByLedger(f); found {
		return -1
	}
	return empty[0]
}

// targetSlot is where the drive is to go.
func (f Facts) targetSlot() int {
	slot := f.Drive.Super.Slot()
	if m, taken := f.Array.AtSlot(slot); taken && m.Name != f.DriveName {
		return f.movesTo()
	}
	return slot
}

func join(words []string) string { return strings.Join(words, ", ") }
