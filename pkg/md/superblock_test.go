package md

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// super writes a plain superblock of a three-slot array, device number 2 in slot 2, at sector at.
func super(at uint64, change func([]byte)) []byte {
	b := make([]byte, SuperSize)
	le := binary.LittleEndian
	le.PutUint32(b, superMagic)
	le.PutUint32(b[4:], 1)
	copy(b[16:], bytes.Repeat([]byte{1}, 16))
	copy(b[32:], "box:root")
	le.PutUint32(b[72:], 1)
	le.PutUint64(b[80:], 20480)
	le.PutUint32(b[92:], 3)
	le.PutUint64(b[128:], 2048)
	le.PutUint64(b[136:], 30000)
	le.PutUint64(b[144:], at)
	le.PutUint32(b[160:], 2)
	copy(b[168:], bytes.Repeat([]byte{2}, 16))
	b[184] = 1
	le.PutUint64(b[192:], 1<<40|1700000000) // microseconds above bit 40
	le.PutUint64(b[200:], 77)
	le.PutUint64(b[208:], NoResync)
	le.PutUint32(b[220:], 4)
	for i, r := range []uint16{0, 1, 2, RoleSpare} {
		le.PutUint16(b[256+2*i:], r)
	}
	if change != nil {
		change(b)
	}
	if n := le.Uint32(b[220:]); n <= maxDev {
		le.PutUint32(b[216:], superChecksum(b, int(n)))
	}
	return b
}

func TestDecodeSuperblock(t *testing.T) {
	want := &Superblock{
		Minor: 2, Array: UUID(bytes.Repeat([]byte{1}, 16)), ArrayName: "box:root", Level: 1, Size: 20480, RaidDisks: 3, DataOffset: 2048,
		DataSize: 30000, SuperOffset: 8, DevNumber: 2, Device: UUID(bytes.Repeat([]byte{2}, 16)), WriteMostly: true,
		Updated: 1700000000, Events: 77, ResyncOffset: NoResync, Roles: []uint16{0, 1, 2, RoleSpare},
	}
	b := super(8, nil)
	want.Checksum = binary.LittleEndian.Uint32(b[216:])
	got, err := DecodeSuperblock(b, 8)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("DecodeSuperblock() (-want +got):\n%s", diff)
	}
	if got.Slot() != 2 || got.View() != "012" {
		t.Errorf("Slot() = %d, View() = %q; want 2, 012", got.Slot(), got.View())
	}
}

func TestDecodeSuperblockRefuses(t *testing.T) {
	le := binary.LittleEndian
	for _, test := range []struct {
		name string
		b    []byte
		want error // nil for any
	}{
		{"too short", super(8, nil)[:100], nil},
		{"zeros", make([]byte, SuperSize), ErrNoSuperblock},
		{"0.90", super(8, func(b []byte) { le.PutUint32(b[4:], 0) }), ErrOldMetadata},
		{"version 2", super(8, func(b []byte) { le.PutUint32(b[4:], 2) }), nil},
		{"too many devices", super(8, func(b []byte) { le.PutUint32(b[220:], maxDev+1) }), nil},
		{"4 billion devices", super(8, func(b []byte) { le.PutUint32(b[220:], 1<<32-1) }), nil},
		{"own number out of range", super(8, func(b []byte) { le.PutUint32(b[160:], 4) }), nil},
		{"no devices", super(8, func(b []byte) { le.PutUint32(b[220:], 0) }), nil},
		{"absurd slots", super(8, func(b []byte) { le.PutUint32(b[92:], 1<<31) }), nil},
		{"a copy from elsewhere", super(16, nil), nil},
		{"a flipped bit", func() []byte { b := super(8, nil); b[200] ^= 1; return b }(), nil},
	} {
		_, err := DecodeSuperblock(test.b, 8)
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: DecodeSuperblock() = %v; want %v", test.name, err, test.want)
		}
	}
}

func TestSlots(t *testing.T) {
	for _, test := range []struct {
		roles  []uint16
		number uint32
		slot   int
		view   string
	}{
		{[]uint16{0, 1, 2}, 2, 2, "012"},
		{[]uint16{RoleFaulty, RoleFaulty, 2}, 2, 2, "--2"},
		{[]uint16{0, 1, RoleSpare}, 2, -1, "01-"},
		{[]uint16{0, 1, 7}, 2, -1, "01-"}, // a slot that there is not
		{[]uint16{0, 1, RoleJournal}, 2, -1, "01-"},
		{[]uint16{RoleFaulty, 1, RoleSpare, 0}, 3, 0, "01-"},
	} {
		s := Superblock{RaidDisks: 3, Roles: test.roles, DevNumber: test.number}
		if s.Slot() != test.slot || s.View() != test.view {
			t.Errorf("roles %x, number %d: Slot() = %d, View() = %q; want %d, %q", test.roles, test.number, s.Slot(), s.View(), test.slot, test.view)
		}
	}
}

// bitmap writes a bitmap of 20480 sectors in chunks of 1 MiB, with the first byte of bits given.
func bitmap(bits byte, change func([]byte)) []byte {
	b := make([]byte, 4096)
	le := binary.LittleEndian
	le.PutUint32(b, bitmapMagic)
	le.PutUint32(b[4:], bitmapHi)
	copy(b[8:], bytes.Repeat([]byte{1}, 16))
	le.PutUint64(b[24:], 77)
	le.PutUint64(b[32:], 70)
	le.PutUint64(b[40:], 20480)
	le.PutUint32(b[52:], 1<<20)
	le.PutUint32(b[56:], 5)
	b[256], b[257] = bits, 0xff // chunk 10 and on do not exist
	if change != nil {
		change(b)
	}
	return b
}

func TestDecodeBitmap(t *testing.T) {
	m, err := DecodeBitmap(bitmap(0b1000_0101, nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Range{{0, 0}, {2, 2}, {7, 9}}, m.Dirty.Ranges()); diff != "" {
		t.Errorf("Ranges() (-want +got):\n%s", diff)
	}
	if m.Dirty.Count() != 5 || m.EventsCleared != 70 || m.Events != 77 || m.DaemonSleep != 5 {
		t.Errorf("DecodeBitmap() = %+v, %d dirty", m, m.Dirty.Count())
	}
}

func TestDecodeBitmapRefuses(t *testing.T) {
	le := binary.LittleEndian
	for _, test := range []struct {
		name string
		b    []byte
		want error
	}{
		{"too short", bitmap(0, nil)[:200], nil},
		{"wrong magic", bitmap(0, func(b []byte) { b[0] = 0 }), nil},
		{"lockless", bitmap(0, func(b []byte) { b[4] = bitmapLockless }), ErrLocklessBitmap},
		{"clustered", bitmap(0, func(b []byte) { b[4] = bitmapClustered }), nil},
		{"unknown version", bitmap(0, func(b []byte) { b[4] = 99 }), nil},
		{"chunk size 0", bitmap(0, func(b []byte) { le.PutUint32(b[52:], 0) }), nil},
		{"odd chunk size", bitmap(0, func(b []byte) { le.PutUint32(b[52:], 3<<20) }), nil},
		{"host byte order", bitmap(0, func(b []byte) { le.PutUint32(b[48:], bitmapHostEndian) }), nil},
		{"absurd size", bitmap(0, func(b []byte) { le.PutUint64(b[40:], 1<<63) }), nil},
		{"largest size", bitmap(0, func(b []byte) { le.PutUint64(b[40:], 1<<64-1) }), nil},
		{"bits are cut", bitmap(0, func(b []byte) { le.PutUint32(b[52:], 512); le.PutUint64(b[40:], 1<<20) }), nil},
	} {
		_, err := DecodeBitmap(test.b)
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: DecodeBitmap() = %v; want %v", test.name, err, test.want)
		}
	}
}

func TestBitmapBytes(t *testing.T) {
	m := &Bitmap{SyncSize: 2*2048 + 100, ChunkBytes: 1 << 20} // two chunks and a short one
	all := NewChunks(3)
	for i := range uint64(3) {
		all.Add(i)
	}
	if got, want := m.Bytes(all), uint64(2<<20+100*512); got != want {
		t.Errorf("Bytes(all) = %d; want %d", got, want)
	}
	if off, n := m.Span(Range{1, 2}); off != 1<<20 || n != 1<<20+100*512 {
		t.Errorf("Span(1-2) = %d, %d", off, n)
	}
}

func TestChunks(t *testing.T) {
	a, b := NewChunks(12), NewChunks(12)
	for _, i := range []uint64{0, 3, 11, 12, 99} { // the last two do not exist
		a.Add(i)
	}
	b.Add(3)
	for name, test := range map[string]struct {
		got  Chunks
		want []Range
	}{
		"a":       {a, []Range{{0, 0}, {3, 3}, {11, 11}}},
		"a minus": {a.Minus(b), []Range{{0, 0}, {11, 11}}},
		"a and b": {a.And(b), []Range{{3, 3}}},
		"b or a":  {b.Or(a), []Range{{0, 0}, {3, 3}, {11, 11}}},
	} {
		if diff := cmp.Diff(test.want, test.got.Ranges()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// disk is a member of 20 MiB in memory.
type disk []byte

func (d disk) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(d).ReadAt(b, off)
}

func TestReadMemberFindsEachVersion(t *testing.T) {
	const size = 20 << 20
	at10, _ := superAt10(size)
	for minor, at := range map[int]uint64{0: at10, 1: 0, 2: superAt12} {
		d := make(disk, size)
		offset := int32(8)
		if minor == 0 {
			offset = -16
		}
		copy(d[at*512:], super(at, func(b []byte) {
			binary.LittleEndian.PutUint32(b[8:], FeatureBitmap)
			binary.LittleEndian.PutUint32(b[96:], uint32(offset))
		}))
		copy(d[(int64(at)+int64(offset))*512:], bitmap(3, nil))
		m, err := ReadMember(d, size)
		if err != nil {
			t.Errorf("1.%d: %v", minor, err)
			continue
		}
		if m.Super.Minor != minor || m.BitmapErr != nil || m.Bitmap.Dirty.Count() != 4 {
			t.Errorf("1.%d: ReadMember() = minor %d, bitmap %+v (%v)", minor, m.Super.Minor, m.Bitmap, m.BitmapErr)
		}
	}
}

func TestReadMemberOfSomethingElse(t *testing.T) {
	old := make(disk, 20<<20)
	at, _ := superAt090(int64(len(old)))
	binary.LittleEndian.PutUint32(old[at*512:], superMagic)
	damaged := make(disk, 20<<20)
	copy(damaged[4096:], super(8, nil))
	damaged[4096+200]++
	for name, test := range map[string]struct {
		d    disk
		want error
	}{
		"empty":   {make(disk, 20<<20), ErrNoSuperblock},
		"tiny":    {make(disk, 512), ErrNoSuperblock},
		"nothing": {disk{}, ErrNoSuperblock},
		"0.90":    {old, ErrOldMetadata},
	} {
		if _, err := ReadMember(test.d, int64(len(test.d))); !errors.Is(err, test.want) {
			t.Errorf("%s: ReadMember() = %v; want %v", name, err, test.want)
		}
	}
	if _, err := ReadMember(damaged, int64(len(damaged))); err == nil || errors.Is(err, ErrNoSuperblock) {
		t.Errorf("damaged: ReadMember() = %v; want it to say what is wrong", err)
	}
}

func TestBitmapOfAnotherArrayIsNotUsed(t *testing.T) {
	d := make(disk, 20<<20)
	copy(d[4096:], super(8, func(b []byte) {
		binary.LittleEndian.PutUint32(b[8:], FeatureBitmap)
		binary.LittleEndian.PutUint32(b[96:], 8)
	}))
	copy(d[8192:], bitmap(0, func(b []byte) { b[8] = 9 }))
	m, err := ReadMember(d, int64(len(d)))
	if err != nil || m.Bitmap != nil || m.BitmapErr == nil {
		t.Errorf("ReadMember() = %+v, %v; want no bitmap, and why", m, err)
	}
}

func FuzzDecodeSuperblock(f *testing.F) {
	f.Add(super(8, nil))
	f.Add(make([]byte, SuperSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSuperblock(b, 8)
		if err != nil {
			return
		}
		if len(s.Roles) > maxDev || s.Slot() >= int(s.RaidDisks) {
			t.Errorf("Slot() = %d of %d, %d roles", s.Slot(), s.RaidDisks, len(s.Roles))
		}
		_ = s.View()
	})
}

func FuzzReadMember(f *testing.F) {
	with := func(feature uint32) []byte {
		d := make(disk, 16<<10)
		copy(d[4096:], super(8, func(b []byte) {
			binary.LittleEndian.PutUint32(b[8:], feature)
			binary.LittleEndian.PutUint32(b[96:], 8)
		}))
		copy(d[8192:], bitmap(5, nil))
		return d
	}
	f.Add(with(FeatureBitmap))
	f.Add(with(0))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ReadMember(disk(b), int64(len(b)))
		if err == nil && m.Bitmap != nil && m.Bitmap.Dirty.Count() > m.Bitmap.Dirty.Len() {
			t.Errorf("%d of %d chunks are dirty", m.Bitmap.Dirty.Count(), m.Bitmap.Dirty.Len())
		}
	})
}

func FuzzDecodeBitmap(f *testing.F) {
	f.Add(bitmap(5, nil))
	f.Add(bitmap(255, func(b []byte) { binary.LittleEndian.PutUint32(b[52:], 512) }))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeBitmap(b)
		if err != nil {
			return
		}
		var n uint64
		for _, r := range m.Dirty.Ranges() {
			n += r.Last - r.First + 1
			if off, length := m.Span(r); off < 0 || length <= 0 {
				t.Errorf("Span(%v) = %d, %d", r, off, length)
			}
		}
		if n != m.Dirty.Count() {
			t.Errorf("Ranges() hold %d chunks, Count() = %d", n, m.Dirty.Count())
		}
	})
}

func FuzzSysfsTexts(f *testing.F) {
	f.Add("in_sync,write_mostly", "2", "3 (2)")
	f.Add("spare", "none", "none")
	f.Add("faulty,in_sync", "-1", "99999999999999999999")
	f.Fuzz(func(t *testing.T, state, slot, count string) {
		m := parseMember("vda", state, slot)
		if m.Slot < -1 || m.InSync() && (m.Has("faulty") || m.Slot < 0) {
			t.Errorf("parseMember(%q, %q) = %+v", state, slot, m)
		}
		number(count)
	})
}

// damagedMember is a member of 20 MiB with a bitmap 8 sectors behind its superblock.
func damagedMember(change func(super, bits []byte)) disk {
	d := make(disk, 20<<20)
	bits := bitmap(5, nil)
	block := super(8, func(b []byte) {
		binary.LittleEndian.PutUint32(b[8:], FeatureBitmap)
		binary.LittleEndian.PutUint32(b[96:], 8)
		change(b, bits)
	})
	copy(d[4096:], block)
	copy(d[8192:], bits)
	return d
}

// TestDamagedMembers are superblocks and bitmaps that no kernel writes: each is an error that says what is wrong, or is
// read as what it says.
func TestDamagedMembers(t *testing.T) {
	le := binary.LittleEndian
	for _, test := range []struct {
		name   string
		change func(super, bits []byte)
		super  string // what the error says; "" if the superblock is read
		bitmap string // what the bitmap's error says; "" if it is read
	}{
		{"sound", func(_, _ []byte) {}, "", ""},
		{"max_dev 0", func(b, _ []byte) { le.PutUint32(b[220:], 0) }, "out of range", ""},
		{"max_dev 1921", func(b, _ []byte) { le.PutUint32(b[220:], maxDev+1) }, "max_dev", ""},
		{"raid_disks 0", func(b, _ []byte) { le.PutUint32(b[92:], 0) }, "", ""},
		{"raid_disks 65281", func(b, _ []byte) { le.PutUint32(b[92:], 65281) }, "out of range", ""},
		{"level -4", func(b, _ []byte) { le.PutUint32(b[72:], 1<<32-4) }, "", ""},
		{"data offset 2^63", func(b, _ []byte) { le.PutUint64(b[128:], 1<<63) }, "do not fit", ""},
		{"data offset 2^55, which as bytes is 0", func(b, _ []byte) { le.PutUint64(b[128:], 1<<55) }, "do not fit", ""},
		{"data offset behind the end", func(b, _ []byte) { le.PutUint64(b[128:], 40961) }, "do not fit", ""},
		{"size larger than the device", func(b, _ []byte) { le.PutUint64(b[80:], 40960) }, "do not fit", ""},
		{"size 2^64-1", func(b, _ []byte) { le.PutUint64(b[80:], 1<<64-1) }, "do not fit", ""},
		{"data size 2^63", func(b, _ []byte) { le.PutUint64(b[136:], 1<<63) }, "do not fit", ""},
		{"slot beyond raid_disks", func(b, _ []byte) { le.PutUint16(b[256+4:], 7) }, "", ""},
		{"own number 2^32-1", func(b, _ []byte) { le.PutUint32(b[160:], 1<<32-1) }, "out of range", ""},
		{"it says it lies elsewhere", func(b, _ []byte) { le.PutUint64(b[144:], 16) }, "a copy", ""},
		{"bitmap offset -2^31", func(b, _ []byte) { le.PutUint32(b[96:], 1<<31) }, "", "out of range"},
		{"bitmap offset 0", func(b, _ []byte) { le.PutUint32(b[96:], 0) }, "", "out of range"},
		{"bitmap offset behind the end", func(b, _ []byte) { le.PutUint32(b[96:], 1<<31-1) }, "", "EOF"},
		{"bitmap magic", func(_, m []byte) { m[0]++ }, "", "magic"},
		{"bitmap version 9", func(_, m []byte) { le.PutUint32(m[4:], 9) }, "", "version 9"},
		{"bitmap of another array", func(_, m []byte) { m[8]++ }, "", "belongs to array"},
		{"chunk size 0", func(_, m []byte) { le.PutUint32(m[52:], 0) }, "", "chunk size 0"},
		{"chunk size 3 MiB", func(_, m []byte) { le.PutUint32(m[52:], 3<<20) }, "", "power of two"},
		{"chunk size 2^31", func(_, m []byte) { le.PutUint32(m[52:], 1<<31) }, "", ""},
		{"sync size 2^63", func(_, m []byte) { le.PutUint64(m[40:], 1<<63) }, "", "more than fit"},
		{"sync size 2^64-1", func(_, m []byte) { le.PutUint64(m[40:], 1<<64-1) }, "", "more than fit"},
		{"sync size 0", func(_, m []byte) { le.PutUint64(m[40:], 0) }, "", ""},
		{"events cleared above events", func(_, m []byte) { le.PutUint64(m[32:], 1<<60) }, "", ""},
	} {
		d := damagedMember(test.change)
		m, err := ReadMember(d, int64(len(d)))
		if test.super != "" {
			if err == nil || !strings.Contains(err.Error(), test.super) {
				t.Errorf("%s: ReadMember() = %v; want it to speak of %q", test.name, err, test.super)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: ReadMember() = %v", test.name, err)
			continue
		}
		if test.bitmap == "" && m.BitmapErr != nil || test.bitmap != "" && (m.BitmapErr == nil || !strings.Contains(m.BitmapErr.Error(), test.bitmap)) {
			t.Errorf("%s: the bitmap's error is %v; want %q", test.name, m.BitmapErr, test.bitmap)
		}
		if m.Super.Slot() >= int(m.Super.RaidDisks) {
			t.Errorf("%s: slot %d of %d", test.name, m.Super.Slot(), m.Super.RaidDisks)
		}
	}
}

var _ io.ReaderAt = disk{}
