package md

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// UUID is an array's set_uuid or a member's device_uuid, in on-disk byte order
// (struct mdp_superblock_1, include/uapi/linux/raid/md_p.h, Linux 6.12).
type UUID [16]byte

// ParseUUID reads any of the three spellings in use: mdadm's "8e5c6b62:…" (four groups of eight), blkid's and udev's
// "8e5c6b62-1234-…" and plain hex.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	plain := strings.NewReplacer(":", "", "-", "").Replace(s)
	raw, err := hex.DecodeString(plain)
	if err != nil || len(raw) != len(u) {
		return UUID{}, fmt.Errorf("%q is not a UUID (32 hexadecimal digits, with or without : or -)", s)
	}
	copy(u[:], raw)
	return u, nil
}

// String is mdadm's spelling, "8e5c6b62:12345678:9abcdef0:12345678".
func (u UUID) String() string {
	h := u.Hex()
	return h[:8] + ":" + h[8:16] + ":" + h[16:24] + ":" + h[24:]
}

// Dashed is the spelling of blkid and udev (ID_FS_UUID, ID_FS_UUID_SUB).
func (u UUID) Dashed() string {
	h := u.Hex()
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Hex is the digits alone, for a file's name.
func (u UUID) Hex() string { return hex.EncodeToString(u[:]) }

// IsZero tells whether u is unset.
func (u UUID) IsZero() bool { return u == UUID{} }

// MarshalText makes u mdadm's spelling in JSON and INI files.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads any spelling that ParseUUID knows.
func (u *UUID) UnmarshalText(b []byte) error {
	p, err := ParseUUID(string(b))
	if err == nil {
		*u = p
	}
	return err
}
