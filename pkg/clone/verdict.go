package clone

import (
	"errors"
	"fmt"
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
	MendJoin    Mend = "join" // give it back the slot that a cut join took from it, and copy what its own bitmap names too
	MendHeal    Mend = "heal" // copy back what its own bitmap says it wrote when it ran alone
	MendFull    Mend = "full" // copy everything
)

// rule looks at the facts and gives a verdict, or says that it has none.
type rule func(Facts) (Verdict, bool)

// rules in the order in which they are asked: the first verdict counts. The order is part of each rule's meaning: a
// drive that is no clone is never judged by roles, a diverged one never by its events.
var rules = []rule{
	foreignDrive, inactiveArray, unfitMetadata, noPrimary, suspendedArray, alreadyIn, unfitDevice, otherGeometry, tooSmallRequests, slotTaken,
	aheadOfArray, cutRollback,
	noSlotOfItsOwn, divergedDrive, outdatedByEvents, firstCopyUnfinished, touchedElsewhere, outdatedByLedger,
}

// Judge says what the drive is. It is pure: the same facts, the same verdict.
func Judge(f Facts) Verdict {
	recorded := f.Ledger
	f.Ledger = f.outrun()
	v := firstVerdict(f)
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
			if v.FullCopy {
				v.askFull(f)
			}
			return v
		}
	}
	v := Verdict{State: Stale, Admit: true, Verify: config.VerifyChanged, CopyBytes: f.dirtyBytes(), Slot: f.targetSlot()}
	a, c := f.Primaries[0].Super, f.Drive.Super
	switch listed := a.SlotOf(c.DevNumber) == c.Slot(); {
	case c.Features&md.FeatureRecoveryOffset != 0:
		v.State = Interrupted
		v.say("interrupted", "its last sync was cut; the bitmap knows the rest")
	case listed:
		v.State = InSync
		v.say("was-in-sync", "the array ended while it was in sync; what was written at that moment is copied again")
	case v.Slot != c.Slot():
		v.say("slot-moved", "its slot %d was filled by a new drive, so it goes to the empty one, %d", c.Slot(), v.Slot)
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
	case v.Mend == MendNothing && f.Ledger.Attached && !lists(f.Primaries[0], f.Drive):
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

func foreignDrive(f Facts) (Verdict, bool) {
	switch {
	case errors.Is(f.DriveErr, md.ErrOldMetadata):
		return refuse(Unsuitable, "old-metadata", "%s has %s", f.DriveName, md.ErrOldMetadata), true
	case f.Drive == nil && errors.Is(f.DriveErr, md.ErrNoSuperblock):
		return refuse(Foreign, "no-superblock", "%s is no member of any array", f.DriveName).
			hint("mdclone-early adopt makes it a clone"), true
	case f.Drive == nil:
		return refuse(Foreign, "bad-superblock", "%s: %v", f.DriveName, f.DriveErr), true
	}
	if len(f.Primaries) > 0 && f.Drive.Super.Array != f.Primaries[0].Super.Array {
		return refuse(Foreign, "other-array", "%s belongs to another array, %s", f.DriveName, f.Drive.Super.Array), true
	}
	if !f.Recorded {
		return refuse(Foreign, "not-recorded", "%s (%s) is not a recorded clone of this array", f.DriveName, f.Drive.Super.Device).
			hint("a clone that this machine does not know yet: add \"clone = %s\" to its file in /etc/mdclone", f.Drive.Super.Device), true
	}
	return Verdict{}, false
}

// unfit features: what is not the plain RAID1 whose rules are known.
const unfitFeatures = md.FeatureReshape | md.FeatureReplacement | md.FeatureClustered | md.FeatureJournal |
	md.FeaturePPL | md.FeatureMultiPPL

func unfitMetadata(f Facts) (Verdict, bool) {
	if f.Array.Level != "raid1" {
		return refuse(Unsuitable, "not-raid1", "%s is %s, not raid1", f.ArrayName, f.Array.Level), true
	}
	for _, m := range append([]*md.Member{f.Drive}, f.Primaries...) {
		if bits := m.Super.Features & unfitFeatures; bits != 0 {
			return refuse(Unsuitable, "unfit-features", "a superblock has the features %#x (reshape, replacement, journal, "+
				"ppl or cluster), which are not supported", bits), true
		}
		if errors.Is(m.BitmapErr, md.ErrLocklessBitmap) {
			return refuse(Unsuitable, "lockless-bitmap", "%v", md.ErrLocklessBitmap).hint("%s", newBitmap(f)), true
		}
		if m.BitmapErr != nil {
			return refuse(Outdated, "bad-bitmap", "a bitmap cannot be used: %v", m.BitmapErr).hint("%s", newBitmap(f)).needsFullCopy(), true
		}
	}
	return Verdict{}, false
}

// newBitmap says how an array gets an ordinary bitmap in place of its own.
func newBitmap(f Facts) string {
	return fmt.Sprintf("mdadm --grow /dev/%[1]s --bitmap=none, then --bitmap=internal; then a full copy to the clone", f.ArrayName)
}

// inactiveArray is one that was not started. Of such an array sysfs does not even tell the level.
func inactiveArray(f Facts) (Verdict, bool) {
	if f.Array.Active() {
		return Verdict{}, false
	}
	return refuse(Unsuitable, "not-active", "%s was not started (%s)", f.ArrayName, f.Array.ArrayState).
		hint("if /proc/mdstat shows its own disks in it, and no clone, mdadm --run /dev/%s starts it", f.ArrayName), true
}

func noPrimary(f Facts) (Verdict, bool) {
	if len(f.Primaries) == 0 {
		return refuse(Ahead, "no-primary", "no primary of %s is in sync: the machine runs from its clone", f.ArrayName), true
	}
	return Verdict{}, false
}

// suspendedArray is one whose first touch would hang, with nothing to end it.
func suspendedArray(f Facts) (Verdict, bool) {
	if f.Array.Suspended {
		return refuse(Unsuitable, "suspended", "somebody has suspended writes to a part of %s", f.ArrayName).
			hint("if nothing needs that any more: echo 0 > /sys/block/%s/md/suspend_hi", f.ArrayName), true
	}
	return Verdict{}, false
}

// alreadyIn is for a drive that is a member right now: the kernel's word counts.
func alreadyIn(f Facts) (Verdict, bool) {
	if f.Attached == nil || f.Attached.Has("faulty") {
		return Verdict{}, false
	}
	v := Verdict{State: Syncing, Admit: true, Verify: config.VerifyChanged, CopyBytes: f.dirtyBytes()}
	if f.Attached.InSync() {
		v.State = InSync
	}
	switch {
	case f.Ledger == nil || !f.Ledger.Attached:
		v.WhyVerify = "it was put into the array without mdclone"
	case f.Ledger.Doubt != "":
		v.WhyVerify = f.Ledger.Doubt
	default:
		return v, true
	}
	v.Verify = config.VerifyFull
	return v, true
}

// unfitDevice is what a drive must be whatever is on it.
func unfitDevice(f Facts) (Verdict, bool) {
	switch {
	case f.ReadOnly:
		return refuse(Unsuitable, "read-only", "%s is read-only", f.DriveName), true
	case len(f.Uses) > 0:
		return refuse(Unsuitable, "in-use", "%s is in use: %s", f.DriveName, join(f.Uses)), true
	case f.DriveQueue.LogicalBlock > f.Queue.LogicalBlock:
		return refuse(Unsuitable, "logical-block", "%s has logical blocks of %d bytes, %s has %d: joining it would change "+
			"what the layers above were made for", f.DriveName, f.DriveQueue.LogicalBlock, f.ArrayName, f.Queue.LogicalBlock), true
	}
	return Verdict{}, false
}

func otherGeometry(f Facts) (Verdict, bool) {
	a, c := f.Primaries[0].Super, f.Drive.Super
	switch {
	case c.RaidDisks != a.RaidDisks:
		return refuse(Outdated, "raid-devices", "raid-devices was changed from %d to %d while it was away", c.RaidDisks, a.RaidDisks).
			needsFullCopy(), true
	case c.Size != a.Size || c.Level != a.Level:
		return refuse(Unsuitable, "size-changed", "it is a mirror of %d sectors, the array has %d now", c.Size, a.Size).
			hint("mdclone-early adopt --overwrite makes it a clone again, by a full copy").needsFullCopy(), true
	}
	return tooSmall(f, c.DataOffset)
}

// tooSmall is a drive that does not hold the mirror behind dataOffset sectors.
func tooSmall(f Facts, dataOffset uint64) (Verdict, bool) {
	if need := (dataOffset + f.Primaries[0].Super.Size) * 512; f.DriveBytes < need {
		return refuse(Unsuitable, "too-small", "%s is too small by %d bytes", f.DriveName, need-f.DriveBytes), true
	}
	return Verdict{}, false
}

func tooSmallRequests(f Facts) (Verdict, bool) {
	kb := f.DriveQueue.MaxSectorsKB
	fix := fmt.Sprintf("mdclone-early pin %s --max-sectors-kb %d now, and \"max-sectors-kb = %d\" in /etc/mdclone for every boot",
		f.ArrayName, kb, kb)
	for _, h := range f.Holders {
		if h.MaxSectorsKB > kb {
			return refuse(Unsuitable, "holder-limit", "%s takes requests of %d KiB at most, %s on the array sends up to %d",
				f.DriveName, kb, h.Name, h.MaxSectorsKB).hint("%s; then reload %s, or reboot", fix, h.Name), true
		}
	}
	if f.InUse && f.Queue.MaxSectorsKB > kb {
		return refuse(Unsuitable, "array-limit", "%s takes requests of %d KiB at most, %s sends up to %d and is in use",
			f.DriveName, kb, f.ArrayName, f.Queue.MaxSectorsKB).hint("%s", fix), true
	}
	return Verdict{}, false
}

func slotTaken(f Facts) (Verdict, bool) {
	slot := f.Drive.Super.Slot()
	if m, taken := f.Array.AtSlot(slot); slot >= 0 && taken && m.Name != f.DriveName && f.movesTo() < 0 {
		return refuse(Outdated, "slot-taken", "its slot %d is filled by %s", slot, m.Name).
			hint("the kernel would put it into another slot, that of another drive perhaps").needsFullCopy(), true
	}
	if spares := f.Array.Spares(); len(spares) > 0 {
		return refuse(Unsuitable, "spares", "the array has spares (%s), which could take its slot", join(spares)).
			hint("remove them first: mdadm %s --remove /dev/%s", "/dev/"+f.ArrayName, spares[0]), true
	}
	return Verdict{}, false
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
