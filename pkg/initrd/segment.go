package initrd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// maxWindow is the largest window or dictionary of a compressed segment, bytes. The kernel takes as much for zstd
// (ZSTD_WINDOWSIZE_MAX, lib/decompress_unzstd.c, Linux 6.12); xz -9 needs half of it.
const maxWindow = 128 << 20

// format is a compression that the kernel knows by its first bytes (lib/decompress.c, Linux 6.12), or lz4's own frame.
type format struct {
	magic string
	name  string
	read  func(x *extractor, r io.ReaderAt, off, size int64) (used int64, err error) // nil: cannot be read
}

// formats is a function, not a table, for the sake of initialisation order and of nobody changing it.
func formats() []format {
	return []format{
		{"\x1f\x8b", "gzip", (*extractor).gzip},
		{"\x28\xb5\x2f\xfd", "zstd", framed(zstdLength, newZstd)},
		{"\xfd7zXZ\x00", "xz", framed(xzLength, newXz)},
		{"\x02\x21\x4c\x18", "lz4", (*extractor).lz4Legacy},
		{"\x04\x22\x4d\x18", "lz4-frame", framed(lz4Length, newLz4)},
		{"BZh", "bzip2", nil},
		{"\x5d\x00\x00", "lzma", nil},
		{"\x89LZO\x00", "lzop", nil},
	}
}

// segments reads all of an image, as unpack_to_rootfs does.
func (x *extractor) segments(r io.ReaderAt, size int64) ([]Segment, error) {
	var all []Segment
	for off := int64(0); off < size; {
		at, err := skipZeroBytes(r, off, size)
		if err != nil {
			return nil, err
		}
		if at == size {
			break
		}
		s, err := x.segment(r, at, size)
		if err != nil {
			return nil, fmt.Errorf("segment %d (%s) at byte %d: %w", len(all)+1, s.Compression, s.Offset, err)
		}
		all = append(all, s)
		off = at + s.Size
	}
	if len(all) == 0 {
		return nil, errors.New("there is nothing in it")
	}
	return all, nil
}

func (x *extractor) segment(r io.ReaderAt, off, size int64) (Segment, error) {
	s := Segment{Offset: off, Compression: "unknown"}
	var magic [8]byte
	n, err := r.ReadAt(magic[:min(int64(len(magic)), size-off)], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return s, err
	}
	start := magic[:n]
	if start[0] == '0' {
		if s.Compression = "none"; off&3 != 0 {
			return s, errors.New("a cpio archive must begin at a multiple of 4 bytes")
		}
		in := newStream(io.NewSectionReader(r, off, size-off))
		err := x.archive(in)
		s.Size = in.pos
		return s, err
	}
	for _, f := range formats() {
		if !bytes.HasPrefix(start, []byte(f.magic)) {
			continue
		}
		if s.Compression = f.name; f.read == nil {
			return s, fmt.Errorf("%s is not supported, only gzip, zstd, xz and lz4 are", f.name)
		}
		s.Size, err = f.read(x, r, off, size-off)
		return s, err
	}
	return s, fmt.Errorf("neither a cpio archive nor compressed data (%x)", start)
}

// skipZeroBytes finds the next byte that is not zero from off on; size if there is none.
func skipZeroBytes(r io.ReaderAt, off, size int64) (int64, error) {
	in := newStream(io.NewSectionReader(r, off, size-off))
	_, err := in.skipZeros()
	if errors.Is(err, io.EOF) {
		return size, nil
	}
	return off + in.pos, err
}

// gzip reads one member; its end is where the decoder stops, which takes single bytes from a bufio.Reader.
func (x *extractor) gzip(r io.ReaderAt, off, size int64) (int64, error) {
	section := io.NewSectionReader(r, off, size)
	in := bufio.NewReaderSize(section, 64<<10)
	z, err := gzip.NewReader(in)
	if err != nil {
		return 0, early(err)
	}
	defer z.Close()
	z.Multistream(false)
	if err := x.archives(newStream(z)); err != nil {
		return 0, err
	}
	pos, err := section.Seek(0, io.SeekCurrent)
	return pos - int64(in.Buffered()), err
}

// framed is for a compression whose length can be told without decoding, so that the decoder, which reads ahead or wants
// an end, gets just that.
func framed(length func(c *cursor) error, decoder func(io.Reader) (io.Reader, func(), error)) func(
	*extractor, io.ReaderAt, int64, int64) (int64, error) {
	return func(x *extractor, r io.ReaderAt, off, size int64) (int64, error) {
		c := &cursor{r: r, off: off, end: off + size}
		if err := length(c); err != nil {
			return 0, early(err)
		}
		used := c.off - off
		d, done, err := decoder(bufio.NewReaderSize(io.NewSectionReader(r, off, used), 64<<10))
		if err != nil {
			return 0, early(err)
		}
		defer done()
		return used, x.archives(newStream(d))
	}
}

func newZstd(r io.Reader) (io.Reader, func(), error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, nil, err
	}
	return d, d.Close, nil
}

func newXz(r io.Reader) (io.Reader, func(), error) {
	d, err := xz.ReaderConfig{SingleStream: true, DictCap: minDictionary}.NewReader(r)
	return d, func() {}, err
}

func newLz4(r io.Reader) (io.Reader, func(), error) { return lz4.NewReader(r), func() {}, nil }
