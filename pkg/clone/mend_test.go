package clone

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"mdclone/pkg/md"
)

func badOwnBitmap(f *Facts) {
	f.Drive.Bitmap, f.Drive.BitmapErr = nil, errors.New("input/output error")
}

func TestMend(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Facts)
		mend   Mend
		why    string // code of the second reason, why a drive that ran alone cannot be healed
	}{
		{"left in good order", func(*Facts) {}, MendNothing, ""},
		{"power cut while it was attached", func(f *Facts) { f.Ledger.Attached = true; f.Drive.Bitmap.Dirty.Add(3) }, MendOwn, ""},
		{"power cut while it was attached, no write under way", func(f *Facts) { f.Ledger.Attached = true }, MendNothing, ""},
		{"nothing is recorded of it", func(f *Facts) { f.Ledger = nil; f.Drive.Bitmap.Dirty.Add(3) }, MendOwn, ""},
		{"left in good order, with bits of its own", func(f *Facts) { f.Drive.Bitmap.Dirty.Add(3) }, MendNothing, ""},
		{"join cut, after it was in since it left", func(f *Facts) {
			joinCut(f)
			f.Ledger.Dirty, f.Ledger.Joined = []md.Range{{First: 4, Last: 4}}, "a stay"
		}, MendJoin, ""},
		{"join cut", joinCut, MendJoin, ""},
		{"join cut, another drive was in its slot since", func(f *Facts) {
			joinCut(f)
			f.Ledger.Dirty = []md.Range{{First: 4, Last: 4}}
		}, MendFull, ""},
		{"ran alone", ranAlone(55), MendHeal, "own-writes"},
		{"ran alone, no ledger", func(f *Facts) { ranAlone(55)(f); f.Ledger = nil }, MendHeal, "own-writes"},
		{"ran alone after a cut", func(f *Facts) { ranAlone(55)(f); f.Ledger.Attached = true }, MendHeal, "own-writes"},
		{"ran alone, no bitmap", func(f *Facts) { ranAlone(55)(f); f.Drive.Bitmap = nil }, MendFull, "no-bitmap"},
		{"ran alone, the array lost its bitmap", func(f *Facts) { ranAlone(55)(f); f.Primaries[0].Bitmap = nil }, MendNothing, "no-bitmap"},
		{"ran alone, other chunks", func(f *Facts) { ranAlone(55)(f); f.Drive.Bitmap.ChunkBytes = 4096 }, MendFull, "bitmap-remade"},
		{"ran alone, other size", func(f *Facts) { ranAlone(55)(f); f.Drive.Bitmap.SyncSize++ }, MendFull, "bitmap-remade"},
		{"ran alone, then rebuilt with others", func(f *Facts) { ranAlone(70)(f); f.Drive.Bitmap.EventsCleared = 65 }, MendFull, "primaries-older"},
		{"ran alone, array's bitmap re-made", func(f *Facts) { ranAlone(70)(f); f.Primaries[0].Bitmap.EventsCleared = 65 }, MendFull, "bits-cleared"},
		{"ran alone, both re-made", func(f *Facts) {
			ranAlone(70)(f)
			f.Primaries[0].Bitmap.EventsCleared, f.Drive.Bitmap.EventsCleared = 65, 65
		}, MendFull, "bits-cleared"},
		{"ran alone, and sectors of it could not be written", func(f *Facts) { ranAlone(55)(f); badBlocks(f) }, MendHeal, "own-writes"},
		{"ran alone, and sectors of a primary could not be", func(f *Facts) {
			ranAlone(55)(f)
			f.BadMembers = []string{"sda"}
		}, MendNothing, "own-writes"},
		{"ran alone, canary gone", func(f *Facts) { ranAlone(55)(f); f.Ledger.Dirty = []md.Range{{First: 4, Last: 4}} }, MendFull, "canary"},
		{"ran alone, never complete", func(f *Facts) { ranAlone(55)(f); f.Ledger.FirstCopy = false }, MendFull, "first-copy"},
		{"a bitmap that cannot be read", badOwnBitmap, MendFull, ""},
		{"outdated, and sectors of a primary could not be written", func(f *Facts) {
			f.Primaries[0].Bitmap.EventsCleared, f.BadMembers = 51, []string{"sda"}
		}, MendNothing, "bad-blocks"},
		{"outdated", func(f *Facts) { f.Primaries[0].Bitmap.EventsCleared = 51 }, MendFull, ""},
		{"outdated, another place for the data", func(f *Facts) {
			f.Primaries[0].Bitmap.EventsCleared, f.Drive.Super.DataOffset = 51, 1024
		}, MendNothing, ""},
		{"slot taken", func(f *Facts) {
			f.Array.Members = append(f.Array.Members, md.MemberState{Name: "vdd", Slot: 2, Flags: []string{"in_sync"}})
		}, MendNothing, ""},
		{"never copied to", func(f *Facts) { f.Drive.Super.Roles[2], f.Drive.Bitmap = none, nil }, MendFull, ""},
		{"a new primary has its number", numberTaken, MendNothing, ""},
		{"another slot count", func(f *Facts) { f.Drive.Super.RaidDisks = 2 }, MendNothing, ""},
		{"the newest copy", func(f *Facts) {
			f.Primaries[0].Super.Roles[2], f.Drive.Super.Events = 2, 70
			f.Drive.Super.Roles = []uint16{md.RoleFaulty, md.RoleFaulty, 2}
		}, MendNothing, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := stale()
			test.change(&f)
			v := Judge(f)
			why := ""
			if len(v.Reasons) > 1 {
				why = v.Reasons[1].Code
			}
			if v.Mend != test.mend || why != test.why {
				t.Errorf("Judge().Mend = %q because of %q; want %q, %q (%v)", v.Mend, why, test.mend, test.why, v.Reasons)
			}
			if v.Mend != MendNothing && v.Slot != 2 {
				t.Errorf("Judge().Slot = %d; want 2", v.Slot)
			}
		})
	}
}

// TestBadBitmapHidesNothing: a full copy may help a drive whose bitmap cannot be read, and no drive that must not be copied to.
func TestBadBitmapHidesNothing(t *testing.T) {
	for name, change := range map[string]func(*Facts){
		"the newest copy": func(f *Facts) {
			f.Primaries[0].Super.Roles[2], f.Drive.Super.Events = 2, 70
			f.Drive.Super.Roles = []uint16{md.RoleFaulty, md.RoleFaulty, 2}
		},
		"a cut rollback":        func(f *Facts) { f.Primaries[0].Super.Features |= md.FeatureRecoveryOffset },
		"no primary":            func(f *Facts) { f.Primaries = nil },
		"4096-byte blocks":      func(f *Facts) { f.DriveQueue.LogicalBlock = 4096 },
		"mounted":               func(f *Facts) { f.Uses = []string{"mounted on /mnt"} },
		"a copy of it":          func(f *Facts) { f.Twin = "vdd" },
		"writes are suspended":  func(f *Facts) { f.Array.Suspended = true },
		"too small":             func(f *Facts) { f.DriveBytes = 1 << 20 },
		"too small requests":    func(f *Facts) { f.DriveQueue.MaxSectorsKB, f.InUse = 32, true },
		"a spare for its slot":  func(f *Facts) { f.Array.Members = append(f.Array.Members, md.MemberState{Name: "vdz", Slot: -1}) },
		"its number was given":  numberTaken,
		"bad blocks of another": func(f *Facts) { f.BadMembers = []string{"vda"} },
	} {
		f := stale()
		change(&f)
		badOwnBitmap(&f)
		if v := Judge(f); v.Admit || v.Mend != MendNothing {
			t.Errorf("%s, and its bitmap cannot be read: %+v; want it refused, whatever is asked for", name, v)
		}
	}
}

// TestOwnMarksAreCopied: the array may have forgotten what was being written when the power went, the clone has not.
func TestOwnMarksAreCopied(t *testing.T) {
	f := stale()
	f.Ledger.Attached = true
	f.Primaries[0].Bitmap.Dirty = md.NewChunks(10)
	f.Primaries[0].Super.Roles[2] = 2
	f.Drive.Bitmap.Dirty.Add(3)
	if v := Judge(f); v.State != InSync || v.CopyBytes != 1<<20 || v.Mend != MendOwn {
		t.Errorf("Judge() = %+v; want one chunk to copy, which its own bitmap names", v)
	}
}

// TestWriteSuperLooks: what has the drive's path by now is not written to.
func TestWriteSuperLooks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	was := bytes.Repeat([]byte{7}, 1<<20)
	if err := os.WriteFile(path, was, 0o600); err != nil {
		t.Fatal(err)
	}
	err := writeSuper(path, []byte("a superblock"), 8, md.AlignedBuffer(md.SuperSize))
	now, readErr := os.ReadFile(path)
	if err == nil || readErr != nil || !bytes.Equal(now, was) {
		t.Errorf("writeSuper() = %v, it was written: %v (%v); want an error, and the disk as it was", err, !bytes.Equal(now, was), readErr)
	}
}
