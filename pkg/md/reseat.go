package md

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Reseated is the superblock raw of a member with slot for its own role, as complete at events: what it was before a join
// began that was cut before md gave it its slot, or what it is to become by a full copy. It stays the same device
// (drivers/md/md.c, super_1_sync, Linux 6.12).
func Reseated(raw []byte, slot int, events uint64) ([]byte, error) {
	if len(raw) < SuperSize {
		return nil, fmt.Errorf("superblock: %d bytes, want %d", len(raw), SuperSize)
	}
	le := binary.LittleEndian
	s, err := DecodeSuperblock(raw, le.Uint64(raw[144:]))
	if err != nil {
		return nil, err
	}
	if slot < 0 || uint32(slot) >= s.RaidDisks {
		return nil, fmt.Errorf("superblock: slot %d of %d is out of range", slot, s.RaidDisks)
	}
	out := AlignedBuffer(SuperSize)
	copy(out, raw)
	le.PutUint32(out[8:], s.Features&^(FeatureRecoveryOffset|FeatureRecoveryBitmap))
	le.PutUint16(out[256+2*s.DevNumber:], uint16(slot))
	le.PutUint64(out[200:], events)
	le.PutUint64(out[208:], NoResync)
	le.PutUint32(out[216:], superChecksum(out, len(s.Roles)))
	now, err := DecodeSuperblock(out, s.SuperOffset)
	if err == nil && (now.Slot() != slot || now.Events != events || now.Device != s.Device) {
		err = errors.New("superblock: it does not read back as it was written")
	}
	return out, err
}
