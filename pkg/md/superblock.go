// Package md is what this product knows of Linux md RAID1: the v1.x superblock and the write-intent bitmap as they lie
// on a member, the array as sysfs shows it, and the few calls that change it.
package md

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// SuperSize is how much of a member a superblock is read and written as: it never crosses 4 KiB (include/uapi/linux/
// raid/md_p.h: 256 bytes and 2 a device, max_dev at most 1920).
const SuperSize = 4096

const (
	superMagic = 0xa92b4efc
	maxDev     = (SuperSize - 256) / 2
)

// Feature bits of a superblock (md_p.h, MD_FEATURE_*, Linux 6.12).
const (
	FeatureBitmap         = 1 << 0
	FeatureRecoveryOffset = 1 << 1
	FeatureReshape        = 1 << 2
	FeatureBadBlocks      = 1 << 3
	FeatureReplacement    = 1 << 4
	FeatureNewOffset      = 1 << 6
	FeatureRecoveryBitmap = 1 << 7
	FeatureClustered      = 1 << 8
	FeatureJournal        = 1 << 9
	FeaturePPL            = 1 << 10
	FeatureMultiPPL       = 1 << 11
)

// Roles in Superblock.Roles that are no slot (md_p.h, MD_DISK_ROLE_*).
const (
	RoleSpare   = 0xffff
	RoleFaulty  = 0xfffe
	RoleJournal = 0xfffd
	roleMax     = 0xff00
)

// Errors of reading a superblock.
var (
	ErrNoSuperblock = errors.New("no md superblock")
	ErrOldMetadata  = errors.New("0.90 metadata, which is not supported: only 1.0, 1.1 and 1.2 are")
)

// Superblock is struct mdp_superblock_1 (include/uapi/linux/raid/md_p.h, Linux 6.12) of one member, with that member's
// own view of the array. Sectors are 512 bytes.
type Superblock struct {
	Minor        int    // metadata 1.Minor, from where it lies
	Features     uint32 // Feature* bits
	Array        UUID   // set_uuid
	ArrayName    string // set_name, "host:name" or "name"
	Level        int32
	Size         uint64 // sectors of each member that the array uses
	RaidDisks    uint32 // slots
	BitmapOffset int32  // sectors from the superblock to the bitmap; 0 without one
	DataOffset   uint64 // sector of the member where the data starts
	DataSize     uint64 // sectors from there that may hold data
	SuperOffset  uint64 // sector of the member where this superblock lies
	DevNumber    uint32 // this member's index in Roles
	Device       UUID   // this member's
	WriteMostly  bool
	FailFast     bool
	Updated      uint64 // seconds since 1970
	Events       uint64
	ResyncOffset uint64 // NoResync if clean
	Checksum     uint32
	LogicalBlock uint32   // bytes; 0 unless written by Linux 6.19 or later
	Roles        []uint16 // by device number: slot, or Role*
}

// NoResync in ResyncOffset says that the array was clean (MaxSector).
const NoResync = ^uint64(0)

// DecodeSuperblock reads the superblock b, of at least SuperSize bytes, found at sector at of a member. Metadata 1.1 is
// told from 1.2 by where it lies, and 1.0 by lying elsewhere.
func DecodeSuperblock(b []byte, at uint64) (*Superblock, error) {
	if len(b) < SuperSize {
		return nil, fmt.Errorf("superblock: %d bytes, want %d", len(b), SuperSize)
	}
	le := binary.LittleEndian
	if le.Uint32(b) != superMagic {
		return nil, ErrNoSuperblock
	}
	if v := le.Uint32(b[4:]); v == 0 {
		return nil, ErrOldMetadata
	} else if v != 1 {
		return nil, fmt.Errorf("superblock: metadata version %d is unknown", v)
	}
	n := le.Uint32(b[220:])
	if n > maxDev {
		return nil, fmt.Errorf("superblock: max_dev %d is more than %d", n, maxDev)
	}
	if want, got := le.Uint32(b[216:]), superChecksum(b, int(n)); want != got {
		return nil, fmt.Errorf("superblock: checksum is %08x, should be %08x", want, got)
	}
	s := &Superblock{
		Features:     le.Uint32(b[8:]),
		ArrayName:    strings.TrimRight(string(b[32:64]), "\x00"),
		Level:        int32(le.Uint32(b[72:])),
		Size:         le.Uint64(b[80:]),
		RaidDisks:    le.Uint32(b[92:]),
		DataOffset:   le.Uint64(b[128:]),
		DataSize:     le.Uint64(b[136:]),
		SuperOffset:  le.Uint64(b[144:]),
		DevNumber:    le.Uint32(b[160:]),
		WriteMostly:  b[184]&1 != 0,
		FailFast:     b[184]&2 != 0,
		Updated:      le.Uint64(b[192:]) & (1<<40 - 1),
		Events:       le.Uint64(b[200:]),
		ResyncOffset: le.Uint64(b[208:]),
		Checksum:     le.Uint32(b[216:]),
		LogicalBlock: le.Uint32(b[224:]),
	}
	copy(s.Array[:], b[16:32])
	copy(s.Device[:], b[168:184])
	if s.Features&FeatureBitmap != 0 {
		s.BitmapOffset = int32(le.Uint32(b[96:]))
	}
	if s.SuperOffset != at {
		return nil, fmt.Errorf("superblock: lies at sector %d but says %d: a copy, or part of a larger device", at, s.SuperOffset)
	}
	switch at {
	case 0:
		s.Minor = 1
	case superAt12:
		s.Minor = 2
	}
	if s.RaidDisks > roleMax || s.DevNumber >= n {
		return nil, fmt.Errorf("superblock: device %d of %d, %d slots: out of range", s.DevNumber, n, s.RaidDisks)
	}
	for i := range int(n) {
		s.Roles = append(s.Roles, le.Uint16(b[256+2*i:]))
	}
	return s, nil
}

// superChecksum is calc_sb_1_csum (drivers/md/md.c, Linux 6.12): a 32-bit sum over the superblock with sb_csum taken as
// 0, folded once.
func superChecksum(b []byte, devices int) uint32 {
	le := binary.LittleEndian
	var sum uint64
	end := 256 + 2*devices
	i := 0
	for ; end-i >= 4; i += 4 {
		if i != 216 {
			sum += uint64(le.Uint32(b[i:]))
		}
	}
	if end-i == 2 {
		sum += uint64(le.Uint16(b[i:]))
	}
	return uint32(sum) + uint32(sum>>32)
}

// Slot is the member's own slot, or -1 if its role is none (spare, faulty, journal).
func (s *Superblock) Slot() int { return s.SlotOf(s.DevNumber) }

// SlotOf is the slot that device number n has in this member's view, or -1.
func (s *Superblock) SlotOf(n uint32) int {
	if int(n) < len(s.Roles) && s.Roles[n] < roleMax && uint32(s.Roles[n]) < s.RaidDisks {
		return int(s.Roles[n])
	}
	return -1
}

// Lists tells whether s has the member o active at the slot that o itself claims.
func (s *Superblock) Lists(o *Superblock) bool {
	slot := o.Slot()
	return slot >= 0 && s.SlotOf(o.DevNumber) == slot
}

// HasBadBlocks tells whether its log of bad blocks has an entry (drivers/md/md.c, super_1_sync, Linux 6.12: the feature is set
// only then).
func (s *Superblock) HasBadBlocks() bool { return s.Features&FeatureBadBlocks != 0 }

// Recovering tells whether the member's last sync was not finished: it holds no whole copy.
func (s *Superblock) Recovering() bool { return s.Features&FeatureRecoveryOffset != 0 }

// ActiveSlots lists the slots that this member thinks are filled: index is the slot.
func (s *Superblock) ActiveSlots() []bool {
	active := make([]bool, s.RaidDisks)
	for n := range s.Roles {
		if slot := s.SlotOf(uint32(n)); slot >= 0 {
			active[slot] = true
		}
	}
	return active
}

// View writes ActiveSlots, a character for each slot: "01-" is slots 0 and 1 filled, 2 empty.
func (s *Superblock) View() string {
	var b strings.Builder
	for slot, on := range s.ActiveSlots() {
		if on {
			fmt.Fprint(&b, slot)
		} else {
			b.WriteByte('-')
		}
	}
	return b.String()
}
