package md

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/sysfs"
)

// Found is a block device with md metadata that can be read.
type Found struct {
	Name   string // kernel name
	Path   string // node
	Member *Member
}

// Patience is how long a disk may leave requests unanswered before it is passed over. A drive that spins up takes some ten
// seconds.
const Patience = 20 * time.Second

// ErrSilent says that a disk does not answer.
var ErrSilent = errors.New("does not answer")

// Scanner looks at all disks, maybe again and again.
type Scanner struct {
	FS sysfs.FS
	// Patience is that with a disk that does not answer, over all looks.
	Patience time.Duration
	Silent   func(disk string) // told once of each that it has no more patience with; nil for nobody

	silent map[string]silence // by disk
}

// silence is that of a disk on which requests are under way.
type silence struct {
	since time.Time
	ended string // what has ended before
	told  bool
}

// NotLookedAt is what there is to say of a disk that does not answer.
func NotLookedAt(disk string) string { return disk + " does not answer, and is not looked at" }

// Scan is one look, with the usual patience.
func Scan(f sysfs.FS) (found []Found, errs map[string]error, err error) {
	return (&Scanner{FS: f, Patience: Patience}).Scan()
}

// Scan reads the superblock of every block device that could be a member. Devices without md metadata, empty drives and
// those that something else is stacked on (dm-multipath over sda: the upper one counts) are left out, suspended dm devices too.
// A device that cannot be read is left out too and its error is in errs by name: ErrSilent where it does not answer.
func (s *Scanner) Scan() (found []Found, errs map[string]error, err error) {
	names, err := s.FS.List("class/block")
	if err != nil {
		return nil, nil, err
	}
	errs = map[string]error{}
	names = slices.DeleteFunc(names, func(n string) bool { return !couldBeMember(s.FS, n) })
	for _, n := range s.answering(names) {
		m, err := ReadDevice(NodePath(n))
		switch {
		case errors.Is(err, ErrNoSuperblock):
		case err != nil:
			errs[n] = err
		default:
			found = append(found, Found{Name: n, Path: NodePath(n), Member: m})
		}
	}
	for _, n := range names {
		if _, silent := s.silent[s.FS.DiskOf(n)]; silent {
			errs[n] = ErrSilent
		}
	}
	return found, errs, nil
}

// answering are those of the named devices of which a read may be expected to end.
func (s *Scanner) answering(names []string) []string {
	for _, n := range names { // the patience with all of them begins now
		s.answersNow(s.FS.DiskOf(n))
	}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !s.Answers(n) })
}

// Answers tells whether a read of a device may be expected to end: nothing is under way on its disk, or something ends there
// while there is patience. A read, or only an open, would wait with the others, in the kernel, where nothing ends it.
func (s *Scanner) Answers(name string) bool {
	disk := s.FS.DiskOf(name)
	for !s.answersNow(disk) {
		if was := s.silent[disk]; time.Since(was.since) >= s.Patience {
			if !was.told && s.Silent != nil {
				was.told = true
				s.silent[disk] = was
				s.Silent(disk)
			}
			return false
		}
		time.Sleep(5 * time.Millisecond) // that a request ends is not announced
	}
	return true
}

// MayRead is Answers, and false of a dm device that is suspended.
func (s *Scanner) MayRead(name string) bool { return !suspended(s.FS, name) && s.Answers(name) }

func (s *Scanner) answersNow(disk string) bool {
	busy, ended := requests(s.FS, disk)
	was, known := s.silent[disk]
	if !busy || known && was.ended != ended {
		delete(s.silent, disk)
		return true
	}
	if !known {
		if s.silent == nil {
			s.silent = map[string]silence{}
		}
		s.silent[disk] = silence{since: time.Now(), ended: ended}
	}
	return false
}

// requests tells whether requests are under way on a disk, and what changes when one ends (Documentation/block/stat.rst: how
// many reads, writes, discards and flushes there were). A disk that went away has none.
func requests(f sysfs.FS, disk string) (busy bool, ended string) {
	inflight, err := f.Read("class/block", disk, "inflight")
	if err != nil || strings.Trim(inflight, " 0\n") == "" {
		return false, ""
	}
	text, err := f.Read("class/block", disk, "stat")
	if err != nil {
		return false, ""
	}
	for i, field := range strings.Fields(text) {
		if i == 0 || i == 4 || i == 11 || i == 15 {
			ended += field + " "
		}
	}
	return true, ended
}

// suspended tells whether a read of a device would wait for whoever suspended it, and could not be killed.
func suspended(f sysfs.FS, name string) bool {
	state, err := f.Read("class/block", name, "dm/suspended")
	return err == nil && state != "0"
}

func couldBeMember(f sysfs.FS, name string) bool {
	for _, prefix := range []string{"md", "ram", "zram", "sr", "fd"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	if size, err := f.Uint("class/block", name, "size"); err != nil || size == 0 {
		return false
	}
	if suspended(f, name) {
		return false
	}
	holders, err := f.List("class/block", name, "holders")
	if err != nil {
		return false
	}
	for _, h := range holders {
		if !strings.HasPrefix(h, "md") {
			return false
		}
	}
	return true
}

// KernelName is the kernel's name of the block device that a node is, whatever the node is called
// ("/dev/disk/by-id/x" is "sda", "/dev/mapper/x" is "dm-0").
func KernelName(f sysfs.FS, path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s is not a block device", path)
	}
	link := f.Path("dev/block", fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	target, err := os.Readlink(link)
	if err != nil {
		return "", err
	}
	return filepath.Base(target), nil
}
