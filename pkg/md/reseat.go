package md

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Reseated is the superblock raw of a member with slot for its own role at events. A whole one is what the member was before
// a join began that was cut before md gave it its slot. Else it is as a re-add leaves it that was cut at its very beginning:
// all of it is still to be copied, by the bitmap, and it starts nothing on its own. It stays the same device
// (drivers/md/md.c, super_1_sync and super_1_validate, Linux 6.12).
func Reseated(raw []byte, slot int, events uint64, whole bool) ([]byte, error) {
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
	const recovering = FeatureRecoveryOffset | FeatureRecoveryBitmap
	if features := s.Features &^ recovering; whole {
		le.PutUint32(out[8:], features)
	} else {
		le.PutUint32(out[8:], features|recovering)
		le.PutUint64(out[152:], 0) // recovery_offset
	}
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
