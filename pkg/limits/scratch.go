package limits

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/dm"
	"mdclone/pkg/md"
	"mdclone/pkg/sysfs"
)

// The test of the running kernel: a mirror of its own in memory with a dm device on it, which a member with a small limit
// joins. None of it is found by assembly: it has no metadata, and dm starts nothing on a device that bears no flags.

const (
	scratchArray = "md1000001" // md makes what is asked for by number; of what has a name Linux 7.2 leaves an empty device behind
	scratchDM    = "mdclone-probe"
	scratchSize  = 4 << 20 // bytes of each member
	scratchBound = time.Minute
	lockBound    = 3 * time.Second
	newArray     = "module/md_mod/parameters/new_array"
)

// ErrLeftover is a device of the scratch array's name that is not ours, or cannot be told to be.
var ErrLeftover = errors.New("there is a device of that name")

// Scratch is the mirror for one trial.
type Scratch struct {
	fs      sysfs.FS
	array   md.Array
	numbers []int // that its loop devices may have
	loops   []*loop
	top     *md.Disk
}

// NewScratch plans a scratch mirror; nothing is made yet. What an earlier one left, whose guard was killed too, is
// removed, if it is certain that it is ours. The lock must be held: what another probe makes this moment looks the same.
func NewScratch(f sysfs.FS) (*Scratch, error) {
	if f.Exists("block", scratchArray) {
		ours, err := ourArray(f)
		if err == nil && !ours {
			err = fmt.Errorf("%s: %w", scratchArray, ErrLeftover)
		}
		if err == nil {
			err = removeArray(f, time.Now().Add(scratchBound))
		}
		if err != nil {
			return nil, err
		}
	}
	numbers, err := freeLoops(f, time.Now().Add(lockBound), deleteLoop)
	if err != nil {
		return nil, err
	}
	if len(numbers) < 2 {
		return nil, ErrNoLoops
	}
	return &Scratch{fs: f, array: md.Array{FS: f, Name: scratchArray}, numbers: numbers}, nil
}

// ourArray tells whether the array of the scratch array's name is one, by what its members are on.
func ourArray(f sysfs.FS) (bool, error) {
	members, err := f.List("block", scratchArray, "slaves")
	if err != nil || !f.Exists("block", scratchArray, "md") {
		return false, err
	}
	for _, m := range members {
		if ours, err := ourLoop(f, m); err != nil || !ours {
			return false, err
		}
	}
	return true, nil
}

// Loops are the numbers that its loop devices may have, which RemoveScratch must know.
func (s *Scratch) Loops() []int { return s.numbers }

// LockScratch makes this the only process that has a scratch mirror: the file must stay open, in the guard too, until
// all is removed. unix.EWOULDBLOCK says that there is another.
func LockScratch(s sysfs.FS) (*os.File, error) {
	f, err := os.OpenFile(s.Path(newArray), os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	// one that was killed a moment ago is gone soon, which is not announced
	for until := time.Now().Add(lockBound); ; time.Sleep(50 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(until) {
			return nil, errors.Join(&os.PathError{Op: "lock", Path: f.Name(), Err: err}, f.Close())
		}
	}
}

// smallKB is the limit of the member that joins: the kernel takes no less than a page.
func smallKB() uint64 { return max(16, uint64(os.Getpagesize())>>10) }

// Run makes the mirror and tries it, with files in memory or in dir. Close closes what it opened, also after an error;
// what is made is removed by RemoveScratch.
func (s *Scratch) Run(ctx context.Context, dir string) (Trial, error) {
	t := Trial{MemberKB: smallKB()}
	rest := s.numbers
	for range 2 {
		file, err := backing(dir, scratchSize)
		if err != nil {
			return t, err
		}
		var l *loop
		rest, err = takeLoop(rest, func(n int) (err error) { l, err = newLoop(n, file); return err })
		if err != nil {
			return t, errors.Join(err, file.Close())
		}
		s.loops = append(s.loops, l)
	}
	// the loop device is ours alone and ends with the trial, and its limit with it
	if err := s.fs.SetUint(t.MemberKB, "block", s.loops[1].name, "queue/max_sectors_kb"); err != nil {
		return t, err
	}
	if err := s.build(); err != nil {
		return t, err
	}
	if err := s.stack(); err != nil {
		return t, err
	}
	err := s.try(ctx, &t)
	return t, err
}

// build starts a mirror without metadata of the first loop device and an empty slot.
func (s *Scratch) build() error {
	if err := s.fs.Write(scratchArray, newArray); err != nil {
		return err
	}
	dev, err := s.fs.Read("block", s.loops[0].name, "dev")
	if err != nil {
		return err
	}
	// what is given a slot before the start is taken for in sync (drivers/md/md.c, slot_store, Linux 6.12)
	member := "dev-" + s.loops[0].name
	for _, set := range []struct{ value, attr string }{
		{"none", "metadata_version"},
		{"raid1", "level"},
		{"2", "raid_disks"},
		{strconv.Itoa(scratchSize >> 10), "component_size"},
		{dev, "new_dev"},
		{"0", member + "/slot"},
		{"active", "array_state"},
	} {
		if err := s.array.Write(set.value, set.attr); err != nil {
			return err
		}
	}
	return nil
}

// stack puts a dm device on the mirror and opens it; from then on it ends when it is closed.
func (s *Scratch) stack() error {
	below, err := s.fs.Read("block", scratchArray, "dev")
	if err != nil {
		return err
	}
	control, err := dm.Open("/")
	if err != nil {
		return err
	}
	defer control.Close()
	dev, err := control.CreateLinear(scratchDM, below, scratchSize/512)
	if err != nil {
		return err
	}
	_, minor, _ := strings.Cut(dev, ":")
	if s.top, err = md.OpenDisk("/dev/dm-"+minor, unix.O_RDWR); err != nil {
		return err
	}
	return control.Remove(scratchDM)
}

// try makes the requests, with the member that has the small limit joining in between.
func (s *Scratch) try(ctx context.Context, t *Trial) error {
	holders, err := Holders(s.fs, scratchArray)
	if err != nil {
		return err
	}
	if len(holders) != 1 {
		return fmt.Errorf("%d devices are on %s", len(holders), scratchArray)
	}
	if t.ArrayBefore, err = s.fs.Uint("block", scratchArray, "queue/max_sectors_kb"); err != nil {
		return err
	}
	w := &writer{ctx: ctx, device: s.top, image: make([]byte, scratchSize)}
	if err := s.bounded(ctx, func() { t.Before = w.sweep(4<<10, largest) }); err != nil || t.Before != nil {
		return err
	}
	if err := s.join(ctx); err != nil {
		return err
	}
	if t.ArrayAfter, err = s.fs.Uint("block", scratchArray, "queue/max_sectors_kb"); err != nil {
		return err
	}
	if t.HolderKB, err = s.fs.Uint("block", holders[0].Name, "queue/max_sectors_kb"); err != nil {
		return err
	}
	// reads come from the member with the small limit where there is a choice
	if err := s.array.Write("writemostly", "dev-"+s.loops[0].name, "state"); err != nil {
		return err
	}
	small := int(t.MemberKB << 10)
	if err := s.bounded(ctx, func() { t.Small = w.sweep(4<<10, small) }); err != nil || t.Small != nil {
		return err
	}
	if err := s.bounded(ctx, func() { t.Large = errors.Join(w.sweep(2*small, largest), w.readAll(2*small, largest)) }); err != nil {
		return err
	}
	return s.look(w, t)
}

// look finds out which members md has failed, and which do not hold what was written.
func (s *Scratch) look(w *writer, t *Trial) error {
	for _, l := range s.loops {
		m, err := s.array.Member(l.name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if !m.InSync() {
			t.Faulty = append(t.Faulty, l.name)
		}
		held := make([]byte, len(w.image))
		if _, err := l.file.ReadAt(held, 0); err != nil {
			return err
		}
		if string(held) != string(w.image) {
			t.Differ = append(t.Differ, l.name)
		}
	}
	return nil
}

// join lets the second loop device into the empty slot and waits until it is in sync.
func (s *Scratch) join(ctx context.Context) error {
	if err := s.array.AddSpare("/dev/" + s.loops[1].name); err != nil {
		return err
	}
	w, err := s.fs.Watch(s.array.Attr("dev-"+s.loops[1].name, "state"), s.array.Attr("sync_action"))
	if err != nil {
		return err
	}
	defer w.Close()
	for until := time.Now().Add(scratchBound); ; {
		m, err := s.array.Member(s.loops[1].name)
		if err != nil {
			return err
		}
		if m.InSync() {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("%s is not in sync after %s", m.Name, scratchBound)
		}
		if err := w.Wait(ctx, time.Second); err != nil {
			return err
		}
	}
}

// bounded runs do, which a kernel with a bug may never end: then what do uses stays open.
func (s *Scratch) bounded(ctx context.Context, do func()) error {
	done := make(chan struct{})
	go func() { do(); close(done) }()
	select {
	case <-done:
		return context.Cause(ctx)
	case <-time.After(scratchBound):
		s.top = nil
		return fmt.Errorf("requests are not answered for %s", scratchBound)
	}
}

// Close closes what Run has opened.
func (s *Scratch) Close() error {
	var errs []error
	if s.top != nil {
		errs = append(errs, s.top.Close())
	}
	for _, l := range s.loops {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// RemoveScratch removes all that a Scratch with these loop devices makes; what is not there is removed already, and loop
// devices of these numbers that others have are left alone.
func RemoveScratch(f sysfs.FS, loops []int) error {
	until := time.Now().Add(scratchBound)
	errs := []error{removeArray(f, until)}
	for _, n := range loops {
		errs = append(errs, removeLoop(f, n, until, deleteLoop))
	}
	return errors.Join(errs...)
}

// removeArray removes the scratch array and the dm device on it.
func removeArray(f sysfs.FS, until time.Time) error {
	var errs []error
	if control, err := dm.Open("/"); err == nil {
		if err := control.Remove(scratchDM); err != nil && !errors.Is(err, unix.ENXIO) {
			errs = append(errs, err)
		}
		control.Close()
	}
	errs = append(errs, retry(until, func() error {
		if !f.Exists("block", scratchArray) {
			return nil
		}
		err := md.Array{FS: f, Name: scratchArray}.Stop()
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
			return fmt.Errorf("%s is still there: %w", scratchArray, unix.EBUSY) // md takes it away in a work of its own
		}
		return err
	}))
	return errors.Join(errs...)
}
