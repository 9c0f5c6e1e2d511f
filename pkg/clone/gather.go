package clone

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/limits"
	"mdclone/pkg/md"
)

// Target is one array that a command works on, with what is configured for it.
type Target struct {
	env        *Env
	Array      md.Array
	Conf       config.Array
	Configured bool // Conf comes from a file

	absent   error     // why there is no Array; nil if there is
	changed  []tunable // what tune has changed
	guard    *guard    // makes a read-only array writable if we die
	restorer *guard    // puts the tunables back if we die
	doubted  bool      // a clone of it is to be compared in full
}

// Drive is a clone drive that was found.
type Drive struct {
	Name   string // kernel name
	Path   string
	Member *md.Member // nil without a readable superblock
	Err    error      // why Member is nil
}

// readDrive looks at one device, whatever is on it.
func (e *Env) readDrive(path string) (Drive, error) {
	name, err := md.KernelName(e.FS, path)
	if err != nil {
		return Drive{}, err
	}
	d := Drive{Name: name, Path: md.NodePath(name)}
	d.Member, d.Err = md.ReadDevice(d.Path)
	if errors.Is(d.Err, unix.ENOMEDIUM) || errors.Is(d.Err, unix.ENXIO) {
		return Drive{}, d.Err
	}
	return d, nil
}

// primaries reads the in-sync members that are no clone, from their disks, the freshest first. except is the drive that
// is asked about, which may be a clone that is recorded nowhere.
func (t *Target) primaries(s md.State, except string) ([]peer, error) {
	var out []peer
	var failed error
	for _, m := range s.Members {
		if !m.InSync() || m.Name == except {
			continue
		}
		if !t.env.scanner().MayRead(m.Name) {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", m.Name, md.ErrSilent))
			continue
		}
		member, err := md.ReadDevice(md.NodePath(m.Name))
		if err != nil { // pulled out this moment, and the kernel has not seen it: another one may do
			failed = errors.Join(failed, err)
			continue
		}
		if !t.Conf.HasClone(member.Super.Device) {
			out = append(out, peer{m.Name, member})
			for i := len(out) - 1; i > 0 && out[i-1].member.Super.Events < member.Super.Events; i-- {
				out[i-1], out[i] = out[i], out[i-1]
			}
		}
	}
	if len(out) == 0 && failed != nil {
		return nil, failed
	}
	return out, nil
}

// Facts reads all that the verdict on a drive rests on.
func (t *Target) Facts(d Drive) (Facts, error) {
	var f Facts
	damaged, err := t.factsBesideLedger(&f, d)
	if err == nil {
		err = damaged
	}
	return f, err
}

// factsBesideLedger is Facts also where records in the ledger are damaged: the facts are as if there were none.
func (t *Target) factsBesideLedger(f *Facts, d Drive) (damaged, err error) {
	e := t.env
	*f = Facts{ArrayName: t.Array.Name, ArrayUUID: t.Conf.UUID, DriveName: d.Name, Drive: d.Member, DriveErr: d.Err}
	if f.Array, err = t.Array.State(); err != nil {
		return nil, err
	}
	peers, err := t.primaries(f.Array, d.Name)
	if err != nil {
		return nil, err
	}
	for _, p := range peers {
		f.Primaries = append(f.Primaries, p.member)
		switch bad, err := t.Array.BadBlocks(p.name); {
		case errors.Is(err, fs.ErrNotExist): // it left meanwhile
		case err != nil:
			return nil, err
		case bad:
			f.BadMembers = append(f.BadMembers, p.name)
		}
	}
	if f.Queue, err = limits.Read(e.FS, t.Array.Name); err != nil {
		return nil, err
	}
	if f.Holders, err = limits.Holders(e.FS, t.Array.Name); err != nil {
		return nil, err
	}
	if f.InUse, err = t.inUse(); err != nil {
		return nil, err
	}
	if err = t.driveFacts(f, d); err != nil {
		return nil, err
	}
	var u md.UUID
	if d.Member != nil {
		u = d.Member.Super.Device
		f.Recorded = t.Conf.HasClone(u)
		f.Ledger, damaged = e.entry(u)
		if f.Twin, err = e.twin(d, f.Attached); err != nil {
			return nil, err
		}
	}
	if f.Policy, err = e.readdPolicy(); err != nil {
		return nil, err
	}
	f.OtherClones, f.AwayClones = t.otherClones(u)
	return damaged, nil
}

// otherClones counts the recorded clones besides u, and those of them that are not in the array. One whose first copy was never
// finished rests on nothing; one whose record is damaged may be there.
func (t *Target) otherClones(u md.UUID) (all, away int) {
	for _, c := range t.Conf.Clones {
		if c == u {
			continue
		}
		x, err := t.env.entry(c)
		if err != nil && !errors.Is(err, fs.ErrPermission) { // what one of them is known by is no matter of another's
			t.env.Log.Warnf("%v", err)
		}
		if x != nil && !x.FirstCopy {
			continue
		}
		all++
		// of two that are copies of each other nobody knows which it is
		if d, err := t.env.findClone(c); err != nil || d == nil || !t.attached(*d) {
			away++
		}
	}
	return all, away
}

// twin names another drive with the identity of d; "" if there is none. Of one that is in the array md knows which it is.
func (e *Env) twin(d Drive, in *md.MemberState) (string, error) {
	if in != nil && !in.Failed() {
		return "", nil
	}
	found, _, err := e.scanner().Scan()
	return twinOf(d, found), err
}

func twinOf(d Drive, found []md.Found) string {
	for _, f := range found {
		if f.Name != d.Name && f.Member.Super.Device == d.Member.Super.Device {
			return f.Name
		}
	}
	return ""
}

// bothAre is why neither of two drives counts: a copy was made with dd, and either could be the wrong one.
func bothAre(a, b string, u md.UUID) string {
	return fmt.Sprintf("%s and %s both are %s: one is a copy of the other; unplug it", a, b, u)
}

func (t *Target) driveFacts(f *Facts, d Drive) error {
	fs := t.env.FS
	var err error
	if f.DriveQueue, err = limits.Read(fs, d.Name); err != nil {
		return err
	}
	sectors, err := fs.Uint("class/block", d.Name, "size")
	if err != nil {
		return err
	}
	f.DriveBytes = sectors * 512
	ro, err := fs.Uint("class/block", d.Name, "ro")
	if err != nil {
		return err
	}
	f.ReadOnly = ro != 0
	if m, ok := f.Array.Member(d.Name); ok {
		f.Attached = &m
		f.Stay, err = t.env.stay(t.Array, d.Name)
		return err
	}
	users, err := t.env.users(d.Name)
	if err != nil {
		return err
	}
	for _, u := range users {
		f.Uses = append(f.Uses, u.String())
	}
	f.Uses = append(f.Uses, t.underneath(d.Name)...)
	if len(f.Uses) == 0 && !f.ReadOnly {
		held, err := heldExclusively(d.Path)
		if err != nil {
			return err
		}
		if held {
			f.Uses = append(f.Uses, "another program has it open exclusively"+t.env.openers(md.NodePath(d.Name)))
		}
	}
	return nil
}

// underneath says what else a drive is: the array itself or something on it, or a loop device over any of that or over a
// member. The kernel claims nothing for a loop device, so no other look shows it.
func (t *Target) underneath(name string) []string {
	f := t.env.FS
	var out []string
	if arrays, err := limits.Below(f, name); err == nil && slices.Contains(arrays, t.Array.Name) {
		out = append(out, "it is, or lies on, "+t.Array.Name)
	}
	loop := t.env.FS.DiskOf(name)
	file, err := f.Read("class/block", loop, "loop/backing_file")
	if err != nil {
		return out // no loop device
	}
	below, device, err := t.env.holding(file)
	if err != nil {
		return append(out, fmt.Sprintf("it is a loop device, and what is below it cannot be told: %v", err))
	}
	if below == "" {
		return out // a file in memory
	}
	arrays, err := limits.Below(f, below)
	var users []user
	if err == nil && device {
		users, err = t.env.usersBeside(below, []string{loop})
	}
	switch {
	case err != nil:
		out = append(out, fmt.Sprintf("it is a loop device over %s: %v", below, err))
	case slices.Contains(arrays, t.Array.Name):
		out = append(out, "it is a loop device over something on "+t.Array.Name)
	case len(users) > 0:
		out = append(out, fmt.Sprintf("it is a loop device over %s: %s", below, users[0]))
	}
	return out
}

// holding is the kernel name of the block device that a file is (device), or lies on; "" for a file in memory.
func (e *Env) holding(file string) (name string, device bool, err error) {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(e.Root, file), &st); err != nil {
		return "", false, &os.PathError{Op: "stat", Path: file, Err: err}
	}
	dev := st.Dev
	if device = st.Mode&unix.S_IFMT == unix.S_IFBLK; device {
		dev = st.Rdev
	}
	link, err := os.Readlink(e.FS.Path("dev/block", fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))))
	if errors.Is(err, fs.ErrNotExist) {
		return "", device, nil
	}
	return filepath.Base(link), device, err
}

// inUse tells whether anything is on the array: a holder, a mount, swap, or an exclusive opener.
func (t *Target) inUse() (bool, error) {
	users, err := t.env.users(t.Array.Name)
	if err != nil || len(users) > 0 {
		return true, err
	}
	return heldExclusively(t.Array.Path())
}

// heldExclusively tells whether somebody has the block device claimed: a mount, dm, md, swap.
func heldExclusively(path string) (bool, error) {
	d, err := md.OpenDisk(path, unix.O_RDONLY|unix.O_EXCL)
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, d.Close()
}

// findClone finds the drive whose md device UUID is u, by what is on the drives; nil if none is plugged in. Two drives
// with one identity (a copy made with dd) are an error: either could be the wrong one.
func (e *Env) findClone(u md.UUID) (*Drive, error) {
	found, _, err := e.scanner().Scan()
	if err != nil {
		return nil, err
	}
	var out *Drive
	for _, f := range found {
		if f.Member.Super.Device != u {
			continue
		}
		if out != nil {
			return nil, errors.New(bothAre(out.Name, f.Name, u))
		}
		out = &Drive{Name: f.Name, Path: f.Path, Member: f.Member}
	}
	return out, nil
}

// findTooSmall finds a drive that the clone u was copied to and that is too small for it; nil if there is none.
func (e *Env) findTooSmall(u md.UUID) (*Drive, error) {
	_, unreadable, err := e.scanner().Scan()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(unreadable)) {
		var small *md.TooSmallError
		if errors.As(unreadable[name], &small) && small.Super.Device == u {
			return &Drive{Name: name, Path: md.NodePath(name), Err: unreadable[name]}, nil
		}
	}
	return nil, nil
}
