package md

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// The write-intent bitmap's superblock (drivers/md/md-bitmap.h, bitmap_super_t, Linux 6.12).
const (
	bitmapMagic      = 0x6d746962
	bitmapHeader     = 256
	bitmapLo         = 3
	bitmapHi         = 4
	bitmapClustered  = 5
	bitmapLockless   = 6
	bitmapMaxBytes   = 8 << 20 // mdadm makes a few hundred KiB at most
	bitmapMaxChunks  = (bitmapMaxBytes - bitmapHeader) * 8
	bitmapHostEndian = 1 << 15
)

// ErrLocklessBitmap is a bitmap that skips what was never written, so that a clone of it is not bit for bit.
var ErrLocklessBitmap = errors.New("lockless bitmap, which is not supported: it skips unwritten chunks")

// Bitmap is a write-intent bitmap as one member's disk holds it.
type Bitmap struct {
	Array         UUID
	Events        uint64
	EventsCleared uint64 // the array's events when a bit was last cleared with all members present
	SyncSize      uint64 // sectors that it covers
	State         uint32
	ChunkBytes    uint32 // bytes that one bit covers
	DaemonSleep   uint32 // seconds: time_base
	Dirty         Chunks
}

// Chunks is a set of bitmap chunks.
type Chunks struct {
	n    uint64
	bits []byte // bit i of byte i/8, as on disk; nothing set from n on
}

// NewChunks makes an empty set over n chunks.
func NewChunks(n uint64) Chunks { return Chunks{n: n, bits: make([]byte, (n+7)/8)} }

// Len is how many chunks there are, dirty or not.
func (c Chunks) Len() uint64 { return c.n }

// Has tells whether chunk i is in the set.
func (c Chunks) Has(i uint64) bool { return i < c.n && c.bits[i/8]>>(i%8)&1 != 0 }

// Add puts chunk i in; out of range is ignored.
func (c Chunks) Add(i uint64) {
	if i < c.n {
		c.bits[i/8] |= 1 << (i % 8)
	}
}

// Count is how many chunks are in the set.
func (c Chunks) Count() uint64 {
	n := 0
	for _, b := range c.bits {
		n += bits.OnesCount8(b)
	}
	return uint64(n)
}

// Minus is the set of chunks in c and not in d.
func (c Chunks) Minus(d Chunks) Chunks { return c.combine(d, func(x, y byte) byte { return x &^ y }) }

// And is the set of chunks in both.
func (c Chunks) And(d Chunks) Chunks { return c.combine(d, func(x, y byte) byte { return x & y }) }

// Or is the set of chunks in either.
func (c Chunks) Or(d Chunks) Chunks { return c.combine(d, func(x, y byte) byte { return x | y }) }

func (c Chunks) combine(d Chunks, op func(x, y byte) byte) Chunks {
	out := NewChunks(c.n)
	for i := range out.bits {
		var y byte
		if i < len(d.bits) {
			y = d.bits[i]
		}
		out.bits[i] = op(c.bits[i], y)
	}
	out.trim()
	return out
}

// trim clears what is past the last chunk: such bits can be set on disk and mean nothing.
func (c Chunks) trim() {
	if c.n%8 != 0 {
		c.bits[len(c.bits)-1] &= 1<<(c.n%8) - 1
	}
}

// Range is chunks First to Last, both included.
type Range struct{ First, Last uint64 }

// Ranges lists the set as runs, in order.
func (c Chunks) Ranges() []Range {
	var out []Range
	for i := uint64(0); i < c.n; i++ {
		if i%8 == 0 && c.bits[i/8] == 0 {
			i += 7
			continue
		}
		if !c.Has(i) {
			continue
		}
		if k := len(out); k > 0 && out[k-1].Last+1 == i {
			out[k-1].Last = i
		} else {
			out = append(out, Range{i, i})
		}
	}
	return out
}

// DecodeBitmap reads a bitmap from b, its superblock first. b may be longer than the bitmap.
func DecodeBitmap(b []byte) (*Bitmap, error) {
	m, chunks, err := decodeBitmapHeader(b)
	if err != nil {
		return nil, err
	}
	if size := bitmapBytes(chunks); uint64(len(b)) < size {
		return nil, fmt.Errorf("bitmap: %d bytes, want %d", len(b), size)
	}
	m.Dirty = NewChunks(chunks)
	copy(m.Dirty.bits, b[bitmapHeader:])
	m.Dirty.trim()
	return m, nil
}

// bitmapBytes is what a bitmap of so many chunks takes, its superblock included.
func bitmapBytes(chunks uint64) uint64 { return bitmapHeader + (chunks+7)/8 }

// decodeBitmapHeader reads all but the bits, and says how many chunks there are. It allocates nothing that a field of
// the input could size.
func decodeBitmapHeader(b []byte) (*Bitmap, uint64, error) {
	if len(b) < bitmapHeader {
		return nil, 0, fmt.Errorf("bitmap: %d bytes, want %d at least", len(b), bitmapHeader)
	}
	le := binary.LittleEndian
	if le.Uint32(b) != bitmapMagic {
		return nil, 0, errors.New("bitmap: wrong magic")
	}
	switch v := le.Uint32(b[4:]); v {
	case bitmapLo, bitmapHi:
	case bitmapClustered:
		return nil, 0, errors.New("bitmap: clustered, which is not supported")
	case bitmapLockless:
		return nil, 0, ErrLocklessBitmap
	default:
		return nil, 0, fmt.Errorf("bitmap: version %d is unknown", v)
	}
	m := &Bitmap{
		Events:        le.Uint64(b[24:]),
		EventsCleared: le.Uint64(b[32:]),
		SyncSize:      le.Uint64(b[40:]),
		State:         le.Uint32(b[48:]),
		ChunkBytes:    le.Uint32(b[52:]),
		DaemonSleep:   le.Uint32(b[56:]),
	}
	copy(m.Array[:], b[8:24])
	if m.State&bitmapHostEndian != 0 {
		return nil, 0, errors.New("bitmap: in host byte order, which is not supported")
	}
	if m.ChunkBytes < 512 || bits.OnesCount32(m.ChunkBytes) != 1 {
		return nil, 0, fmt.Errorf("bitmap: chunk size %d is not a power of two from 512 on", m.ChunkBytes)
	}
	perChunk := uint64(m.ChunkBytes / 512)
	chunks := m.SyncSize / perChunk
	if m.SyncSize%perChunk != 0 {
		chunks++
	}
	if chunks > bitmapMaxChunks { // what they take is not computed before: it can pass 64 bits
		return nil, 0, fmt.Errorf("bitmap: %d chunks, more than fit %d bytes", chunks, bitmapMaxBytes)
	}
	return m, chunks, nil
}

// All is the set of all of m's chunks.
func (m *Bitmap) All() Chunks {
	all := NewChunks(m.Dirty.Len())
	for i := range all.bits {
		all.bits[i] = 0xff
	}
	all.trim()
	return all
}

// Bytes is how many bytes of the array a set of m's chunks covers; the last chunk may be short.
func (m *Bitmap) Bytes(c Chunks) uint64 {
	total := c.Count() * uint64(m.ChunkBytes)
	if c.n > 0 && c.Has(c.n-1) {
		total -= c.n*uint64(m.ChunkBytes) - m.SyncSize*512
	}
	return total
}

// Marks tells whether a chunk that holds any of length bytes of the array from off on is marked.
func (m *Bitmap) Marks(off, length int64) bool {
	for i := uint64(off) / uint64(m.ChunkBytes); i*uint64(m.ChunkBytes) < uint64(off+length); i++ {
		if m.Dirty.Has(i) {
			return true
		}
	}
	return false
}

// Span is where a range of m's chunks lies in the array: first byte and length.
func (m *Bitmap) Span(r Range) (offset, length int64) {
	offset = int64(r.First) * int64(m.ChunkBytes)
	end := min(int64(r.Last+1)*int64(m.ChunkBytes), int64(m.SyncSize)*512)
	return offset, end - offset
}
