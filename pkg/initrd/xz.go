package initrd

import (
	"errors"
	"fmt"
)

// minDictionary is the least that the xz decoder allocates for a dictionary, bytes; xzLength bounds the most.
const minDictionary = 4096

// xzLength goes past one stream (The .xz File Format 1.2.1, 2.1) and refuses dictionaries above maxWindow and filters
// other than LZMA2, which is all that boot images are made with.
func xzLength(c *cursor) error {
	start := c.off
	b, err := c.next(12)
	if err != nil {
		return err
	}
	check := xzCheckSize(b[7] & 15)
	for {
		size, err := c.byte()
		if err != nil {
			return err
		}
		if size == 0 {
			return xzIndex(c)
		}
		if err := xzBlockHeader(c, size); err != nil {
			return err
		}
		if err := lzma2Length(c); err != nil {
			return err
		}
		// the block's padding: all before it is a multiple of four
		if err := c.skip((start-c.off)&3 + check); err != nil {
			return err
		}
	}
}

// xzCheckSize is 2.1.1.2: 0, 4, 4, 4, 8, 8, 8, 16, ... bytes.
func xzCheckSize(id byte) int64 {
	if id == 0 {
		return 0
	}
	return 4 << ((id - 1) / 3)
}

// xzBlockHeader goes past a block's header (3.1), of which the first byte is read.
func xzBlockHeader(c *cursor, size byte) error {
	end := c.off - 1 + (int64(size)+1)*4
	flags, err := c.byte()
	if err != nil {
		return err
	}
	for bit := byte(0x40); bit != 0; bit <<= 1 { // compressed size, uncompressed size
		if flags&bit == 0 {
			continue
		}
		if _, err := c.uvarint(); err != nil {
			return err
		}
	}
	for range flags&3 + 1 {
		id, err := c.uvarint()
		if err != nil {
			return err
		}
		n, err := c.uvarint()
		if err != nil {
			return err
		}
		if id != 0x21 || n != 1 {
			return fmt.Errorf("xz filter %#x is not supported, only LZMA2 is", id)
		}
		bits, err := c.byte()
		if err != nil {
			return err
		}
		if dictionary := xzDictionary(bits); dictionary > maxWindow {
			return fmt.Errorf("an xz dictionary of %d bytes, more than %d", dictionary, maxWindow)
		}
	}
	if end < c.off {
		return errors.New("xz block header is longer than it says")
	}
	return c.skip(end - c.off)
}

// xzDictionary is 5.3.1: 4 KiB, 6 KiB, 8 KiB, 12 KiB, ... bytes.
func xzDictionary(bits byte) uint64 { return (2 | uint64(bits&1)) << (bits&0x3f/2 + 11) }

// lzma2Length goes past the chunks of LZMA2 data up to the end marker (lib/xz/xz_dec_lzma2.c, Linux 6.12).
func lzma2Length(c *cursor) error {
	for {
		control, err := c.byte()
		if err != nil {
			return err
		}
		var size int64 // of the chunk's data
		switch {
		case control == 0:
			return nil
		case control >= 0x80:
			b, err := c.next(4)
			if err != nil {
				return err
			}
			size = int64(b[2])<<8 + int64(b[3]) + 1
			if control >= 0xc0 { // new properties
				size++
			}
		case control <= 2: // not compressed
			b, err := c.next(2)
			if err != nil {
				return err
			}
			size = int64(b[0])<<8 + int64(b[1]) + 1
		default:
			return fmt.Errorf("LZMA2 control byte %#x", control)
		}
		if err := c.skip(size); err != nil {
			return err
		}
	}
}

// xzIndex goes past the index (4), of which the first byte is read, and the footer.
func xzIndex(c *cursor) error {
	start := c.off - 1
	records, err := c.uvarint()
	if err != nil {
		return err
	}
	for range records { // each takes two bytes at least, so the end of the image bounds this
		for range 2 {
			if _, err := c.uvarint(); err != nil {
				return err
			}
		}
	}
	return c.skip((start-c.off)&3 + 4 + 12)
}

// uvarint is 1.2: seven bits a byte, nine bytes at most.
func (c *cursor) uvarint() (uint64, error) {
	var v uint64
	for i := range 9 {
		b, err := c.byte()
		if err != nil {
			return 0, err
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errors.New("xz: a number of more than 9 bytes")
}
