package limits

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"mdclone/pkg/md"
)

// Trial is what happened when large requests went through dm to an array whose limit had fallen below dm's.
type Trial struct {
	MemberKB                uint64 // KiB: the limit of the member that joined
	ArrayBefore, ArrayAfter uint64 // KiB: the array's, before and after it joined
	HolderKB                uint64 // KiB: dm's, after it joined
	Before                  error  // of large requests, before it joined
	Small                   error  // of requests that each member takes, after it joined
	Large                   error  // of larger ones
	Faulty                  []string
	Differ                  []string // members that do not hold what was written
}

// Verdict is what a Trial says of the kernel.
type Verdict string

// The verdicts.
const (
	Passes  Verdict = "passes"
	Fails   Verdict = "fails"   // large requests through dm are lost or refused
	Unknown Verdict = "unknown" // what failed has nothing to do with the size of requests
)

// Judge tells what the trial says, and why. Requests that failed although every member takes them, or before the small
// member joined, are no sign of the bug: then the machine is at fault.
func (t Trial) Judge() (Verdict, string) {
	switch {
	case t.Before != nil:
		return Unknown, fmt.Sprintf("requests failed before the limit fell: %v", t.Before)
	case t.Small != nil:
		return Unknown, fmt.Sprintf("requests of a size that each member takes failed: %v", t.Small)
	case t.Large != nil:
		return Fails, fmt.Sprintf("requests above the array's limit of %d KiB failed through a device with %d KiB: %v", t.ArrayAfter,
			t.HolderKB, t.Large)
	case len(t.Faulty) > 0:
		return Fails, fmt.Sprintf("requests above the limit made md fail %s", strings.Join(t.Faulty, ", "))
	case len(t.Differ) > 0:
		return Fails, fmt.Sprintf("%s does not hold what was written", strings.Join(t.Differ, ", "))
	case t.ArrayAfter >= t.ArrayBefore:
		return Passes, fmt.Sprintf("a member with %d KiB does not lower the array's limit of %d KiB, and nothing was lost", t.MemberKB,
			t.ArrayBefore)
	case t.HolderKB <= t.ArrayAfter:
		return Passes, fmt.Sprintf("the limit of %d KiB reaches the device above the array, and nothing was lost", t.ArrayAfter)
	}
	return Passes, fmt.Sprintf("requests of up to %d KiB through a device with %d KiB over an array with %d KiB were split and arrived",
		largest>>10, t.HolderKB, t.ArrayAfter)
}

// largest is the largest request of a trial, in bytes: what one bio of 256 pages holds (BIO_MAX_VECS, include/linux/
// bio.h, Linux 6.12).
const largest = 1 << 20

// writer writes and reads a device by O_DIRECT, and knows what it must hold.
type writer struct {
	ctx    context.Context // ends it early
	device io
	image  []byte
	stamp  byte
}

// io is what writer needs of an *md.Disk.
type io interface {
	ReadAligned(b []byte, off int64) error
	WriteAligned(b []byte, off int64) error
}

// perSize bounds the requests of one size: each is flushed.
const perSize = 24

// end is where requests of size bytes that begin at offset end.
func (w *writer) end(size, offset int) int { return min(offset+perSize*size, len(w.image)) }

// requests writes size bytes at a time, beginning at offset, and reads them back.
func (w *writer) requests(size, offset int) error {
	b := md.AlignedBuffer(size)
	for off := offset; off+size <= w.end(size, offset) && w.ctx.Err() == nil; off += size {
		w.stamp++
		for i := range b {
			b[i] = w.stamp ^ byte(i) ^ byte(i>>8) ^ byte(i>>16)
		}
		copy(w.image[off:], b)
		if err := w.device.WriteAligned(b, int64(off)); err != nil {
			return fmt.Errorf("%d KiB: %w", size>>10, err)
		}
	}
	return w.check(size, offset)
}

// check reads size bytes at a time and compares.
func (w *writer) check(size, offset int) error {
	b := md.AlignedBuffer(size)
	for off := offset; off+size <= w.end(size, offset) && w.ctx.Err() == nil; off += size {
		if err := w.device.ReadAligned(b, int64(off)); err != nil {
			return fmt.Errorf("%d KiB: %w", size>>10, err)
		}
		if !bytes.Equal(b, w.image[off:off+size]) {
			return fmt.Errorf("%d KiB read at %d are not what was written", size>>10, off)
		}
	}
	return nil
}

// sweep makes requests of each size from the one given on, doubled up to most, at offsets that no limit divides.
func (w *writer) sweep(size, most int) error {
	for ; size <= most; size *= 2 {
		for _, offset := range []int{0, 4 << 10} {
			if err := w.requests(size, offset); err != nil {
				return err
			}
		}
	}
	return nil
}

// readAll reads the image in requests of each size from the one given on.
func (w *writer) readAll(size, most int) error {
	for ; size <= most; size *= 2 {
		if err := w.check(size, 0); err != nil {
			return err
		}
	}
	return nil
}
