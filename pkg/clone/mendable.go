package clone

import (
	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// The rules on drives that may join after something was put right: one that ran alone, and one whose join was cut.

// unionBytes is what a join copies that takes along what the drive's own bitmap names.
func (f Facts) unionBytes() uint64 {
	b := f.Primaries[0].Bitmap
	return b.Bytes(b.Dirty.Or(f.Drive.Bitmap.Dirty))
}

// bitmapsDiffer says why the bitmaps of array and drive cannot be the same one at two moments; "" if they can.
func bitmapsDiffer(a, c *md.Bitmap) (code, why string) {
	switch {
	case a == nil:
		return "no-bitmap", "the array has no bitmap"
	case c == nil:
		return "no-bitmap", "it has no bitmap"
	case a.ChunkBytes != c.ChunkBytes || a.SyncSize != c.SyncSize:
		return "bitmap-remade", "one of the two bitmaps was made anew (their chunks or sizes differ)"
	}
	return "", ""
}

// notHealable says why a drive that ran alone cannot be healed by its own bitmap; "" if it can. No bit may have been
// cleared on either side since it left: Events Cleared is still what both had then. Without a ledger the numbers can
// agree by chance, so all is compared afterwards.
func notHealable(f Facts) (code, why string) {
	a, c := f.Primaries[0].Bitmap, f.Drive.Bitmap
	if code, why := bitmapsDiffer(a, c); code != "" {
		return code, why
	}
	switch {
	case f.Drive.Super.Features&md.FeatureRecoveryOffset != 0 || f.Ledger != nil && !f.Ledger.FirstCopy:
		return "first-copy", "it was not a complete copy when it left"
	case a.EventsCleared < c.EventsCleared:
		return "primaries-older", "bits were cleared on it since it left, by a rebuild with other drives or a bitmap made anew, " +
			"or the primaries were put back to an older state"
	case a.EventsCleared > c.EventsCleared:
		return "bits-cleared", "the array's bitmap was cleared or made anew since it left"
	case f.Ledger != nil && !f.Ledger.Attached && f.Ledger.EventsCleared != a.EventsCleared:
		return "bits-cleared", "both bitmaps were cleared or made anew since it left"
	}
	if v, found := outdatedByLedger(f); found {
		return v.code(), v.Reasons[0].Text
	}
	return "", ""
}

// noSlotOfItsOwn is a drive whose own role is spare or faulty: its first copy never began, or its join was cut in the
// moment before the kernel gave it its slot back. Left alone, mdadm -I would start a full copy of it by itself.
func noSlotOfItsOwn(f Facts) (Verdict, bool) {
	c := f.Drive
	if c.Super.Slot() >= 0 {
		return Verdict{}, false
	}
	if c.Bitmap == nil || c.Bitmap.Dirty.Count() == c.Bitmap.Dirty.Len() || f.Ledger != nil && !f.Ledger.FirstCopy {
		return refuse(Outdated, "never-synced", "it was never copied to").needsFullCopy(), true
	}
	if role := c.Super.Roles[c.Super.DevNumber]; role != md.RoleSpare {
		return refuse(Outdated, "no-slot", "its superblock gives it no slot (its role is %#x)", role).needsFullCopy(), true
	}
	cut := func(format string, args ...any) (Verdict, bool) {
		v := refuse(Outdated, "join-cut", "its last join was cut before the kernel gave it its slot, and "+format, args...)
		return v.needsFullCopy(), true
	}
	a := f.Primaries[0].Bitmap
	if _, why := bitmapsDiffer(a, c.Bitmap); why != "" {
		return cut("%s", why)
	}
	// its superblock's events are the array's of the moment of the cut; its bitmap's are still those at which it left
	if c.Bitmap.EventsCleared > a.EventsCleared || a.EventsCleared > c.Bitmap.Events {
		return cut("the bitmaps were cleared since (up to event %d there, %d here, where it was at %d)", a.EventsCleared,
			c.Bitmap.EventsCleared, c.Bitmap.Events)
	}
	if f.Ledger != nil && f.Ledger.Joined == "" { // its slot was never filled since it left, so what it left dirty is dirty still
		if gone, _ := f.canary(); gone != "" {
			return cut("%s", gone)
		}
	}
	slot, ok := f.lostSlot()
	if !ok {
		return cut("which slot was its own is not known")
	}
	v := Verdict{
		State: Interrupted, Admit: true, Verify: config.VerifyChanged, CopyBytes: f.unionBytes(), Mend: MendJoin, Slot: slot,
	}
	v.say("join-cut", "its last join was cut before the kernel gave it its slot %d; it gets that back", slot)
	v.askVerify(f)
	return v, true
}

// lostSlot is the slot that a drive had before its join was cut: the recorded one, or the only one that is empty.
func (f Facts) lostSlot() (int, bool) {
	empty := f.Array.EmptySlots()
	if f.Ledger != nil {
		for _, s := range empty {
			if s == f.Ledger.Slot {
				return s, true
			}
		}
		return 0, false
	}
	if len(empty) == 1 && f.OtherClones == 0 {
		return empty[0], true
	}
	return 0, false
}

// askFull lets a drive that only a full copy helps be copied to in full, where it can stay the device that it is: into its
// own slot, with metadata that lies as the array's does.
func (v *Verdict) askFull(f Facts) {
	a, c := f.Primaries[0], f.Drive
	if a.Bitmap == nil || c.Super.Minor != a.Super.Minor || c.Super.DataOffset != a.Super.DataOffset ||
		c.Super.RaidDisks != a.Super.RaidDisks || c.Super.Size != a.Super.Size || f.numberTaken() != "" {
		return
	}
	slot := c.Super.Slot()
	if slot < 0 {
		var ok bool
		if slot, ok = f.lostSlot(); !ok {
			return
		}
	}
	if _, taken := f.Array.AtSlot(slot); !taken {
		v.Mend, v.Slot = MendFull, slot
	}
}
