package md

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Member is what lies on one device that belongs, or once belonged, to an array.
type Member struct {
	Super     *Superblock
	Bitmap    *Bitmap // nil without one
	BitmapErr error   // why the bitmap, which the superblock names, cannot be used
	Raw       []byte  // the superblock's SuperSize bytes, to tell "unchanged" and to put back
}

// superAt12 is where metadata 1.2 lies: 4 KiB from the start (drivers/md/md.c, super_1_load, Linux 6.12).
const superAt12 = 8

// superAt10 is the sector of metadata 1.0: at least 8 and less than 12 KiB from the end.
func superAt10(size int64) (uint64, bool) {
	sectors := size/512 - 16
	if sectors < 0 {
		return 0, false
	}
	return uint64(sectors) &^ 7, true
}

// superAt090 is the sector of 0.90 metadata (md_p.h, MD_NEW_SIZE_SECTORS): 64 KiB aligned, at least that from the end.
func superAt090(size int64) (uint64, bool) {
	const reserved = 64 << 10 / 512
	sectors := uint64(size/512) &^ (reserved - 1)
	if sectors < reserved {
		return 0, false
	}
	return sectors - reserved, true
}

// ReadMember reads superblock and bitmap from a device of size bytes. A device without md metadata is
// ErrNoSuperblock, one with 0.90 metadata ErrOldMetadata; a superblock that is there but damaged is an error that says
// how.
func ReadMember(r io.ReaderAt, size int64) (*Member, error) {
	places := []uint64{superAt12, 0}
	if at, ok := superAt10(size); ok {
		places = append(places, at)
	}
	err := ErrNoSuperblock
	for _, at := range places {
		m, e := readMemberAt(r, at, size)
		if e == nil {
			return m, nil
		}
		if !errors.Is(e, ErrNoSuperblock) {
			err = e
		}
	}
	if at, ok := superAt090(size); ok && errors.Is(err, ErrNoSuperblock) {
		var head [8]byte
		if _, e := r.ReadAt(head[:], int64(at)*512); e == nil && isOld(head[:]) {
			return nil, ErrOldMetadata
		}
	}
	return nil, err
}

func readMemberAt(r io.ReaderAt, at uint64, size int64) (*Member, error) {
	raw := make([]byte, SuperSize)
	if _, err := r.ReadAt(raw, int64(at)*512); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, ErrNoSuperblock
		}
		return nil, err
	}
	s, err := DecodeSuperblock(raw, at)
	if err != nil {
		return nil, err
	}
	if err := s.fits(uint64(size) / 512); err != nil {
		return nil, err
	}
	m := &Member{Super: s, Raw: raw}
	if s.Features&FeatureBitmap != 0 {
		m.Bitmap, m.BitmapErr = readBitmap(r, s)
	}
	return m, nil
}

// TooSmallError says that a member's data do not fit its device: a member that was copied to a smaller drive, or damage.
type TooSmallError struct {
	Super   *Superblock
	Sectors uint64 // of the device
}

// Error names what does not fit.
func (e *TooSmallError) Error() string {
	s := e.Super
	return fmt.Sprintf("superblock: data of %d sectors (%d used) from sector %d on do not fit the device's %d", s.DataSize, s.Size,
		s.DataOffset, e.Sectors)
}

// Need is the smallest size of a device, in bytes, that they would fit; false where no device is as large.
func (e *TooSmallError) Need() (uint64, bool) {
	const most = 1 << 54 // sectors: more is no size in bytes
	data := max(e.Super.Size, e.Super.DataSize)
	return (e.Super.DataOffset + data) * 512, e.Super.DataOffset < most && data < most
}

// fits makes sure that the data which s names lies on a device of so many sectors; the kernel refuses such a member too
// (drivers/md/md.c, super_1_load, Linux 6.12).
func (s *Superblock) fits(sectors uint64) error {
	if s.DataOffset > sectors || s.Size > sectors-s.DataOffset || s.DataSize > sectors-s.DataOffset {
		return &TooSmallError{Super: s, Sectors: sectors}
	}
	return nil
}

// isOld tells 0.90's superblock by magic and major version, in either byte order.
func isOld(b []byte) bool {
	magic := func(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24 }
	big := func(b []byte) uint32 { return uint32(b[3]) | uint32(b[2])<<8 | uint32(b[1])<<16 | uint32(b[0])<<24 }
	return (magic(b) == superMagic && magic(b[4:]) == 0) || (big(b) == superMagic && big(b[4:]) == 0)
}

func readBitmap(r io.ReaderAt, s *Superblock) (*Bitmap, error) {
	off := (int64(s.SuperOffset) + int64(s.BitmapOffset)) * 512
	if s.BitmapOffset == 0 || off < 0 {
		return nil, fmt.Errorf("bitmap: offset %d from the superblock is out of range", s.BitmapOffset)
	}
	head := make([]byte, bitmapHeader)
	if _, err := r.ReadAt(head, off); err != nil {
		return nil, fmt.Errorf("bitmap: %w", err)
	}
	_, chunks, err := decodeBitmapHeader(head)
	if err != nil {
		return nil, err
	}
	whole, err := io.ReadAll(bufio.NewReaderSize(io.NewSectionReader(r, off, int64(bitmapBytes(chunks))), 64<<10))
	if err != nil {
		return nil, fmt.Errorf("bitmap: %w", err)
	}
	m, err := DecodeBitmap(whole)
	if err != nil {
		return nil, err
	}
	if m.Array != s.Array {
		return nil, fmt.Errorf("bitmap: belongs to array %s, not %s", m.Array, s.Array)
	}
	return m, nil
}

// ReadDevice is ReadMember of the block device at path, by O_DIRECT.
func ReadDevice(path string) (*Member, error) {
	d, err := OpenDisk(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	m, err := ReadMember(d, d.Size())
	if e := d.Close(); err == nil && e != nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}
