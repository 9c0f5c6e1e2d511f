package clone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// mend makes a drive fit to join that the verdict says can be: what its own bitmap names, or everything, is marked in the
// array, so that the sync copies it too; then its superblock gets the slot and the events at which the kernel takes it.
func (s *session) mend(ctx context.Context) error {
	c := s.drive.Member
	chunks := s.bitmap.All()
	if s.verdict.Mend != MendFull {
		chunks = c.Bitmap.Dirty
	}
	m, err := s.readPrimary()
	if err == nil {
		err = s.doubtOthers(m.Bitmap)
	}
	if err == nil {
		err = s.mark(ctx, chunks)
	}
	if err != nil {
		return err
	}
	if s.verdict.Mend == MendOwn {
		return nil
	}
	m, err = s.readPrimary()
	if err != nil {
		return err
	}
	switch s.verdict.Mend {
	case MendHeal:
		s.result.Mode = "healed"
		s.env.Log.Infof("%s: what %s wrote alone, %s at most, is copied back from the array", s.Array.Name, s.drive.Name,
			report.Bytes(c.Bitmap.Bytes(chunks)))
		return nil
	case MendFull:
		s.result.Mode = "full"
		return s.reseat(m.Super.Events)
	}
	return s.reseat(c.Bitmap.Events)
}

// reseat writes the drive's superblock with a slot of its own, at events. It is on the disk before the kernel sees it,
// and the array's bitmap names all that it misses before that.
func (s *session) reseat(events uint64) error {
	super := s.drive.Member.Super
	if err := s.keepSuper(); err != nil {
		return err
	}
	if s.verdict.Mend == MendFull {
		// until the copy has finished it is none, whatever its superblock says
		x := Entry{Clone: super.Device, Array: super.Array, Attached: true, Slot: s.verdict.Slot}
		if err := s.env.record(x); err != nil {
			return err
		}
	}
	block, err := md.Reseated(s.drive.Member.Raw, s.verdict.Slot, events, s.verdict.Mend != MendFull)
	if err != nil {
		return fmt.Errorf("%s: %w", s.drive.Path, err)
	}
	if err := writeSuper(s.drive.Path, s.drive.Member.Raw, super.SuperOffset, block); err != nil {
		return err
	}
	again, err := s.env.readDrive(s.drive.Path)
	if err == nil && (again.Member == nil || again.Member.Super.Device != super.Device || again.Member.Super.Slot() != s.verdict.Slot) {
		err = errors.Join(fmt.Errorf("%s: its superblock does not read back as it was written", s.drive.Path), again.Err)
	}
	if err != nil {
		return err
	}
	s.drive = again
	return nil
}

// writeSuper writes a superblock, given in an aligned buffer, to its sector of a drive that nobody else has, in place of was: what
// has that path by now may be another drive.
func writeSuper(path string, was []byte, sector uint64, block []byte) error {
	d, err := md.OpenDisk(path, unix.O_RDWR|unix.O_EXCL)
	if err != nil {
		return err
	}
	now, err := md.ReadMember(d, d.Size())
	if err == nil && !bytes.Equal(now.Raw, was) {
		err = report.Fail(report.Failed, "other-drive", "%s is another drive by now, or was written to", path)
	}
	if err == nil {
		err = d.WriteAligned(block, int64(sector)*512)
	}
	return errors.Join(err, d.Close())
}

// mark sets chunks in the array's bitmap and requires that they are then set on every primary's disk. Marking tells md
// that the array is not clean from there on (it lowers resync_start); without putting that back it would resync the
// primaries too (drivers/md/md-bitmap.c, md_bitmap_dirty_bits, Linux 6.12). So it is done while syncs are frozen, and a
// second process undoes that if we die. All of them are marked, also those that are set on disk: the bitmap in memory is
// what counts, and after a bitmap was made anew the bits are set on disk alone.
func (s *session) mark(ctx context.Context, chunks md.Chunks) error {
	if chunks.Count() == 0 {
		return nil
	}
	clean, err := s.Array.Read("resync_start")
	if err != nil {
		return err
	}
	if err := s.notFrozen(report.Failed); err != nil {
		return err
	}
	action := s.env.FS.Path(s.Array.Attr("sync_action"))
	undo := []string{"write", action, "idle"}
	if clean == "none" {
		undo = []string{"write", s.env.FS.Path(s.Array.Attr("resync_start")), "none", action, "idle"}
	}
	signal.Ignore(syscall.SIGTSTP) // a stop in between would leave it frozen
	defer signal.Reset(syscall.SIGTSTP)
	g, err := startGuard(undo...)
	if err != nil {
		return err
	}
	s.acted = true
	if err := s.tune("sync_action", "frozen"); err != nil {
		return errors.Join(err, g.dismiss())
	}
	err = s.setBits(ctx, chunks)
	if err = errors.Join(err, g.end()); err != nil { // its end puts both attributes back
		return err
	}
	return errors.Join(s.forget("sync_action"), s.marked(chunks, clean))
}

// setBits writes one range at a time: the kernel reads no more than one, and cuts a longer text at a page.
func (s *session) setBits(ctx context.Context, chunks md.Chunks) error {
	s.env.Progress.Start("marking chunks in the bitmap")
	defer s.env.Progress.Done()
	ranges := chunks.Ranges()
	for i, r := range ranges {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		text := strconv.FormatUint(r.First, 10)
		if r.Last != r.First {
			text += "-" + strconv.FormatUint(r.Last, 10)
		}
		if err := s.Array.Write(text, "bitmap_set_bits"); err != nil {
			return err
		}
		s.env.Progress.Update(uint64(i), uint64(len(ranges)), "")
	}
	return nil
}

// marked looks at what marking has left: the bits on every primary's disk, and nothing else that would be resynced. The
// kernel answers success to marks that it did not understand.
func (s *session) marked(chunks md.Chunks, clean string) error {
	if now, err := s.Array.Read("resync_start"); err != nil || now != clean {
		return errors.Join(fmt.Errorf("%s: resync_start is %q and was %q", s.Array.Name, now, clean), err)
	}
	state, err := s.Array.State()
	if err != nil {
		return err
	}
	peers, err := s.primaries(state, s.drive.Name)
	if err != nil {
		return err
	}
	for _, p := range peers {
		b := p.member.Bitmap
		if b == nil {
			return fmt.Errorf("%s: no usable bitmap: %w", p.name, errors.Join(p.member.BitmapErr))
		}
		if left := chunks.Minus(b.Dirty).Count(); left > 0 {
			return fmt.Errorf("%s: %d of %d chunks are not marked on its disk", p.name, left, chunks.Count())
		}
	}
	return nil
}

// copiedInFull notes that the drive is a clone now.
func (s *session) copiedInFull() error {
	x, err := s.env.entry(s.drive.Member.Super.Device)
	if err != nil {
		return err
	}
	if x == nil {
		return fmt.Errorf("the ledger's entry of %s is gone", s.drive.Member.Super.Device)
	}
	x.FirstCopy, x.Complete = true, true
	return s.env.record(*x)
}
