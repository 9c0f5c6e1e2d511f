package initrd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// extractor unpacks archives into a tree.
type extractor struct {
	root  *node
	keep  func(path string) bool
	links map[linkID]*inode // of the archive being read, as the kernel's hash of links (find_link)
	files int
	names int   // bytes of all names
	kept  int64 // bytes of all content that is held
}

func newExtractor(keep func(path string) bool) *extractor {
	if keep == nil {
		keep = func(string) bool { return false }
	}
	return &extractor{root: newRoot(), keep: keep}
}

// archives reads the archives that one decompressed stream holds, up to its very end, where checksums are. A stream with
// none is what is left of one that was cut.
func (x *extractor) archives(s *stream) error {
	for n := 0; ; n++ {
		c, err := s.skipZeros()
		if errors.Is(err, io.EOF) && n > 0 {
			return nil
		}
		if err != nil {
			return early(err)
		}
		if c != '0' {
			return fmt.Errorf("neither a cpio archive nor zero bytes in the decompressed data at %d", s.pos)
		}
		if err := x.archive(s); err != nil {
			return err
		}
	}
}

// archive reads one archive up to and with its trailer.
func (x *extractor) archive(s *stream) error {
	x.links = map[linkID]*inode{}
	start := s.pos // archives begin at a multiple of four, so alignment is that of the stream
	for {
		at := s.pos
		var raw [headerLen]byte
		if _, err := io.ReadFull(s, raw[:]); err != nil {
			return fmt.Errorf("archive at %d: no trailer: %w", start, early(err))
		}
		h, err := parseHeader(raw[:])
		if err != nil {
			return fmt.Errorf("at %d: %w", at, err)
		}
		text, err := s.take(int(h.nameSize))
		if err != nil {
			return fmt.Errorf("at %d: name: %w", at, err)
		}
		name, _, _ := strings.Cut(string(text), "\x00")
		if name == trailer {
			return x.skip(s, h)
		}
		if x.files, x.names = x.files+1, x.names+len(name); x.files > maxFiles || x.names > maxNames {
			return fmt.Errorf("at %d: more than %d files or %d bytes of names", at, maxFiles, maxNames)
		}
		if err := x.file(s, h, name); err != nil {
			return fmt.Errorf("at %d: %s: %w", at, name, err)
		}
	}
}

func (x *extractor) skip(s *stream, h header) error {
	if _, err := io.CopyN(io.Discard, s, int64(h.size)); err != nil {
		return early(err)
	}
	return s.align()
}

// file reads one entry's content and puts it into the tree.
func (x *extractor) file(s *stream, h header, name string) error {
	made := &inode{Entry: Entry{Mode: h.fileMode()}}
	if !made.Mode.IsRegular() {
		content, err := x.target(s, h, made)
		if err != nil {
			return err
		}
		made.Target = content
		if folder, base := x.root.place(name); folder != nil && base != "" {
			folder.put(base, made)
		}
		return nil
	}
	shared := x.links[h.id]
	if h.links > 1 && shared != nil {
		made = shared
	} else {
		made.SHA256 = sha256.Sum256(nil)
	}
	if h.links > 1 {
		x.links[h.id] = made
	}
	if folder, base := x.root.place(name); folder != nil && base != "" {
		if n := folder.put(base, made); n != nil && x.keep(n.path()) {
			made.wanted = true
		}
	}
	if made.wanted && made.Size == 0 {
		made.Data = []byte{}
	}
	if h.size == 0 && made == shared {
		return nil // one more name; the content came or comes with another
	}
	return x.content(s, h, made)
}

// target reads a symbolic link's target; the content of a folder or a device, which there should not be, is skipped.
func (x *extractor) target(s *stream, h header, made *inode) (string, error) {
	if made.Mode&fs.ModeSymlink == 0 {
		return "", x.skip(s, h)
	}
	b, err := s.take(int(h.size)) // bounded by parseHeader
	if err != nil {
		return "", err
	}
	x.names += len(b)
	target, _, _ := strings.Cut(string(b), "\x00")
	return target, nil
}

// content reads h.size bytes into made, which holds them if they are wanted.
func (x *extractor) content(s *stream, h header, made *inode) error {
	var held bytes.Buffer
	hash, sum := sha256.New(), byteSum(0)
	to := []io.Writer{hash}
	if made.wanted {
		if x.kept += int64(h.size); x.kept > maxKept {
			return fmt.Errorf("%d bytes of content, more than the %d that may be held", x.kept, int64(maxKept))
		}
		to = append(to, &held)
	}
	if h.summed {
		to = append(to, &sum)
	}
	if _, err := io.CopyN(io.MultiWriter(to...), s, int64(h.size)); err != nil {
		return early(err)
	}
	if h.summed && uint32(sum) != h.sum {
		return fmt.Errorf("checksum is %#x; the header says %#x", uint32(sum), h.sum)
	}
	made.Size = int64(h.size)
	hash.Sum(made.SHA256[:0])
	if made.Data = nil; made.wanted {
		made.Data = append([]byte{}, held.Bytes()...)
	}
	return s.align()
}

// byteSum is the checksum of format 070702.
type byteSum uint32

// Write implements io.Writer.
func (s *byteSum) Write(p []byte) (int, error) {
	for _, b := range p {
		*s += byteSum(b)
	}
	return len(p), nil
}
