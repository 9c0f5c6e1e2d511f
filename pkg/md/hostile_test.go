package md

import (
	"encoding/binary"
	"math"
	"runtime"
	"testing"
)

// allocated is how many bytes do allocates.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestNoFieldSizesMemory: whatever sizes and counts a member's metadata names, what is allocated for it is bounded by what lies
// there.
func TestNoFieldSizesMemory(t *testing.T) {
	le := binary.LittleEndian
	const most = 512 << 10
	member := func(superblock, bits []byte) disk {
		d := make(disk, 64<<10)
		copy(d[4096:], superblock)
		copy(d[8192:], bits)
		return d
	}
	fits := func(b []byte) { // on that disk
		le.PutUint32(b[8:], FeatureBitmap)
		le.PutUint32(b[96:], 8)
		le.PutUint64(b[80:], 32)
		le.PutUint64(b[128:], 64)
		le.PutUint64(b[136:], 32)
	}
	for name, change := range map[string]func(super, bits []byte){
		"4 billion devices": func(s, _ []byte) { le.PutUint32(s[220:], math.MaxUint32) },
		"all devices":       func(s, _ []byte) { le.PutUint32(s[220:], maxDev) },
		"4 billion slots":   func(s, _ []byte) { le.PutUint32(s[92:], math.MaxUint32) },
		"all slots":         func(s, _ []byte) { le.PutUint32(s[92:], roleMax) },
		"a size of 8 EiB":   func(s, _ []byte) { le.PutUint64(s[80:], math.MaxUint64) },
		"the most chunks that are taken": func(_, b []byte) {
			le.PutUint32(b[52:], 512)
			le.PutUint64(b[40:], bitmapMaxChunks)
		},
		"2^64 chunks": func(_, b []byte) {
			le.PutUint32(b[52:], 512)
			le.PutUint64(b[40:], math.MaxUint64)
		},
		"chunks of 2 GiB": func(_, b []byte) {
			le.PutUint32(b[52:], 1<<31)
			le.PutUint64(b[40:], math.MaxUint64)
		},
	} {
		bits := bitmap(5, nil)
		s := super(superAt12, func(b []byte) {
			fits(b)
			change(b, bits)
		})
		d := member(s, bits)
		if n := allocated(func() {
			if m, err := ReadMember(d, int64(len(d))); err == nil {
				_ = m.Super.View()
			}
		}); n > most {
			t.Errorf("%s: ReadMember() of %d bytes allocates %d; want %d at most", name, len(d), n, most)
		}
		if n := allocated(func() { _, _ = DecodeBitmap(bits) }); n > most {
			t.Errorf("%s: DecodeBitmap() of %d bytes allocates %d; want %d at most", name, len(bits), n, most)
		}
	}
}
