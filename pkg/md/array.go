package md

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mdclone/pkg/sysfs"
)

// Array is one md device of the running kernel.
type Array struct {
	FS   sysfs.FS
	Name string // "md0", "md127"
}

// Path is the device node.
func (a Array) Path() string { return NodePath(a.Name) }

// NodePath is the node of a kernel block device name, where '!' stands for '/'.
func NodePath(name string) string { return "/dev/" + strings.ReplaceAll(name, "!", "/") }

// Attr is the path below sysfs of an attribute in the array's md directory (Documentation/admin-guide/md.rst).
func (a Array) Attr(elem ...string) string {
	return filepath.Join(append([]string{"block", a.Name, "md"}, elem...)...)
}

// Read reads an md attribute.
func (a Array) Read(elem ...string) (string, error) { return a.FS.Read(a.Attr(elem...)) }

// Write writes an md attribute.
func (a Array) Write(value string, elem ...string) error { return a.FS.Write(value, a.Attr(elem...)) }

// State is the array as sysfs shows it at one moment.
type State struct {
	Level         string // "raid1"
	Metadata      string // "1.2"
	ArrayState    string // clear, inactive, readonly, read-auto, clean, active, write-pending, active-idle, ...
	SyncAction    string // idle, frozen, resync, recover, check, repair, reshape; "" if the array is not active
	RaidDisks     int    // slots
	Degraded      int    // empty slots
	ComponentSize uint64 // bytes of each member that are used
	Suspended     bool   // who writes to a part of it is held up, and cannot be killed (suspend_lo, suspend_hi)
	Members       []MemberState
}

// MemberState is one dev-* directory of an array.
type MemberState struct {
	Name  string   // kernel name of the block device: "sda", "vdb1", "cciss!c0d0"
	Slot  int      // -1 for none
	Flags []string // in_sync, faulty, write_mostly, spare, blocked, ...
	Gone  bool     // the device is unplugged; md goes on holding it under its name, and calls it in sync until it writes to it
}

// Has tells whether a member has a flag of md.rst's dev-XXX/state.
func (m MemberState) Has(flag string) bool { return slices.Contains(m.Flags, flag) }

// InSync tells whether the member holds current data in a slot.
func (m MemberState) InSync() bool { return m.Has("in_sync") && !m.Failed() && m.Slot >= 0 }

// Failed tells whether the member takes part in nothing any more.
func (m MemberState) Failed() bool { return m.Has("faulty") || m.Gone }

// Spare tells whether the member has no slot, and has not failed.
func (m MemberState) Spare() bool { return m.Slot < 0 && !m.Failed() }

// Active tells whether an array in this state can be read and written.
func (s State) Active() bool {
	switch s.ArrayState {
	case "", "clear", "inactive", "suspended", "broken":
		return false
	}
	return true
}

// Member finds a member by kernel name.
func (s State) Member(name string) (MemberState, bool) {
	for _, m := range s.Members {
		if m.Name == name {
			return m, true
		}
	}
	return MemberState{}, false
}

// AtSlot finds the member that fills a slot.
func (s State) AtSlot(slot int) (MemberState, bool) {
	for _, m := range s.Members {
		if m.Slot == slot && !m.Failed() {
			return m, true
		}
	}
	return MemberState{}, false
}

// EmptySlots lists the slots that no member fills.
func (s State) EmptySlots() []int {
	var empty []int
	for slot := range s.RaidDisks {
		if _, ok := s.AtSlot(slot); !ok {
			empty = append(empty, slot)
		}
	}
	return empty
}

// Spares lists the members that fill no slot and are not faulty.
func (s State) Spares() []string {
	var out []string
	for _, m := range s.Members {
		if m.Spare() {
			out = append(out, m.Name)
		}
	}
	return out
}

// State reads the array's state. Attributes that an inactive array lacks are left empty.
func (a Array) State() (State, error) {
	var s State
	var err error
	if s.ArrayState, err = a.Read("array_state"); err != nil {
		return State{}, err
	}
	optional := func(name string) string {
		var text string
		if err == nil {
			text, err = a.Read(name)
			if errors.Is(err, fs.ErrNotExist) {
				text, err = "", nil
			}
		}
		return text
	}
	s.Level = optional("level")
	s.Metadata = optional("metadata_version")
	s.SyncAction = optional("sync_action")
	s.RaidDisks = int(number(optional("raid_disks")))
	s.Degraded = int(number(optional("degraded")))
	s.ComponentSize = number(optional("component_size")) * 1024
	s.Suspended = number(optional("suspend_lo")) < number(optional("suspend_hi"))
	if err != nil {
		return State{}, err
	}
	s.Members, err = a.members()
	return s, err
}

// number is the decimal number that text begins with ("3", "3 (2)"); 0 for anything else, "none" for one.
func number(text string) uint64 {
	text, _, _ = strings.Cut(text, " ")
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (a Array) members() ([]MemberState, error) {
	names, err := a.FS.List(a.Attr())
	if err != nil {
		return nil, err
	}
	var out []MemberState
	for _, n := range names {
		name, ok := strings.CutPrefix(n, "dev-")
		if !ok {
			continue
		}
		m, err := a.Member(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue // it left between the two reads
		}
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// Member reads one member's state; fs.ErrNotExist if it is none.
func (a Array) Member(name string) (MemberState, error) {
	state, err := a.Read("dev-"+name, "state")
	if err != nil {
		return MemberState{}, err
	}
	slot, err := a.Read("dev-"+name, "slot")
	if err != nil {
		return MemberState{}, err
	}
	m := parseMember(name, state, slot)
	m.Gone = a.FS.Exists("class/block") && !a.FS.Exists("class/block", name)
	return m, nil
}

// parseMember reads dev-XXX/state and dev-XXX/slot, which is "none" for a member without one.
func parseMember(name, state, slot string) MemberState {
	m := MemberState{Name: name, Slot: -1}
	if n, err := strconv.Atoi(slot); err == nil && n >= 0 {
		m.Slot = n
	}
	for _, f := range strings.Split(state, ",") {
		if f = strings.TrimSpace(f); f != "" {
			m.Flags = append(m.Flags, f)
		}
	}
	return m
}

// BadBlocks tells whether a member's log of bad blocks, acknowledged or not, has an entry.
func (a Array) BadBlocks(name string) (bool, error) {
	for _, attr := range []string{"bad_blocks", "unacknowledged_bad_blocks"} {
		text, err := a.Read("dev-"+name, attr)
		if err != nil {
			return false, err
		}
		if strings.TrimSpace(text) != "" {
			return true, nil
		}
	}
	return false, nil
}

// Arrays lists the md devices of the running kernel that have at least one member or are active.
func Arrays(f sysfs.FS) ([]Array, error) {
	names, err := f.List("block")
	if err != nil {
		return nil, err
	}
	var out []Array
	for _, n := range names {
		a := Array{FS: f, Name: n}
		state, err := a.Read("array_state")
		if err == nil && state != "clear" {
			out = append(out, a)
		}
	}
	return out, nil
}

// disk info of ADD_NEW_DISK (md_p.h, mdu_disk_info_t and MD_DISK_*, Linux 6.12).
const (
	addNewDisk      = 0x40140921
	diskSync        = 1 << 2
	diskWriteMostly = 1 << 9
	diskFailFast    = 1 << 10
)

type diskInfo struct{ number, major, minor, raidDisk, state int32 }

// ReAdd joins the device at path strictly: the kernel starts an incremental sync of it, by its own superblock s, or
// answers EINVAL and changes nothing (drivers/md/md.c, md_add_new_disk, Linux 6.12). It sees neither divergence nor who
// else sat in the slot: judge first. The drive's own write-mostly and failfast flags are passed on, else they are lost.
func (a Array) ReAdd(path string, s *Superblock) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	slot := s.Slot()
	if slot < 0 {
		return fmt.Errorf("re-add %s: its superblock has no slot", path)
	}
	info := diskInfo{
		number: int32(s.DevNumber), major: int32(unix.Major(st.Rdev)), minor: int32(unix.Minor(st.Rdev)),
		raidDisk: int32(slot), state: diskSync,
	}
	if s.WriteMostly {
		info.state |= diskWriteMostly
	}
	if s.FailFast {
		info.state |= diskFailFast
	}
	if err := a.addDisk(&info); err != nil {
		return fmt.Errorf("re-add %s to %s, slot %d: %w", path, a.Path(), slot, err)
	}
	return nil
}

// AddSpare joins the device at path to an array without metadata: it is copied to in full if a slot is empty.
func (a Array) AddSpare(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if err := a.addDisk(&diskInfo{major: int32(unix.Major(st.Rdev)), minor: int32(unix.Minor(st.Rdev)), raidDisk: -1}); err != nil {
		return fmt.Errorf("add %s to %s: %w", path, a.Path(), err)
	}
	return nil
}

// stopArray is STOP_ARRAY (md_u.h, Linux 6.12).
const stopArray = 0x932

// Stop stops the array and takes its device away; unix.EBUSY says that somebody else has it open.
func (a Array) Stop() error {
	fd, err := sysfs.Again(func() (int, error) { return unix.Open(a.Path(), unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err == nil {
		err = errors.Join(IoctlPlain(fd, stopArray), unix.Close(fd))
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", a.Path(), err)
	}
	return nil
}

func (a Array) addDisk(info *diskInfo) error {
	fd, err := sysfs.Again(func() (int, error) { return unix.Open(a.Path(), unix.O_RDWR|unix.O_CLOEXEC, 0) })
	if err != nil {
		return &os.PathError{Op: "open", Path: a.Path(), Err: err}
	}
	defer unix.Close(fd)
	return ioctl(fd, addNewDisk, info)
}
