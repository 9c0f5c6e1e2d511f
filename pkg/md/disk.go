package md

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"mdclone/pkg/sysfs"
)

// directAlign suits every logical block size that md RAID1 can have below it (512 to 4096 bytes).
const directAlign = 4096

// AlignedBuffer is n bytes that O_DIRECT takes: n must be a multiple of 4096 for a read to be.
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+directAlign)
	skip := (directAlign - int(uintptr(unsafe.Pointer(&b[0]))%directAlign)) % directAlign
	return b[skip : skip+n : skip+n]
}

// Disk is a block device opened past its page cache: md writes beneath that cache, and a buffered read of a member can
// be stale for ever.
type Disk struct {
	fd   int
	path string
	size int64
}

// OpenDisk opens a block device with O_DIRECT and the flags given (unix.O_RDONLY, unix.O_RDWR, unix.O_EXCL).
func OpenDisk(path string, flags int) (*Disk, error) {
	fd, err := sysfs.Again(func() (int, error) { return unix.Open(path, flags|unix.O_DIRECT|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	size, err := unix.Seek(fd, 0, io.SeekEnd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, &os.PathError{Op: "seek", Path: path, Err: err}
	}
	return &Disk{fd: fd, path: path, size: size}, nil
}

// Size is the device's, in bytes.
func (d *Disk) Size() int64 { return d.size }

// FD is the descriptor, for ioctls; it lives as long as d.
func (d *Disk) FD() int { return d.fd }

// Close closes the device.
func (d *Disk) Close() error { return unix.Close(d.fd) }

// ReadAligned fills b, an AlignedBuffer, from byte off; both multiples of the logical block.
func (d *Disk) ReadAligned(b []byte, off int64) error {
	for done := 0; done < len(b); {
		n, err := sysfs.Again(func() (int, error) { return unix.Pread(d.fd, b[done:], off+int64(done)) })
		switch {
		case err != nil:
			return fmt.Errorf("read %s at %d: %w", d.path, off, err)
		case n == 0:
			return fmt.Errorf("read %s at %d: %w", d.path, off, io.ErrUnexpectedEOF)
		default:
			done += n
		}
	}
	return nil
}

// WriteAligned writes b, an AlignedBuffer, at byte off and has the device flush it.
func (d *Disk) WriteAligned(b []byte, off int64) error {
	n, err := sysfs.Again(func() (int, error) { return unix.Pwrite(d.fd, b, off) })
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	if err == nil {
		_, err = sysfs.Again(func() (struct{}, error) { return struct{}{}, unix.Fsync(d.fd) })
	}
	if err != nil {
		return fmt.Errorf("write %s at %d: %w", d.path, off, err)
	}
	return nil
}

// ReadAt makes d an io.ReaderAt for any offset and length, through aligned reads.
func (d *Disk) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= d.size {
		return 0, io.EOF
	}
	want := int64(len(b))
	short := off+want > d.size
	if short {
		want = d.size - off
	}
	first := off &^ (directAlign - 1)
	last := min((off+want+directAlign-1)&^(directAlign-1), d.size)
	buf := AlignedBuffer(int(last - first))
	if err := d.ReadAligned(buf, first); err != nil {
		return 0, err
	}
	n := copy(b[:want], buf[off-first:])
	if short {
		return n, io.EOF
	}
	return n, nil
}

// Flush empties the drive's write cache and drops what the page cache holds of it, so that the next reader sees the
// disk (block/ioctl.c, BLKFLSBUF).
func Flush(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if err == nil {
		if err = IoctlPlain(int(f.Fd()), unix.BLKFLSBUF); err != nil {
			err = &os.PathError{Op: "drop the page cache of", Path: path, Err: err}
		}
	}
	return errors.Join(err, f.Close())
}
