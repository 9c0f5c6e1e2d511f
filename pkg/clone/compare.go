package clone

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// compareStep is how much of both disks is held in memory at a time.
const compareStep = 1 << 20

// compareChunks compares chunks of the clone with a primary's, disk against disk. On an array that may be written, a
// difference counts only if nothing was written to the array while it was looked at; what cannot be looked at in such a
// moment is said to be unverified.
func (s *session) compareChunks(ctx context.Context, chunks md.Chunks, frozen bool) error {
	a, err := md.ReadDevice(md.NodePath(s.peer))
	if err != nil {
		return err
	}
	c, err := md.ReadDevice(s.drive.Path)
	if err != nil {
		return err
	}
	left, err := openPart(md.NodePath(s.peer), a.Super.DataOffset)
	if err != nil {
		return err
	}
	defer left.disk.Close()
	right, err := openPart(s.drive.Path, c.Super.DataOffset)
	if err != nil {
		return err
	}
	defer right.disk.Close()
	both := comparer{left, right, md.AlignedBuffer(compareStep), md.AlignedBuffer(compareStep)}

	s.env.Progress.Start("comparing " + s.drive.Name)
	defer s.env.Progress.Done()
	total, done := s.bitmap.Bytes(chunks), uint64(0)
	for _, r := range chunks.Ranges() {
		first, length := s.bitmap.Span(r)
		for off := first; off < first+length; off += compareStep {
			n := min(compareStep, first+length-off)
			differing, sure, err := s.compareStill(ctx, both, off, n, frozen)
			if err != nil {
				return err
			}
			done += uint64(n)
			if sure {
				s.result.VerifiedBytes += uint64(n)
				err = s.differs(differing)
			} else {
				err = s.unsure(off, n)
			}
			if err != nil {
				return err
			}
			s.env.Progress.Update(done, total, "")
		}
	}
	if left := total - s.result.VerifiedBytes; left > 0 {
		s.env.Log.Infof("%s of what was copied is not compared, as the array was written all the while", report.Bytes(left))
	}
	return nil
}

// stillTries bounds how often a place that differs is looked at, until a look falls into a moment without writes.
const stillTries = 50

// compareStill compares one step. sure is false if it differed in each look and each time the array was being written.
func (s *session) compareStill(ctx context.Context, both comparer, off, length int64, frozen bool) (differing uint64, sure bool, err error) {
	for range stillTries {
		before, err := s.writing()
		if err != nil {
			return 0, false, err
		}
		if differing, err = both.differing(ctx, off, length); err != nil {
			return 0, false, err
		}
		if differing == 0 || frozen {
			return differing, true, nil
		}
		after, err := s.writing()
		if err != nil {
			return 0, false, err
		}
		if before == after && !before.under {
			return differing, true, nil
		}
	}
	return differing, false, nil
}

// unsure is for a place that differed in each look while the array was written. One that is marked changed is copied again by the
// next cycle. Else nothing was written there of late, and the clone is doubted; but what was changed in memory on its way to the
// disks differs, too, until it is written again.
func (s *session) unsure(off, length int64) error {
	m, err := s.readPrimary()
	if err != nil || m.Bitmap.Marks(off, length) {
		return err
	}
	return s.suspect()
}

// writing is what tells whether an array was written between two looks.
type writing struct {
	done  uint64 // writes that have ended
	under bool   // one is under way
}

func (s *session) writing() (writing, error) {
	done, err := s.arrayWrites()
	if err != nil {
		return writing{}, err
	}
	text, err := s.env.FS.Read("block", s.Array.Name, "inflight") // reads and writes (Documentation/ABI/stable/sysfs-block)
	if err != nil {
		return writing{}, err
	}
	fields := strings.Fields(text)
	return writing{done, len(fields) != 2 || fields[1] != "0"}, nil
}

// part is the data area of one member.
type part struct {
	disk  *md.Disk
	start int64
}

func openPart(path string, dataSector uint64) (part, error) {
	d, err := md.OpenDisk(path, unix.O_RDONLY)
	return part{d, int64(dataSector) * 512}, err
}

// comparer reads two members' data areas side by side.
type comparer struct {
	a, b        part
	left, right []byte
}

// differing counts the sectors that differ in length bytes, compareStep at most, from off on.
func (c comparer) differing(ctx context.Context, off, length int64) (n uint64, err error) {
	const sector = 512
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	left, right := c.left[:length], c.right[:length]
	if err := c.a.disk.ReadAligned(left, c.a.start+off); err != nil {
		return 0, err
	}
	if err := c.b.disk.ReadAligned(right, c.b.start+off); err != nil {
		return 0, err
	}
	if bytes.Equal(left, right) {
		return 0, nil
	}
	for i := int64(0); i < length; i += sector {
		if !bytes.Equal(left[i:i+sector], right[i:i+sector]) {
			n++
		}
	}
	return n, nil
}

// compareCopied is --verify changed.
func (s *session) compareCopied(ctx context.Context, chunks md.Chunks, frozen bool) error {
	if s.verify != config.VerifyChanged || !s.synced {
		return nil
	}
	start := s.env.Now()
	err := s.compareChunks(ctx, chunks, frozen)
	s.result.Seconds.Verify += s.since(start)
	if err == nil && s.result.MismatchedSectors == 0 && s.verdict.WhyVerify != differed {
		s.done = config.VerifyChanged
	}
	return err
}

// someDiscard tells whether some of the array's disks, with the clone among them, take discards, and others do not. md passes the
// latter over, and says that it is done (drivers/md/raid1-10.c, Linux 6.12): what is freed while all are in differs then. That cannot
// be held up: once discard_max_bytes is 0, Linux 6.12 takes no other value any more.
func (s *session) someDiscard() bool {
	names := append(slices.Clone(s.peers), s.drive.Name)
	takes := 0
	for _, name := range names {
		if most, err := s.env.FS.Uint("class/block", s.env.FS.DiskOf(name), "queue/discard_max_bytes"); err == nil && most > 0 {
			takes++
		}
	}
	return takes > 0 && takes < len(names)
}
