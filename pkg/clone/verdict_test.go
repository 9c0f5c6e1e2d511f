package clone

import (
	"errors"
	"fmt"
	"testing"

	"mdclone/pkg/config"
	"mdclone/pkg/limits"
	"mdclone/pkg/md"
)

// The array of these tests: two primaries in slots 0 and 1, device numbers 0 and 1, and a clone's slot 2, number 2; ten
// chunks of 1 MiB; events as a returning clone finds them.

func member(number uint32, device byte, events uint64, roles ...uint16) *md.Member {
	m := &md.Member{
		Super: &md.Superblock{
			Minor: 2, Features: md.FeatureBitmap, Array: md.UUID{1}, Level: 1, Size: 20480, RaidDisks: 3, DataOffset: 2048,
			DevNumber: number, Device: md.UUID{device}, Events: events, Roles: roles,
		},
		Bitmap: &md.Bitmap{Array: md.UUID{1}, Events: events, EventsCleared: 40, SyncSize: 20480, ChunkBytes: 1 << 20, Dirty: md.NewChunks(10)},
	}
	m.Raw = []byte{device, byte(events)}
	return m
}

const none = md.RoleSpare

// stale is a clone that left in good order, the primaries having gone on.
func stale() Facts {
	a, b := member(0, 0xa, 60, 0, 1, none), member(1, 0xb, 60, 0, 1, none)
	for _, m := range []*md.Member{a, b} {
		m.Bitmap.Dirty.Add(0)
		m.Bitmap.Dirty.Add(7)
	}
	c := member(2, 0xc, 50, 0, 1, 2)
	return Facts{
		Array: md.State{
			Level: "raid1", ArrayState: "clean", SyncAction: "idle", RaidDisks: 3, Degraded: 1, ComponentSize: 10 << 20,
			Members: []md.MemberState{{Name: "vda", Slot: 0, Flags: []string{"in_sync"}}, {Name: "vdb", Slot: 1, Flags: []string{"in_sync"}}},
		},
		ArrayName: "md0", ArrayUUID: md.UUID{1}, Queue: limits.Queue{MaxSectorsKB: 512, LogicalBlock: 512},
		Primaries: []*md.Member{a, b},
		DriveName: "vdc", Drive: c, DriveQueue: limits.Queue{MaxSectorsKB: 512, LogicalBlock: 512}, DriveBytes: 12 << 20,
		Recorded: true,
		Ledger: &Entry{
			Clone: md.UUID{0xc}, FirstCopy: true, Complete: true, Super: c.Raw, Dirty: []md.Range{{First: 0, Last: 0}},
			Slot: 2, EventsCleared: 40,
		},
	}
}

// leftGhost is a clone that was unplugged while it was in the array and is back under another name.
func leftGhost(flags ...string) func(*Facts) {
	return func(f *Facts) {
		ghost := md.MemberState{Name: "vdx", Slot: 2, Flags: flags, Gone: true}
		if ghost.Has("faulty") {
			ghost.Slot = -1
		} else {
			for _, p := range f.Primaries {
				p.Super.Roles[2] = 2
			}
		}
		f.Array.Members = append(f.Array.Members, ghost)
		f.Ledger.Attached = true
	}
}

func TestJudge(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		name   string
		change func(*Facts)
		state  State
		admit  bool
		code   string
		verify config.Verify
		copy   uint64
	}{
		{"left in good order", func(*Facts) {}, Stale, true, "", config.VerifyChanged, 2 * mib},
		{"left in good order, no ledger", func(f *Facts) { f.Ledger = nil }, Stale, true, "", config.VerifyFull, 2 * mib},
		{"failed and removed by hand", func(f *Facts) { f.Ledger.Attached = true }, Stale, true, "", config.VerifyFull, 2 * mib},
		{"left in good order, mdadm would take it by itself", func(f *Facts) { f.Policy = "POLICY action=re-add" }, Stale, true, "policy", config.VerifyChanged, 2 * mib},
		{"metadata 1.0", func(f *Facts) { f.Primaries[0].Super.Minor = 0 }, Stale, true, "", config.VerifyFull, 2 * mib},
		{"no superblock", func(f *Facts) { f.Drive, f.DriveErr = nil, md.ErrNoSuperblock }, Foreign, false, "no-superblock", "", 10 * mib},
		{"damaged superblock", func(f *Facts) { f.Drive, f.DriveErr = nil, errors.New("checksum") }, Foreign, false, "bad-superblock", "", 10 * mib},
		{"0.90 metadata", func(f *Facts) { f.Drive, f.DriveErr = nil, md.ErrOldMetadata }, Unsuitable, false, "old-metadata", "", 10 * mib},
		{"another array's", func(f *Facts) { f.Drive.Super.Array = md.UUID{9} }, Foreign, false, "other-array", "", 10 * mib},
		{"not recorded", func(f *Facts) { f.Recorded = false }, Foreign, false, "not-recorded", "", 10 * mib},
		{"another level", func(f *Facts) { f.Array.Level = "raid10" }, Unsuitable, false, "not-raid1", "", 10 * mib},
		{"a journal", func(f *Facts) { f.Primaries[1].Super.Features |= md.FeatureJournal }, Unsuitable, false, "unfit-features", "", 10 * mib},
		{"a lockless bitmap", func(f *Facts) { f.Primaries[0].BitmapErr = md.ErrLocklessBitmap }, Unsuitable, false, "lockless-bitmap", "", 10 * mib},
		{"a broken bitmap", func(f *Facts) { f.Drive.BitmapErr = errors.New("magic") }, Outdated, false, "bad-bitmap", "", 10 * mib},
		{"its last member failed", func(f *Facts) { f.Array.ArrayState = "broken" }, Unsuitable, false, "broken", "", 10 * mib},
		{"not started", func(f *Facts) { f.Array, f.Primaries = md.State{ArrayState: "inactive", ComponentSize: 10 * mib}, nil }, Unsuitable, false, "not-active", "", 10 * mib},
		{"writes are suspended", func(f *Facts) { f.Array.Suspended = true }, Unsuitable, false, "suspended", "", 10 * mib},
		{"no primary in sync", func(f *Facts) { f.Primaries = nil }, Ahead, false, "no-primary", "", 10 * mib},
		{"in the array, in sync", attached("in_sync", "write_mostly"), InSync, true, "", config.VerifyChanged, 2 * mib},
		{"taken out and put in again by hand", func(f *Facts) { attached("in_sync")(f); f.Stay = "later" }, InSync, true, "", config.VerifyFull, 2 * mib},
		{"put into the array by hand", func(f *Facts) { attached("in_sync")(f); f.Ledger.Attached = false }, InSync, true, "", config.VerifyFull, 2 * mib},
		{"in the array, doubted", func(f *Facts) { attached("in_sync")(f); f.Ledger.Doubt = "it differed" }, InSync, true, "", config.VerifyFull, 2 * mib},
		{"in the array, nothing recorded", func(f *Facts) { attached("in_sync")(f); f.Ledger = nil }, InSync, true, "", config.VerifyFull, 2 * mib},
		{"left in good order, doubted", func(f *Facts) { f.Ledger.Doubt = "it differed" }, Stale, true, "", config.VerifyFull, 2 * mib},
		{"in the array, being copied to", attached("spare"), Syncing, true, "", config.VerifyChanged, 2 * mib},
		{"failed in the array, still in it", attached("faulty"), Stale, true, "failed", config.VerifyChanged, 2 * mib},
		{"a copy of it beside it", func(f *Facts) { f.Twin = "vdd" }, Unsuitable, false, "two-drives", "", 10 * mib},
		{"in the array, a copy of it beside it", func(f *Facts) { attached("in_sync")(f); f.Twin = "vdd" }, InSync, true, "", config.VerifyChanged, 2 * mib},
		{"back after it was unplugged, which md has not seen", leftGhost("in_sync", "write_mostly"), Stale, true, "unplugged", config.VerifyChanged, 2 * mib},
		{"back after it was unplugged, which md has seen", leftGhost("faulty", "write_mostly"), Stale, true, "unplugged", config.VerifyFull, 2 * mib},
		{"read-only", func(f *Facts) { f.ReadOnly = true }, Unsuitable, false, "read-only", "", 10 * mib},
		{"mounted", func(f *Facts) { f.Uses = []string{"mounted on /mnt"} }, Unsuitable, false, "in-use", "", 10 * mib},
		{"4096-byte blocks", func(f *Facts) { f.DriveQueue.LogicalBlock = 4096 }, Unsuitable, false, "logical-block", "", 10 * mib},
		{"raid-devices changed", func(f *Facts) { f.Drive.Super.RaidDisks = 2 }, Outdated, false, "raid-devices", "", 10 * mib},
		{"another array has the name", func(f *Facts) { f.ArrayUUID = md.UUID{77}; f.Drive.Super.Array = md.UUID{77} }, Foreign, false, "other-array", "", 10 * mib},
		{"array shrunk", func(f *Facts) { f.Drive.Super.Size = 40960 }, Unsuitable, false, "size-changed", "", 10 * mib},
		{"one sector too small", func(f *Facts) { f.DriveBytes = (2048+20480)*512 - 512 }, Unsuitable, false, "too-small", "", 10 * mib},
		{"copied to a drive that is too small", copiedTo(1), Unsuitable, false, "too-small", "", 10 * mib},
		{"another array's, copied to a drive that is too small", copiedTo(9), Foreign, false, "bad-superblock", "", 10 * mib},
		{"copied to a smaller drive that the array fits", func(f *Facts) { copiedTo(1)(f); f.Primaries[0].Super.Size = 10000 }, Foreign, false, "bad-superblock", "", 10 * mib},
		{"of a size that nothing has", func(f *Facts) { copiedTo(1)(f); copied(f).DataOffset = 1 << 60 }, Foreign, false, "bad-superblock", "", 10 * mib},
		{"just large enough", func(f *Facts) { f.DriveBytes = (2048 + 20480) * 512 }, Stale, true, "", config.VerifyChanged, 2 * mib},
		{"small requests under a holder", func(f *Facts) {
			f.DriveQueue.MaxSectorsKB, f.Queue.MaxSectorsKB = 128, 128
			f.Holders = []limits.Device{{Name: "dm-0", Queue: limits.Queue{MaxSectorsKB: 512}}}
		}, Unsuitable, false, "holder-limit", "", 10 * mib},
		{"small requests under a mount", func(f *Facts) { f.DriveQueue.MaxSectorsKB, f.InUse = 128, true }, Unsuitable, false, "array-limit", "", 10 * mib},
		{"small requests, nothing on the array", func(f *Facts) { f.DriveQueue.MaxSectorsKB = 128 }, Stale, true, "", config.VerifyChanged, 2 * mib},
		{"its slot is filled", func(f *Facts) {
			f.Array.Members = append(f.Array.Members, md.MemberState{Name: "vdd", Slot: 2, Flags: []string{"in_sync"}})
		}, Outdated, false, "slot-taken", "", 10 * mib},
		{"a replaced primary sits in its slot, one other is empty", slotFilled, Stale, true, "slot-moved", config.VerifyChanged, 2 * mib},
		{"a replaced primary sits in its slot, two are empty", func(f *Facts) {
			slotFilled(f)
			f.Array.RaidDisks, f.Drive.Super.RaidDisks, f.Primaries[0].Super.RaidDisks = 4, 4, 4
		}, Outdated, false, "slot-taken", "", 10 * mib},
		{"the same, another clone is away", func(f *Facts) { slotFilled(f); f.OtherClones = 1 }, Outdated, false, "slot-taken", "", 10 * mib},
		{"the same, no ledger", func(f *Facts) { slotFilled(f); f.Ledger = nil }, Outdated, false, "slot-taken", "", 10 * mib},
		{"the same, no canary", func(f *Facts) { slotFilled(f); f.Ledger.Dirty = nil }, Outdated, false, "slot-taken", "", 10 * mib},
		{"the same, canary gone", func(f *Facts) { slotFilled(f); f.Ledger.Dirty[0].Last = 1 }, Outdated, false, "slot-taken", "", 10 * mib},
		{"a new primary has its number", numberTaken, Outdated, false, "number-taken", "", 10 * mib},
		{"a spare waits", func(f *Facts) {
			f.Array.Members = append(f.Array.Members, md.MemberState{Name: "vdd", Slot: -1, Flags: []string{"spare"}})
		}, Unsuitable, false, "spares", "", 10 * mib},
		{"the newest copy", func(f *Facts) {
			f.Primaries[0].Super.Roles[2], f.Drive.Super.Events = 2, 70
			f.Drive.Super.Roles = []uint16{md.RoleFaulty, md.RoleFaulty, 2}
		}, Ahead, false, "ahead", "", 10 * mib},
		{"a rollback was cut", func(f *Facts) { f.Primaries[0].Super.Features |= md.FeatureRecoveryOffset }, Ahead, false, "rollback-cut", "", 10 * mib},
		{"never copied to", func(f *Facts) {
			f.Drive.Super.Roles[2] = none
			for i := range uint64(10) {
				f.Drive.Bitmap.Dirty.Add(i)
			}
		}, Outdated, false, "never-synced", "", 10 * mib},
		{"join cut in the spare window", joinCut, Interrupted, true, "join-cut", config.VerifyChanged, 3 * mib},
		{"its role is faulty", func(f *Facts) { joinCut(f); f.Drive.Super.Roles[2] = md.RoleFaulty }, Outdated, false, "no-slot", "", 10 * mib},
		{"its role is no slot of the array", func(f *Facts) { joinCut(f); f.Drive.Super.Roles[2] = 7 }, Outdated, false, "no-slot", "", 10 * mib},
		{"join cut, no ledger", func(f *Facts) { joinCut(f); f.Ledger = nil }, Interrupted, true, "join-cut", config.VerifyFull, 3 * mib},
		{"join cut that was not ours", func(f *Facts) { joinCut(f); f.Ledger.Attached = false }, Interrupted, true, "join-cut", config.VerifyFull, 3 * mib},
		{"join cut, two slots empty, no ledger", func(f *Facts) {
			joinCut(f)
			f.Array.Members, f.Ledger = f.Array.Members[:1], nil
		}, Outdated, false, "join-cut", "", 10 * mib},
		{"join cut, bits cleared since", func(f *Facts) { joinCut(f); f.Primaries[0].Bitmap.EventsCleared = 51 }, Outdated, false, "join-cut", "", 10 * mib},
		{"join cut, its bitmap is newer", func(f *Facts) { joinCut(f); f.Drive.Bitmap.EventsCleared = 41 }, Outdated, false, "join-cut", "", 10 * mib},
		{"join cut, other chunks", func(f *Facts) { joinCut(f); f.Primaries[0].Bitmap.ChunkBytes = 1 << 16 }, Outdated, false, "join-cut", "", 10 * mib},
		{"join cut, first copy unfinished", func(f *Facts) { joinCut(f); f.Ledger.FirstCopy = false }, Outdated, false, "never-synced", "", 10 * mib},
		{"ran alone, events below", ranAlone(55), Diverged, false, "ran-alone", "", 3 * mib},
		{"ran alone, events equal", ranAlone(60), Diverged, false, "ran-alone", "", 3 * mib},
		{"ran alone, events above", ranAlone(99), Diverged, false, "ran-alone", "", 3 * mib},
		{"ran alone, no ledger", func(f *Facts) { ranAlone(55)(f); f.Ledger = nil }, Diverged, false, "ran-alone", "", 3 * mib},
		{"ran with a primary that was copied back from it, the other put that one right", func(f *Facts) {
			f.Drive.Super.Roles, f.Ledger = []uint16{0, md.RoleFaulty, 2}, nil
		}, Diverged, false, "ran-alone", "", 2 * mib},
		{"a primary that had failed is back, the ledger vouches for the drive", func(f *Facts) {
			f.Drive.Super.Roles = []uint16{0, md.RoleFaulty, 2}
		}, Stale, true, "", config.VerifyChanged, 2 * mib},
		{"primaries replaced while it was away", func(f *Facts) {
			for _, p := range f.Primaries {
				p.Super.DevNumber += 3
				p.Super.Roles = []uint16{md.RoleFaulty, md.RoleFaulty, none, 0, 1}
			}
		}, Stale, true, "", config.VerifyChanged, 2 * mib},
		{"one primary replaced, no ledger", func(f *Facts) {
			f.Primaries[0].Super.DevNumber, f.Primaries[0].Super.Roles = 3, []uint16{md.RoleFaulty, 1, none, 0}
			f.Primaries[1].Super.Roles, f.Ledger = []uint16{md.RoleFaulty, 1, none, 0}, nil
		}, Stale, true, "", config.VerifyFull, 2 * mib},
		{"the array lost its bitmap", func(f *Facts) { f.Primaries[0].Bitmap = nil }, Outdated, false, "no-bitmap", "", 10 * mib},
		{"left before there was a bitmap", func(f *Facts) { f.Drive.Bitmap = nil }, Outdated, false, "no-bitmap", "", 10 * mib},
		{"primaries put back", func(f *Facts) { f.Drive.Bitmap.EventsCleared = 41 }, Outdated, false, "primaries-older", "", 10 * mib},
		{"bitmap re-made", func(f *Facts) { f.Primaries[0].Bitmap.EventsCleared = 51 }, Outdated, false, "bits-cleared", "", 10 * mib},
		{"bits cleared up to its own events", func(f *Facts) { f.Primaries[0].Bitmap.EventsCleared = 50 }, Stale, true, "", config.VerifyChanged, 2 * mib},
		{"first copy cut", func(f *Facts) { f.Drive.Super.Features |= md.FeatureRecoveryOffset }, Outdated, false, "first-copy", "", 10 * mib},
		{"first copy not recorded as finished", func(f *Facts) { f.Ledger.FirstCopy = false }, Outdated, false, "first-copy", "", 10 * mib},
		{"canary gone", func(f *Facts) { f.Ledger.Dirty = []md.Range{{First: 0, Last: 1}} }, Outdated, false, "canary", "", 10 * mib},
		{"its sync was cut, the record of it lost", func(f *Facts) {
			f.Ledger.Super, f.Ledger.Dirty = []byte("other"), []md.Range{{First: 0, Last: 1}}
			f.Drive.Super.Features |= md.FeatureRecoveryOffset | md.FeatureRecoveryBitmap
		}, Interrupted, true, "interrupted", config.VerifyFull, 2 * mib},
		{"touched elsewhere", func(f *Facts) { f.Ledger.Super = []byte("other") }, Outdated, false, "touched", "", 10 * mib},
		{"sync cut", func(f *Facts) {
			f.Drive.Super.Features |= md.FeatureRecoveryOffset | md.FeatureRecoveryBitmap
			f.Primaries[0].Super.Roles[2], f.Ledger.Attached = 2, true
		}, Interrupted, true, "interrupted", config.VerifyChanged, 2 * mib},
		{"unplugged in mid-sync", func(f *Facts) {
			f.Drive.Super.Features |= md.FeatureRecoveryOffset | md.FeatureRecoveryBitmap
			f.Ledger.Attached = true
		}, Interrupted, true, "interrupted", config.VerifyFull, 2 * mib},
		{"a cycle on another machine, the canary synced there", func(f *Facts) {
			f.Ledger.Super, f.Ledger.Dirty = []byte("older"), []md.Range{{First: 1, Last: 1}}
		}, Outdated, false, "touched", "", 10 * mib},
		{"sectors of it could not be written", badBlocks, Stale, true, "bad-blocks", config.VerifyChanged, 2 * mib},
		{"sectors of a primary could not be", func(f *Facts) { f.BadMembers = []string{"sda"} }, Unsuitable, false, "bad-blocks", "", 10 * mib},
		{"the same, it is in the array", func(f *Facts) {
			badBlocks(f)
			attached("in_sync")(f)
			f.Ledger = nil
		}, InSync, true, "", config.VerifyFull, 2 * mib},
		{"the same, and the drive ran alone", func(f *Facts) {
			ranAlone(55)(f)
			f.BadMembers = []string{"sda"}
		}, Diverged, false, "ran-alone", "", 10 * mib},
		{"canary gone on one primary's disk alone", func(f *Facts) {
			f.Primaries[1].Bitmap.Dirty = md.NewChunks(10)
		}, Unsuitable, false, "unsettled", "", 10 * mib},
		{"the same, and it ran alone", func(f *Facts) {
			ranAlone(55)(f)
			f.Primaries[1].Bitmap.Dirty = md.NewChunks(10)
		}, Unsuitable, false, "unsettled", "", 10 * mib},
		{"bitmap re-made with other chunks", func(f *Facts) { f.Ledger.ChunkBytes = 64 << 10 }, Outdated, false, "canary", "", 10 * mib},
		{"canary past the end", func(f *Facts) { f.Ledger.Dirty = []md.Range{{First: 99, Last: 99}} }, Outdated, false, "canary", "", 10 * mib},
		{"power lost while in sync", func(f *Facts) {
			f.Primaries[0].Super.Roles[2], f.Drive.Super.Events = 2, 61
			f.Ledger.Attached = true
		}, InSync, true, "was-in-sync", config.VerifyChanged, 2 * mib},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := stale()
			test.change(&f)
			v := Judge(f)
			if v.State != test.state || v.Admit != test.admit || v.code() != test.code || v.CopyBytes != test.copy {
				t.Errorf("Judge() = %s, admit %v, %q, %d bytes; want %s, %v, %q, %d (reasons %v)", v.State, v.Admit, v.code(), v.CopyBytes,
					test.state, test.admit, test.code, test.copy, v.Reasons)
			}
			if v.Verify != test.verify {
				t.Errorf("Judge().Verify = %q; want %q", v.Verify, test.verify)
			}
			if !v.Admit && (len(v.Reasons) == 0 || len(v.Hints) == 0 && !v.FullCopy) {
				t.Errorf("refused without a reason, or without what would help: %+v", v)
			}
		})
	}
}

// TestOnlyFull: where the ledger is not of the drive's last sync, its canary tells nothing, and only a comparison of
// everything can stand for it.
func TestOnlyFull(t *testing.T) {
	cut := func(f *Facts) {
		f.Drive.Super.Features |= md.FeatureRecoveryOffset | md.FeatureRecoveryBitmap
	}
	for name, test := range map[string]struct {
		change func(*Facts)
		want   bool
	}{
		"recorded":              {func(f *Facts) { cut(f); f.Ledger.Attached = true }, false},
		"nothing is recorded":   {func(f *Facts) { cut(f); f.Ledger = nil }, false},
		"another sync's record": {func(f *Facts) { cut(f); f.Ledger.Super = []byte("other") }, true},
		"it is in the array": {func(f *Facts) {
			cut(f)
			f.Ledger.Super = []byte("other")
			attached("spare")(f)
			f.Ledger.Attached = false
		}, false},
		"as it was when it left":   {func(*Facts) {}, false},
		"touched, and no cut sync": {func(f *Facts) { f.Ledger.Super = []byte("other") }, false},
	} {
		f := stale()
		test.change(&f)
		if got := Judge(f).OnlyFull; got != test.want {
			t.Errorf("%s: OnlyFull = %v; want %v", name, got, test.want)
		}
	}
}

func attached(flags ...string) func(*Facts) {
	return func(f *Facts) {
		f.Attached = &md.MemberState{Name: "vdc", Slot: 2, Flags: flags}
		f.Ledger.Attached = flags[0] != "faulty"
		f.Array.Members = append(f.Array.Members, *f.Attached)
	}
}

// copiedTo is a member of an array that was copied to a drive on which it does not fit.
func copiedTo(array byte) func(*Facts) {
	return func(f *Facts) {
		super := *f.Drive.Super
		super.Array = md.UUID{array}
		f.Drive, f.DriveErr = nil, fmt.Errorf("vdc: %w", &md.TooSmallError{Super: &super, Sectors: 20000})
	}
}

func copied(f *Facts) *md.Superblock {
	var e *md.TooSmallError
	errors.As(f.DriveErr, &e)
	return e.Super
}

func ranAlone(events uint64) func(*Facts) {
	return func(f *Facts) {
		f.Drive.Super.Roles = []uint16{md.RoleFaulty, md.RoleFaulty, 2}
		f.Drive.Super.Events, f.Drive.Raw = events, []byte("other")
		f.Drive.Bitmap.Dirty.Add(7)
		f.Drive.Bitmap.Dirty.Add(8)
	}
}

// slotFilled: the primary of slot 1 was replaced by a drive that mdadm put into slot 2.
func slotFilled(f *Facts) {
	f.Array.Members[1] = md.MemberState{Name: "vdd", Slot: 2, Flags: []string{"in_sync"}}
}

func joinCut(f *Facts) {
	f.Drive.Super.Roles[2], f.Drive.Super.Events = none, 61
	f.Drive.Bitmap.Events = 50
	f.Drive.Bitmap.Dirty.Add(3)
	f.Ledger.Attached = true
}

func numberTaken(f *Facts) {
	p := f.Primaries[1].Super
	p.DevNumber, p.Roles = 2, []uint16{0, none, 1}
}

func badBlocks(f *Facts) { f.Drive.Super.Features |= md.FeatureBadBlocks }

// TestLooksLikeClone: where nothing is recorded, no disk of the array's own is copied to as if it were a clone, or taken out.
func TestLooksLikeClone(t *testing.T) {
	marked := func(f *Facts) { f.Drive.Super.WriteMostly = true }
	for name, test := range map[string]struct {
		change func(*Facts)
		want   bool
	}{
		"write-mostly":                      {marked, true},
		"a primary that fell out":           {func(*Facts) {}, false},
		"no superblock":                     {func(f *Facts) { f.Drive = nil }, false},
		"in the last slot, write-mostly":    {attached("in_sync", "write_mostly"), true},
		"in the last slot":                  {func(f *Facts) { marked(f); attached("in_sync")(f) }, false},
		"in the first slot, write-mostly":   {func(f *Facts) { attached("in_sync", "write_mostly")(f); f.Attached.Slot = 0 }, false},
		"write-mostly, not in the last one": {func(f *Facts) { marked(f); f.Array.RaidDisks = 4 }, true},
	} {
		f := stale()
		test.change(&f)
		if got := f.looksLikeClone(); got != test.want {
			t.Errorf("%s: looksLikeClone() = %v; want %v", name, got, test.want)
		}
	}
}

// TestUnfitArray: the kernel would put a new clone into the place of a primary that md wants to replace, and throw that out.
func TestUnfitArray(t *testing.T) {
	f := stale()
	if v, found := unfitArray(f); found {
		t.Errorf("unfitArray() of a good array = %v; want nothing", v.Reasons)
	}
	f.Array.Members[1].Flags = append(f.Array.Members[1].Flags, "want_replacement")
	if v, found := unfitArray(f); !found || v.code() != "want-replacement" || len(v.Hints) == 0 {
		t.Errorf("unfitArray() where a primary is to be replaced = %+v, %v; want a refusal with a hint", v, found)
	}
	f = stale()
	f.Array.Members[1].Flags = []string{"faulty"}
	if v, found := unfitArray(f); !found || v.code() != "failed-member" || len(v.Hints) == 0 {
		t.Errorf("unfitArray() where a primary has failed = %+v, %v; want a refusal with a hint", v, found)
	}
	f.DriveName = f.Array.Members[1].Name
	if v, found := unfitArray(f); found {
		t.Errorf("unfitArray() where the drive itself has failed = %+v; want nothing", v)
	}
}

// TestUnfitFeatures: each feature that is not supported, of the drive or of any primary.
func TestUnfitFeatures(t *testing.T) {
	for name, bit := range map[string]uint32{
		"reshape": md.FeatureReshape, "replacement": md.FeatureReplacement, "new offset": md.FeatureNewOffset, "cluster": md.FeatureClustered,
		"journal": md.FeatureJournal, "ppl": md.FeaturePPL, "more than one ppl": md.FeatureMultiPPL,
	} {
		for i := range 3 {
			f := stale()
			[]*md.Member{f.Drive, f.Primaries[0], f.Primaries[1]}[i].Super.Features |= bit
			if v := Judge(f); v.Admit || v.State != Unsuitable || v.code() != "unfit-features" {
				t.Errorf("%s, of member %d: %+v; want it unsuitable", name, i, v)
			}
		}
	}
}
