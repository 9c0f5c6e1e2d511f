package initrd

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pierrec/lz4/v4"
)

const (
	lz4LegacyMagic = 0x184c2102
	lz4LegacyBlock = 8 << 20 // decompressed size of all blocks but the last (LZ4_DEFAULT_UNCOMPRESSED_CHUNK_SIZE)
)

// lz4Legacy reads the format that the kernel knows (lib/decompress_unlz4.c, Linux 6.12): the magic, then blocks with their
// size in front, up to the end of the image or a size of zero, which is the padding before the next segment.
func (x *extractor) lz4Legacy(r io.ReaderAt, off, size int64) (int64, error) {
	d := &lz4Blocks{c: cursor{r: r, off: off, end: off + size}}
	if err := x.archives(newStream(d)); err != nil {
		return 0, err
	}
	return d.c.off - off, nil
}

// lz4Blocks is the decoder, an io.Reader.
type lz4Blocks struct {
	c    cursor
	in   []byte
	out  []byte
	left []byte // of out, not yet read
}

// Read implements io.Reader.
func (d *lz4Blocks) Read(p []byte) (int, error) {
	for len(d.left) == 0 {
		if err := d.block(); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.left)
	d.left = d.left[n:]
	return n, nil
}

func (d *lz4Blocks) block() error {
	if d.c.off == d.c.end {
		return io.EOF
	}
	b, err := d.c.next(4)
	if err != nil {
		return d.rest(err)
	}
	size := binary.LittleEndian.Uint32(b)
	if size == 0 {
		return io.EOF
	}
	if size == lz4LegacyMagic {
		return nil
	}
	if int(size) > lz4.CompressBlockBound(lz4LegacyBlock) {
		return fmt.Errorf("lz4 block of %d bytes at byte %d", size, d.c.off-4)
	}
	if int64(size) > d.c.end-d.c.off {
		return ErrTruncated
	}
	if len(d.out) == 0 {
		d.out = make([]byte, lz4LegacyBlock)
	}
	if cap(d.in) < int(size) {
		d.in = make([]byte, size)
	}
	d.in = d.in[:size]
	if n, err := d.c.r.ReadAt(d.in, d.c.off); n < len(d.in) {
		return err
	}
	d.c.off += int64(size)
	n, err := lz4.UncompressBlock(d.in, d.out)
	if err != nil {
		return fmt.Errorf("lz4 block of %d bytes at byte %d: %w", size, d.c.off-int64(size), err)
	}
	d.left = d.out[:n]
	return nil
}

// rest takes up to three zero bytes at the end of the image for padding.
func (d *lz4Blocks) rest(err error) error {
	b, readErr := d.c.next(int(d.c.end - d.c.off))
	if readErr != nil {
		return readErr
	}
	for _, c := range b {
		if c != 0 {
			return err
		}
	}
	return io.EOF
}
