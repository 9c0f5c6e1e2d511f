package initrd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
)

// Limits that keep memory bounded; the first is the kernel's own (PATH_MAX, do_header in init/initramfs.c, Linux 6.12).
const (
	maxName  = 4096    // bytes of a name or of a symbolic link's target, with its final zero byte
	maxFiles = 1 << 20 // entries of an image
	maxNames = 128 << 20
	maxKept  = 128 << 20 // bytes of all content that is held
)

const (
	headerLen = 110 // magic and 13 fields of 8 hexadecimal digits
	trailer   = "TRAILER!!!"
)

// header is a cpio "newc" header (Documentation/driver-api/early-userspace/buffer-format.rst, Linux 6.12).
type header struct {
	mode     uint32
	id       linkID
	links    uint32
	size     uint32 // bytes of content
	nameSize uint32 // bytes of the name with its zero byte
	sum      uint32 // sum of the content's bytes
	summed   bool   // magic 070702: sum is valid
}

// linkID is what the names of one file have in common within an archive.
type linkID struct{ ino, major, minor uint32 }

func parseHeader(b []byte) (header, error) {
	var h header
	switch magic := string(b[:6]); magic {
	case "070701":
	case "070702":
		h.summed = true
	case "070707":
		return h, errors.New("cpio format \"odc\" instead of \"newc\"")
	default:
		return h, fmt.Errorf("no cpio header (%q)", magic)
	}
	var field [13]uint32
	for i := range field {
		v, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
		if err != nil {
			return h, fmt.Errorf("cpio header: field %d is %q", i+1, b[6+8*i:14+8*i])
		}
		field[i] = uint32(v)
	}
	h.id = linkID{ino: field[0], major: field[7], minor: field[8]}
	h.mode, h.links, h.size, h.nameSize, h.sum = field[1], field[4], field[6], field[11], field[12]
	if h.nameSize == 0 || h.nameSize > maxName {
		return h, fmt.Errorf("cpio header: a name of %d bytes", h.nameSize)
	}
	if h.fileMode()&fs.ModeSymlink != 0 && h.size > maxName {
		return h, fmt.Errorf("cpio header: a symbolic link of %d bytes", h.size)
	}
	return h, nil
}

// fileMode translates st_mode (inode(7)).
func (h header) fileMode() fs.FileMode {
	mode := fs.FileMode(h.mode & 0o777)
	switch h.mode & 0o170000 {
	case 0o040000:
		mode |= fs.ModeDir
	case 0o120000:
		mode |= fs.ModeSymlink
	case 0o020000:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case 0o060000:
		mode |= fs.ModeDevice
	case 0o010000:
		mode |= fs.ModeNamedPipe
	case 0o140000:
		mode |= fs.ModeSocket
	case 0o100000:
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}

// stream is decompressed data; it counts what was taken from it.
type stream struct {
	r   *bufio.Reader
	pos int64
}

func newStream(r io.Reader) *stream { return &stream{r: bufio.NewReaderSize(r, 64<<10)} }

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.pos += int64(n)
	return n, err
}

// take reads n bytes, which the caller has bounded, and then up to the next multiple of four.
func (s *stream) take(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s, b); err != nil {
		return nil, early(err)
	}
	return b, s.align()
}

// align skips to the next multiple of four, which is how cpio pads names and content.
func (s *stream) align() error {
	var pad [3]byte
	_, err := io.ReadFull(s, pad[:-s.pos&3])
	return early(err)
}

// peek looks at the next byte.
func (s *stream) peek() (byte, error) {
	b, err := s.r.Peek(1)
	if len(b) == 1 {
		return b[0], nil
	}
	return 0, err
}

// skipZeros goes on to the next byte that is not zero; io.EOF if there is none.
func (s *stream) skipZeros() (byte, error) {
	for {
		c, err := s.peek()
		if err != nil || c != 0 {
			return c, err
		}
		if _, err := s.r.Discard(1); err != nil {
			return 0, err
		}
		s.pos++
	}
}

// early makes an end of the data where more was expected an ErrTruncated.
func early(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}
