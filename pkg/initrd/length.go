package initrd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// cursor walks through a compressed segment without decoding it, to find its end.
type cursor struct {
	r   io.ReaderAt
	off int64
	end int64 // of the image
}

// next reads n bytes and goes past them; n is small and constant at all callers.
func (c *cursor) next(n int) ([]byte, error) {
	if int64(n) > c.end-c.off {
		return nil, ErrTruncated
	}
	b := make([]byte, n)
	if got, err := c.r.ReadAt(b, c.off); got < n {
		return nil, err
	}
	c.off += int64(n)
	return b, nil
}

func (c *cursor) byte() (byte, error) {
	b, err := c.next(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// skip goes past n bytes.
func (c *cursor) skip(n int64) error {
	if n > c.end-c.off {
		return ErrTruncated
	}
	c.off += n
	return nil
}

// zstdLength goes past one frame: header, blocks up to the one marked last, checksum (RFC 8878, 3.1.1).
func zstdLength(c *cursor) error {
	start, err := c.next(int(min(zstd.HeaderMaxSize, c.end-c.off)))
	if err != nil {
		return err
	}
	var h zstd.Header
	if err := h.Decode(start); err != nil {
		return fmt.Errorf("frame header: %w", err)
	}
	if h.WindowSize > maxWindow {
		return fmt.Errorf("a window of %d bytes, more than %d", h.WindowSize, maxWindow)
	}
	c.off += int64(h.HeaderSize - len(start))
	for last := false; !last; {
		b, err := c.next(3)
		if err != nil {
			return err
		}
		block := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		last = block&1 != 0
		size := int64(block >> 3)
		if block>>1&3 == 1 { // one byte, repeated size times
			size = 1
		}
		if err := c.skip(size); err != nil {
			return err
		}
	}
	if h.HasCheckSum {
		return c.skip(4)
	}
	return nil
}

// lz4Length goes past one frame of lz4's own format (doc/lz4_Frame_format.md, version 1.6.4).
func lz4Length(c *cursor) error {
	b, err := c.next(4 + 2) // magic, FLG, BD
	if err != nil {
		return err
	}
	flags := b[4]
	descriptor := int64(1) // its checksum
	if flags&(1<<3) != 0 { // content size
		descriptor += 8
	}
	if flags&1 != 0 {
		return errors.New("lz4 with a dictionary")
	}
	if err := c.skip(descriptor); err != nil {
		return err
	}
	for {
		b, err := c.next(4)
		if err != nil {
			return err
		}
		size := binary.LittleEndian.Uint32(b)
		if size == 0 {
			break
		}
		block := int64(size &^ (1 << 31)) // the highest bit says "not compressed"
		if flags&(1<<4) != 0 {
			block += 4
		}
		if err := c.skip(block); err != nil {
			return err
		}
	}
	if flags&(1<<2) != 0 {
		return c.skip(4)
	}
	return nil
}
