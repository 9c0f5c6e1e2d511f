package clone

import (
	"time"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// The rules on what happened to the drive since it was last in the array. Each stands against an attack that ended in a
// silently different mirror.

// lists tells whether m's superblock has a member active at the slot that the member itself claims.
func lists(m, member *md.Member) bool { return m.Super.Lists(member.Super) }

// listsAny tells whether c has at least one of the primaries active: it was last written in an array with that primary
// in it, so it did not run without them.
func listsAny(c *md.Member, primaries []*md.Member) bool {
	for _, p := range primaries {
		if lists(c, p) {
			return true
		}
	}
	return false
}

// sawGone tells whether c was last written in an array without the slot of one of the primaries. The others that it lists
// may have been there as drives that it was being copied to: a superblock does not tell those from drives in sync
// (super_1_sync, drivers/md/md.c, Linux 6.12).
func sawGone(c *md.Member, primaries []*md.Member) bool {
	active := c.Super.ActiveSlots()
	for _, p := range primaries {
		if slot := p.Super.Slot(); slot >= 0 && slot < len(active) && !active[slot] {
			return true
		}
	}
	return false
}

// outrun is the ledger's entry as it is to be read. Where the bitmap was being used to copy to the drive since, somebody let
// it in whom the entry does not know: a cycle at boot whose own record went with the power, or another program.
func (f Facts) outrun() *Entry {
	const byBitmap = md.FeatureRecoveryOffset | md.FeatureRecoveryBitmap
	l := f.Ledger
	if l == nil || f.Drive == nil || l.Attached || l.Untouched(f.Drive) || f.Drive.Super.Features&byBitmap != byBitmap {
		return l
	}
	x := *l
	x.Attached, x.Doubt = true, "its last sync was cut and is not recorded"
	return &x
}

func aheadOfArray(f Facts) (Verdict, bool) {
	a, c := f.Primaries[0], f.Drive
	if lists(a, c) && c.Super.Slot() >= 0 && !listsAny(c, f.Primaries) && c.Super.Events > a.Super.Events {
		return refuse(Ahead, "ahead", "the array went on on this drive after the primaries failed: it is the newest copy").
			hint("the machine boots from it while it is plugged in; if it is not wanted, mdadm --zero-superblock /dev/%s and mdclone-early "+
				"adopt make it a clone again, by a full copy", f.DriveName), true
	}
	return Verdict{}, false
}

func cutRollback(f Facts) (Verdict, bool) {
	if f.Primaries[0].Super.Recovering() {
		return refuse(Ahead, "rollback-cut", "a primary was being recovered when the array ended").
			hint("let the recovery end first: /proc/mdstat shows it"), true
	}
	return Verdict{}, false
}

// divergedDrive is a drive that was run without the primaries, or, for all that its superblock says, with one that was
// being copied back from it. What it wrote is known to its own bitmap, if that can be trusted.
func divergedDrive(f Facts) (Verdict, bool) {
	c := f.Drive
	without := "the primaries"
	if listsAny(c, f.Primaries) {
		if !sawGone(c, f.Primaries) {
			return Verdict{}, false
		}
		without = "one of the primaries at least"
	}
	// a primary that was put in after the drive had left is not known to it; the ledger alone vouches for such a drive
	if f.Ledger != nil && f.Ledger.Untouched(c) {
		return Verdict{}, false
	}
	last := time.Unix(int64(c.Super.Updated), 0).UTC().Format("2006-01-02 15:04 MST")
	v := refuse(Diverged, "ran-alone", "it was run without %s, last on %s (its own view of the array is %s); it may "+
		"hold data that the array does not have", without, last, c.Super.View())
	if code, why := notHealable(f); code != "" {
		v.say(code, "what it wrote cannot be told: %s", why)
		return v.needsFullCopy(), true
	}
	own := c.Bitmap.Dirty
	v.say("own-writes", "by its own bitmap it wrote %s at most since it left", report.Bytes(c.Bitmap.Bytes(own)))
	v.Mend, v.CopyBytes = MendHeal, f.unionBytes()
	return v.hint("if that data is not wanted: mdclone-early backup --heal puts back %s and compares all of it",
		report.Bytes(v.CopyBytes)), true
}

func outdatedByEvents(f Facts) (Verdict, bool) {
	a, c := f.Primaries[0], f.Drive
	switch {
	case a.Bitmap == nil:
		return refuse(Outdated, "no-bitmap", "the array has no bitmap, so nothing knows what it misses").
			needsFullCopy(), true
	case c.Bitmap == nil:
		return refuse(Outdated, "no-bitmap", "it left before the array had a bitmap").
			needsFullCopy(), true
	case a.Bitmap.EventsCleared < c.Bitmap.EventsCleared:
		return refuse(Outdated, "primaries-older", "the primaries were put back to an older state (bits cleared up to event %d "+
			"there, %d here)", a.Bitmap.EventsCleared, c.Bitmap.EventsCleared).
			hint("this drive may hold what they have lost: look at it before anything is copied").needsFullCopy(), true
	case a.Bitmap.EventsCleared > c.Super.Events:
		return refuse(Outdated, "bits-cleared", "the bitmap was re-made or cleared since it left (bits cleared up to event %d, "+
			"it is at %d)", a.Bitmap.EventsCleared, c.Super.Events).needsFullCopy(), true
	}
	if code, why := bitmapsDiffer(a.Bitmap, c.Bitmap); code != "" {
		return refuse(Outdated, code, "the bitmap does not tell what it misses: %s", why).needsFullCopy(), true
	}
	return Verdict{}, false
}

func firstCopyUnfinished(f Facts) (Verdict, bool) {
	cut := f.Drive.Super.Features&(md.FeatureRecoveryOffset|md.FeatureRecoveryBitmap) == md.FeatureRecoveryOffset
	if cut || f.Ledger != nil && !f.Ledger.FirstCopy {
		return refuse(Outdated, "first-copy", "its full copy was not finished, and starts from the beginning").needsFullCopy(), true
	}
	return Verdict{}, false
}

func outdatedByLedger(f Facts) (Verdict, bool) {
	if f.Ledger == nil || f.Ledger.Attached {
		return Verdict{}, false
	}
	gone, _ := f.canary()
	return refuse(Outdated, "canary", "%s", gone).needsFullCopy(), gone != ""
}

// canary looks for it on every primary's disk: why it is gone from one, "" from none, and whether one has it.
func (f Facts) canary() (gone string, kept bool) {
	for _, p := range f.Primaries {
		if p.Bitmap == nil {
			continue
		}
		if why := canaryGone(f.Ledger, p.Bitmap); why != "" {
			gone = why
		} else {
			kept = true
		}
	}
	return gone, kept
}

// unsettled are bitmaps that do not agree: of a primary that was let in again, all pages are written within two ticks
// (drivers/md/md-bitmap.c, md_bitmap_write_all, Linux 6.12).
func unsettled(f Facts) (Verdict, bool) {
	if f.Ledger == nil || f.Ledger.Attached {
		return Verdict{}, false
	}
	gone, kept := f.canary()
	return refuse(Unsuitable, "unsettled", "the bitmaps on the disks of its primaries differ: one of them was let in a moment ago").
		hint("run this again in a minute"), gone != "" && kept
}

// touchedCode is the reason of a drive that may join if all of it is compared.
const touchedCode = "touched"

func touchedElsewhere(f Facts) (Verdict, bool) {
	if f.Ledger == nil || f.Ledger.Attached || f.Ledger.Untouched(f.Drive) {
		return Verdict{}, false
	}
	return refuse(Outdated, touchedCode, "its superblock is not what it was when it was detached (events %d then, %d now)",
		f.Ledger.Events, f.Drive.Super.Events).
		hint("backup --verify full joins it and compares all of it"), true
}
