package clone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// AdoptOptions are what adopt is asked for.
type AdoptOptions struct {
	Name      string // of the configuration; "" takes the array's own
	Chunk     uint64 // bytes of a bitmap chunk; 0 is auto
	Overwrite bool   // the drive may carry something
}

// ChunkFor is the bitmap chunk for members of size bytes: 1 MiB, and more where the bitmap would pass 2^20 bits (128 KiB
// on each member). A small chunk makes clones small: 200 scattered writes of 4 KiB on 1 GiB cost a clone of 896 MiB with
// mdadm's own 64 MiB, 177 with 1 MiB, 12 with 64 KiB; but random writes then write 1.06 and 1.60 times as much.
func ChunkFor(size uint64) uint64 {
	const least, most = 1 << 20, 1 << 20
	chunk := uint64(least)
	for size/chunk > most {
		chunk *= 2
	}
	return chunk
}

// adoption is one run of adopt.
type adoption struct {
	*session
	opts   AdoptOptions
	facts  Facts
	called string // name of the configuration
	seq    string // names the disk that was examined, see Env.diskSeq
	added  bool   // the drive was given to the array by this run
}

// Adopt makes a drive a clone of the array: bitmap, slot, record, first full copy. It stays attached.
func (t *Target) Adopt(ctx context.Context, path string, opts AdoptOptions) (*Result, error) {
	start := t.env.Now()
	s := &session{Target: t, result: &Result{Array: t.Conf.Name, Device: path, Mode: "full"}}
	unlock, err := t.env.Lock(t.Conf.UUID)
	if err == nil {
		defer unlock()
		if err := t.env.restoreLocked(t.Array, t.Conf.UUID, false); err != nil {
			t.env.Log.Warnf("%v", err)
		}
		a := &adoption{session: s, opts: opts}
		if err = a.examine(path); err == nil {
			err = a.carryOut(ctx)
			err = s.noRefusal(a.finishAdoption(ctx, err))
		}
	}
	s.result.Array = t.Conf.Name
	s.result.Seconds.Total = s.since(start)
	s.result.Result, s.result.Reasons = report.CodeOf(err).Result(), report.ReasonsOf(err)
	if code := report.CodeOf(err); code == report.Refused || code == report.Usage {
		s.result.Mode = ""
	} else {
		if e := t.env.remember(s.result, start); e != nil {
			t.env.Log.Warnf("history: %v", e)
		}
	}
	return s.result, err
}

// attached tells whether the drive is in the array already, and stays. One that failed there does not, nor does a spare
// that may be overwritten: a run that was killed before it had recorded its drive leaves that.
func (a *adoption) attached() bool {
	m := a.facts.Attached
	return m != nil && !m.Has("faulty") && (a.ownCopy() || !a.opts.Overwrite || !m.Spare())
}

// prepare makes the drive blank and gives the array a bitmap.
func (a *adoption) prepare(ctx context.Context) error {
	if a.facts.Attached != nil {
		if err := a.remove(a.drive.Name); err != nil {
			return err
		}
	}
	if err := a.bitmapFor(ctx); err != nil {
		return err
	}
	return a.wipe()
}

// carryOut changes the array and copies. The drive is added before the array is grown, and recorded in between: a run
// that is cut at any moment is found again by the next.
func (a *adoption) carryOut(ctx context.Context) error {
	if err := errors.Join(a.env.mayRecord(), a.env.mayConfigure()); err != nil {
		return err
	}
	if err := a.openRange(); err != nil {
		return err
	}
	peers, err := a.primaries(a.facts.Array, a.drive.Name)
	if err != nil {
		return err
	}
	a.rely(peers)
	if !a.attached() {
		a.acted = true
		if err := a.prepare(ctx); err != nil {
			return err
		}
	}
	if a.written, err = a.sectorsWritten(); err != nil {
		return err
	}
	a.hurry()
	if !a.attached() {
		a.added = true
		if err := a.add(ctx); err != nil {
			return err
		}
	}
	if err := a.register(); err != nil {
		return err
	}
	a.inside = true
	if err := a.takeSlot(ctx); err != nil {
		return err
	}
	return a.firstCopy(ctx)
}

func (a *adoption) firstCopy(ctx context.Context) error {
	start := a.env.Now()
	total := a.facts.Array.ComponentSize
	a.result.DirtyBytes = total
	if err := a.await(ctx, "first copy to "+a.drive.Name, total); err != nil {
		return err
	}
	a.result.Seconds.Sync = a.since(start)
	if err := a.sound(); err != nil {
		return err
	}
	stay, err := a.env.stay(a.Array, a.drive.Name)
	if err != nil {
		return err
	}
	err = a.env.record(Entry{
		Clone: a.result.Clone, Array: a.Conf.UUID, FirstCopy: true, Attached: true, Joined: stay, Complete: true, Slot: a.slot,
	})
	return errors.Join(a.allThere(), err)
}

// takeSlot gives the array one more slot where none is empty, and waits until the kernel has put the drive into it.
func (a *adoption) takeSlot(ctx context.Context) error {
	now, err := a.Array.State()
	if err != nil {
		return err
	}
	if m, ok := now.Member(a.drive.Name); ok && m.Slot < 0 && len(now.EmptySlots()) == 0 {
		want := now.RaidDisks + 1
		if err := a.mdadm(ctx, "--grow", a.Array.Path(), "--raid-devices="+strconv.Itoa(want)); err != nil {
			return err
		}
		if now, err = a.Array.State(); err != nil {
			return err
		}
		if now.RaidDisks != want {
			return fmt.Errorf("mdadm --grow said it was done, but %s has %d slots, not %d", a.Array.Name, now.RaidDisks, want)
		}
	}
	if a.slot, err = a.awaitSlot(); err != nil {
		return err
	}
	if a.slot != now.RaidDisks-1 {
		err := fmt.Errorf("the kernel put %s into slot %d, not into the last, %d", a.drive.Name, a.slot, now.RaidDisks-1)
		return errors.Join(err, a.takeBack()) // once it is in sync, it is in another's place for good
	}
	return nil
}

// mdadm runs mdadm; what it did is for the caller to look at.
func (a *adoption) mdadm(ctx context.Context, args ...string) error {
	// an interrupt is heeded between its runs, never in the middle of one
	out, err := a.env.Run(context.WithoutCancel(ctx), "mdadm", args...)
	if err != nil {
		return fmt.Errorf("mdadm %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out))
	}
	return nil
}

// bitmapFor makes sure that the array has a bitmap, of the chunk size that was asked for.
func (a *adoption) bitmapFor(ctx context.Context) error {
	old := a.facts.Primaries[0].Bitmap
	chunk := a.opts.Chunk
	switch {
	case old != nil && (chunk == 0 || chunk == uint64(old.ChunkBytes)):
		if want := ChunkFor(a.facts.Array.ComponentSize); uint64(old.ChunkBytes) > want {
			a.env.Log.Warnf("the bitmap of %s has chunks of %s: each changed block costs a clone that much (--chunk %dK is finer)",
				a.Array.Name, report.Bytes(uint64(old.ChunkBytes)), want>>10)
		}
		return nil
	case old != nil:
		if err := a.mdadm(ctx, "--grow", a.Array.Path(), "--bitmap=none"); err != nil {
			return err
		}
	}
	if chunk == 0 {
		chunk = ChunkFor(a.facts.Array.ComponentSize)
	}
	err := a.newBitmap(ctx, chunk)
	if err != nil && old != nil { // without one a power cut would cost a resync of everything
		err = errors.Join(err, a.newBitmap(ctx, uint64(old.ChunkBytes)))
	}
	return err
}

// newBitmap gives an array without a bitmap one, where mdadm finds room for it.
func (a *adoption) newBitmap(ctx context.Context, chunk uint64) error {
	err := a.mdadm(ctx, "--grow", a.Array.Path(), "--bitmap=internal", fmt.Sprintf("--bitmap-chunk=%dK", chunk>>10))
	if err != nil {
		return err
	}
	m, err := a.awaitBitmap(chunk)
	if err != nil {
		return err
	}
	a.env.Log.Infof("%s has a bitmap of %d chunks of %s", a.Array.Name, m.Bitmap.Dirty.Len(), report.Bytes(chunk))
	return nil
}

// awaitBitmap waits until the primary's disk has the bitmap: md's thread writes the superblock that names it.
func (a *adoption) awaitBitmap(chunk uint64) (*md.Member, error) {
	for end := a.env.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		m, err := md.ReadDevice(md.NodePath(a.peer))
		if err != nil {
			return nil, err
		}
		if m.Bitmap != nil && uint64(m.Bitmap.ChunkBytes) == chunk {
			return m, nil
		}
		if a.env.Now().After(end) {
			return nil, fmt.Errorf("mdadm --grow --bitmap said it was done, but %s has no bitmap with chunks of %s on its disk: %w",
				a.peer, report.Bytes(chunk), errors.Join(m.BitmapErr))
		}
	}
}

// wipe takes what the drive carries off it: the first and last MiB, where all signatures are.
func (a *adoption) wipe() error {
	d, err := md.OpenDisk(a.drive.Path, unix.O_RDWR|unix.O_EXCL)
	if err != nil {
		return err
	}
	// it is held now: is it still the drive that was looked at, and is that as it was?
	m, _ := md.ReadMember(d, d.Size()) // mostly it is none
	err = a.sameDisk()
	if now, then := rawOf(m), rawOf(a.drive.Member); err == nil && (uint64(d.Size()) != a.facts.DriveBytes || !bytes.Equal(now, then)) {
		err = anotherDrive(a.drive.Name)
	}
	if err != nil {
		return errors.Join(err, d.Close())
	}
	zero := md.AlignedBuffer(int(min(1<<20, d.Size()) &^ 4095))
	err = errors.Join(d.WriteAligned(zero, 0), d.WriteAligned(zero, (d.Size()-int64(len(zero)))&^4095))
	if e := unix.IoctlSetInt(d.FD(), unix.BLKRRPART, 0); e != nil && !errors.Is(e, unix.EINVAL) { // EINVAL: a partition itself
		err = errors.Join(err, fmt.Errorf("read the partition table of %s again: %w", a.drive.Path, e))
	}
	return errors.Join(err, d.Close())
}

// sameDisk is an error where the drive's name is another disk's than when it was examined.
func (a *adoption) sameDisk() error {
	now, err := a.env.diskSeq(a.drive.Name)
	if err == nil && now != a.seq {
		err = anotherDrive(a.drive.Name)
	}
	return err
}

func anotherDrive(name string) error {
	return report.Fail(report.Failed, "other-drive", "%s is another drive now", name)
}

// diskSeq names a disk for as long as the machine runs: its kernel name may be another one's later
// (Documentation/ABI/stable/sysfs-block, diskseq); "" where the kernel knows none, before 5.15.
func (e *Env) diskSeq(name string) (string, error) {
	text, err := e.FS.Read("class/block", e.FS.DiskOf(name), "diskseq")
	if errors.Is(err, fs.ErrNotExist) && e.FS.Exists("class/block", name) {
		return "", nil
	}
	return text, err
}

func rawOf(m *md.Member) []byte {
	if m == nil {
		return nil
	}
	return m.Raw
}

// add lets mdadm write the drive's superblock and add it, and has the kernel mark it write-mostly: with --write-mostly
// mdadm 4.2 writes the role of a spare as faulty. mdadm gives it a log of bad blocks (its --add knows no way without), so
// each cycle looks into that.
func (a *adoption) add(ctx context.Context) error {
	if err := a.sameDisk(); err != nil {
		return err
	}
	if err := a.mdadm(ctx, "--manage", a.Array.Path(), "--add", a.drive.Path); err != nil {
		return err
	}
	if err := a.Array.Write("writemostly", "dev-"+a.drive.Name, "state"); err != nil {
		return err
	}
	m, err := a.Array.Member(a.drive.Name)
	if err != nil {
		return err
	}
	if m.Has("faulty") || !m.Has("write_mostly") {
		return fmt.Errorf("mdadm --add said it was done, but %s is %s", a.drive.Name, strings.Join(m.Flags, ","))
	}
	return nil
}

// register reads what mdadm wrote on the drive and records it, before the copy: a run that is cut finds it again.
func (a *adoption) register() error {
	m, err := md.ReadDevice(a.drive.Path)
	if err != nil {
		return err
	}
	if m.Super.Array != a.Conf.UUID {
		return fmt.Errorf("%s has a superblock of array %s after it was added", a.drive.Name, m.Super.Array)
	}
	a.drive.Member, a.result.Clone = m, m.Super.Device
	stay, err := a.env.stay(a.Array, a.drive.Name)
	if err != nil {
		return err
	}
	// the configuration last: what it names is a clone
	if err := a.env.record(Entry{Clone: m.Super.Device, Array: m.Super.Array, Attached: true, Joined: stay, Slot: -1}); err != nil {
		return err
	}
	return a.configure(m.Super)
}

// configure writes NAME.conf.
func (a *adoption) configure(s *md.Superblock) error {
	c, save := a.Conf, config.Array.Save
	if !a.Configured {
		c.Name, save = a.called, config.Array.Create
	}
	// a first copy that was cut leaves an identity that nothing carries any more
	c.Clones = slices.DeleteFunc(slices.Clone(c.Clones), func(u md.UUID) bool {
		return a.facts.Recorded && a.facts.Drive != nil && u == a.facts.Drive.Super.Device && u != s.Device
	})
	if !c.HasClone(s.Device) {
		c.Clones = append(c.Clones, s.Device)
	}
	if kb := a.facts.DriveQueue.MaxSectorsKB; c.CloneMaxSectorsKB == 0 || kb < c.CloneMaxSectorsKB {
		c.CloneMaxSectorsKB = kb
	}
	if s.Minor == 0 && c.Verify != config.VerifyFull {
		a.env.Log.Warnf("metadata 1.0: the clone can be mounted without md and nothing tells; every cycle compares all of it")
	}
	a.Conf, a.Configured = c, true
	return save(c, a.env.Root)
}

// finishAdoption puts everything back. A first copy that was cut is taken out: md cannot resume it. So is a drive that failed.
func (a *adoption) finishAdoption(ctx context.Context, err error) error {
	switch {
	case err != nil && ctx.Err() == nil && a.inside:
		err = a.dropFailed(err)
	case err != nil && ctx.Err() != nil:
		err = interrupted(context.Canceled)
		if a.inside {
			a.env.Log.Infof("interrupted: taking %s out; a first copy starts from the beginning when adopt is run again", a.drive.Name)
			if e := a.takeBack(); e != nil {
				err = report.Fail(report.Failed, "interrupted", "interrupted, and %s could not be taken out of %s: %w", a.drive.Name, a.Array.Name, e).
					Hint("run this again, which goes on with it")
			}
		}
	}
	if err != nil && a.added && !a.inside && a.env.FS.Exists(a.Array.Attr("dev-"+a.drive.Name)) {
		err = errors.Join(err, a.undoAdd())
	}
	err = errors.Join(err, a.untune())
	a.account()
	return err
}

// undoAdd takes out a drive of which nothing is recorded, and its superblock off it: mdadm would put it in again as a spare.
func (a *adoption) undoAdd() error {
	added, err := md.ReadDevice(a.drive.Path)
	if err != nil {
		return errors.Join(err, a.remove(a.drive.Name))
	}
	a.drive.Member = added
	if err := a.takeBack(); err != nil { // never the last good copy
		return err
	}
	if a.drive.Member, err = md.ReadDevice(a.drive.Path); err != nil {
		return err
	}
	if now := a.drive.Member.Super; now.Array != a.Conf.UUID || now.Device != added.Super.Device {
		return report.Fail(report.Failed, "other-drive", "%s is another drive now (%s)", a.drive.Name, now.Device)
	}
	return errors.Join(a.wipe(), removeDurably(a.env.entryPath(added.Super.Device)))
}

// dropFailed takes a drive out that has failed, whatever it was that went wrong then.
func (a *adoption) dropFailed(err error) error {
	state, e := a.Array.State()
	code := reasonCode(err)
	if _, in := state.Member(a.drive.Name); e != nil || !in || !a.failed() || code == "bad-blocks" {
		return errors.Join(err, e)
	}
	if code != "drive-failed" {
		err = errors.Join(driveFailed(a.drive.Name), err)
	}
	return errors.Join(err, a.drop(state))
}
