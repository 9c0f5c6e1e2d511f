package clone

import (
	"errors"
	"fmt"
	"strings"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// The rules about arrays and drives that cannot be a clone and its array whatever has happened to them.

// anew is the way of a drive on which nothing is wanted any more.
const anew = "if nothing on it is wanted: mdclone-early adopt --overwrite makes it a clone, by a full copy"

// otherLevel is no mirror, or one of another kind. Of an array that was not started sysfs does not tell.
func otherLevel(f Facts) (Verdict, bool) {
	if !f.Array.Active() || f.Array.Level == "raid1" {
		return Verdict{}, false
	}
	return refuse(Unsuitable, "not-raid1", "%s is %s, not raid1", f.ArrayName, f.Array.Level).hint("only a RAID1 can have a clone"), true
}

func foreignDrive(f Facts) (Verdict, bool) {
	if v, ok := copiedToSmaller(f); ok {
		return v, true
	}
	switch {
	case errors.Is(f.DriveErr, md.ErrOldMetadata):
		return refuse(Unsuitable, "old-metadata", "%s has %s", f.DriveName, md.ErrOldMetadata).hint("%s", anew), true
	case f.Drive == nil && errors.Is(f.DriveErr, md.ErrNoSuperblock):
		return refuse(Foreign, "no-superblock", "%s is no member of any array", f.DriveName).
			hint("mdclone-early adopt makes it a clone"), true
	case f.Drive == nil:
		return refuse(Foreign, "bad-superblock", "%s: %v", f.DriveName, f.DriveErr).hint("%s", anew), true
	}
	if f.Drive.Super.Array != f.ArrayUUID {
		return refuse(Foreign, "other-array", "%s belongs to another array, %s", f.DriveName, f.Drive.Super.Array).
			hint("is it the right drive? mdclone-early status names the clones; %s", anew), true
	}
	if !f.Recorded {
		v := refuse(Foreign, "not-recorded", "%s (%s) is not a recorded clone of this array", f.DriveName, f.Drive.Super.Device).
			hint("a clone that this machine does not know yet: add \"clone = %s\" to its array's file in /etc/mdclone (\"array = %s\")",
				f.Drive.Super.Device, f.Drive.Super.Array)
		if !f.Drive.Super.WriteMostly {
			v = v.hint("it is not write-mostly, as a clone is: is it one of the array's own disks, that has failed?")
		}
		return v, true
	}
	return Verdict{}, false
}

// copiedToSmaller is a member of this array that does not fit the drive that it was copied to.
func copiedToSmaller(f Facts) (Verdict, bool) {
	var e *md.TooSmallError
	if f.Drive != nil || !errors.As(f.DriveErr, &e) || e.Super.Array != f.ArrayUUID {
		return Verdict{}, false
	}
	need, ok := e.Need()
	if len(f.Primaries) > 0 && e.Super.DataOffset+f.Primaries[0].Super.Size <= e.Sectors {
		return Verdict{}, false // the array would fit
	}
	return tooSmallBy(f.DriveName, need, e.Sectors*512), ok
}

// unfit features: what is not the plain RAID1 whose rules are known.
const unfitFeatures = md.FeatureReshape | md.FeatureReplacement | md.FeatureClustered | md.FeatureJournal |
	md.FeaturePPL | md.FeatureMultiPPL | md.FeatureNewOffset

func unfitMetadata(f Facts) (Verdict, bool) {
	for _, m := range append([]*md.Member{f.Drive}, f.Primaries...) {
		if bits := m.Super.Features & unfitFeatures; bits != 0 {
			return refuse(Unsuitable, "unfit-features", "a superblock has the features %#x (reshape, replacement, journal, "+
				"ppl or cluster), which are not supported", bits).
				hint("let a reshape or replacement end first; an array with the others cannot have a clone"), true
		}
		if errors.Is(m.BitmapErr, md.ErrLocklessBitmap) {
			return refuse(Unsuitable, "lockless-bitmap", "%v", md.ErrLocklessBitmap).hint("%s", newBitmap(f)), true
		}
	}
	return Verdict{}, false
}

// badBitmap is one that cannot be read, or makes no sense. A full copy helps where it is the drive's, so what a full copy must not
// be made for is asked for before.
func badBitmap(f Facts) (Verdict, bool) {
	for _, m := range append([]*md.Member{f.Drive}, f.Primaries...) {
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

// inactiveArray is one that was not started, or has no member left.
func inactiveArray(f Facts) (Verdict, bool) {
	if f.Array.Active() {
		return Verdict{}, false
	}
	if f.Array.ArrayState == "broken" {
		return refuse(Unsuitable, "broken", "%s takes no writes any more: the last of its members failed", f.ArrayName).
			hint("look at the kernel log; as soon as its own disks can be read again, stop it and assemble it from them"), true
	}
	return refuse(Unsuitable, "not-active", "%s was not started (%s)", f.ArrayName, f.Array.ArrayState).
		hint("if /proc/mdstat shows its own disks in it, and no clone, mdadm --run /dev/%s starts it", f.ArrayName), true
}

func noPrimary(f Facts) (Verdict, bool) {
	if len(f.Primaries) == 0 {
		return refuse(Ahead, "no-primary", "no primary of %s is in sync: the machine runs from its clone", f.ArrayName).
			hint("boot with the machine's own disks plugged in; where they are lost, mdadm /dev/%s --add /dev/NEW makes a new one, "+
				"and mdclone-early adopt the next clone", f.ArrayName), true
	}
	return Verdict{}, false
}

// otherArray is one that has the name now of the one that was meant.
func otherArray(f Facts) (Verdict, bool) {
	if is := f.Primaries[0].Super.Array; is != f.ArrayUUID {
		return refuse(Foreign, "other-array", "%s is another array now, %s", f.ArrayName, is).hint("run this again"), true
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
	case f.Ledger == nil || !f.Ledger.Attached || f.Ledger.Joined != f.Stay:
		v.WhyVerify = "it was put into the array without mdclone"
	case f.Ledger.Doubt != "":
		v.WhyVerify = f.Ledger.Doubt
	default:
		return v, true
	}
	v.Verify = config.VerifyFull
	return v, true
}

// mindBadBlocks refuses a drive that might join, or be healed, where a primary's log names sectors that could not be written:
// such a mirror ends in sync, with a clear bitmap, and differs, even where all is copied. The drive's own may be among what is copied, as after a sync
// whose source could not be read, and are written anew then; what is left of them ends the cycle.
func (f Facts) mindBadBlocks(v Verdict) Verdict {
	asked := v.Mend == MendHeal || v.FullCopy || v.code() == touchedCode // may join if somebody asks for it
	if f.Attached != nil && !f.Attached.Has("faulty") || !v.Admit && !asked || len(f.Primaries) == 0 {
		return v
	}
	for _, name := range f.BadMembers {
		if v.Admit {
			v = Verdict{State: Unsuitable, Slot: v.Slot}
		}
		v.Mend, v.FullCopy, v.CopyBytes = MendNothing, false, f.Array.ComponentSize
		v.say("bad-blocks", "%s has bad blocks: what lies there cannot be mirrored", name)
		v = v.hint("mdadm --examine-badblocks /dev/%s lists them; replace that drive", name)
	}
	if f.Drive.Super.HasBadBlocks() {
		v.say("bad-blocks", "sectors of it could not be written: unless they are among what is copied, they keep it from being a clone")
	}
	return v
}

// unfitDevice is what a drive must be whatever is on it.
func unfitDevice(f Facts) (Verdict, bool) {
	switch {
	case strings.HasPrefix(f.DriveName, "md"):
		return nested(f.DriveName), true
	case f.ReadOnly:
		return refuse(Unsuitable, "read-only", "%s is read-only", f.DriveName).
			hint("is there a switch on it? else blockdev --setrw /dev/%s", f.DriveName), true
	case len(f.Uses) > 0:
		return refuse(Unsuitable, "in-use", "%s is in use: %s", f.DriveName, join(f.Uses)).
			hint("end that first; a clone must not be used beside its array"), true
	case f.DriveQueue.LogicalBlock > f.Queue.LogicalBlock:
		return refuse(Unsuitable, "logical-block", "%s has logical blocks of %d bytes, %s has %d: joining it would change "+
			"what the layers above were made for", f.DriveName, f.DriveQueue.LogicalBlock, f.ArrayName, f.Queue.LogicalBlock).
			hint("use a drive with blocks of %d bytes", f.Queue.LogicalBlock), true
	}
	return Verdict{}, false
}

// twoDrives is one of a drive and its copy, of which either could be the wrong one.
func twoDrives(f Facts) (Verdict, bool) {
	if f.Twin == "" {
		return Verdict{}, false
	}
	return refuse(Unsuitable, "two-drives", "%s", bothAre(f.DriveName, f.Twin, f.Drive.Super.Device)).
		hint("a copy on which nothing is wanted is one no more after mdadm --zero-superblock"), true
}

func otherGeometry(f Facts) (Verdict, bool) {
	a, c := f.Primaries[0].Super, f.Drive.Super
	switch {
	case c.RaidDisks != a.RaidDisks:
		return refuse(Outdated, "raid-devices", "raid-devices was changed from %d to %d while it was away", c.RaidDisks, a.RaidDisks).
			needsFullCopy(), true
	case c.Size != a.Size || c.Level != a.Level:
		return refuse(Unsuitable, "size-changed", "it is a mirror of %d sectors, the array has %d now", c.Size, a.Size).
			hint("%s", anew).needsFullCopy(), true
	}
	return tooSmall(f, c.DataOffset)
}

// tooSmall is a drive that does not hold the mirror behind dataOffset sectors.
func tooSmall(f Facts, dataOffset uint64) (Verdict, bool) {
	if need := (dataOffset + f.Primaries[0].Super.Size) * 512; f.DriveBytes < need {
		return tooSmallBy(f.DriveName, need, f.DriveBytes), true
	}
	return Verdict{}, false
}

func tooSmallBy(name string, need, have uint64) Verdict {
	return refuse(Unsuitable, "too-small", "%s is too small by %d bytes", name, need-have).hint("use a drive of %d bytes or more", need)
}

func tooSmallRequests(f Facts) (Verdict, bool) {
	kb := f.DriveQueue.MaxSectorsKB
	fix := fmt.Sprintf("mdclone-early pin %s --max-sectors-kb %d now, and \"max-sectors-kb = %d\" in /etc/mdclone for every boot",
		f.ArrayName, kb, kb)
	for _, h := range f.Holders {
		if h.Queue.MaxSectorsKB > kb {
			return refuse(Unsuitable, "holder-limit", "%s takes requests of %d KiB at most, %s on the array sends up to %d",
				f.DriveName, kb, h.Name, h.Queue.MaxSectorsKB).hint("%s; then reload %s, or reboot", fix, h.Name), true
		}
	}
	if f.InUse && f.Queue.MaxSectorsKB > kb {
		return refuse(Unsuitable, "array-limit", "%s takes requests of %d KiB at most, %s sends up to %d and is in use",
			f.DriveName, kb, f.ArrayName, f.Queue.MaxSectorsKB).hint("%s", fix), true
	}
	return Verdict{}, false
}
