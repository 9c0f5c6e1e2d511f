package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/sysfs"
)

// starter is what a disk has for firmware to start it by. A clone is a bit-for-bit copy of what is on the array, and that is not.
type starter struct {
	code bool // in the first sector, for a BIOS
	esp  bool // an EFI system partition
}

// espType is an EFI system partition's type in a DOS partition table, espGUID that in a GUID partition table, as it is on disk (UEFI
// specification 2.10, chapter 5).
const espType = 0xef

var espGUID = []byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

// readStarter reads a disk's first sector and its partition table.
func readStarter(disk io.ReaderAt) (starter, error) {
	first := make([]byte, 512)
	if _, err := disk.ReadAt(first, 0); err != nil {
		return starter{}, err
	}
	var s starter
	if first[510] != 0x55 || first[511] != 0xaa {
		return s, nil
	}
	s.code = slices.ContainsFunc(first[:440], func(c byte) bool { return c != 0 })
	for entry := range slices.Chunk(first[446:510], 16) {
		s.esp = s.esp || entry[4] == espType
	}
	for _, block := range []int64{512, 4096} {
		types, err := gptTypes(disk, block)
		if err != nil {
			return s, err
		}
		s.esp = s.esp || slices.ContainsFunc(types, func(t []byte) bool { return bytes.Equal(t, espGUID) })
	}
	return s, nil
}

// gptTypes are the types of the partitions in a GUID partition table on a disk with logical blocks of that size; none where there is no
// such table.
func gptTypes(disk io.ReaderAt, block int64) ([][]byte, error) {
	head := make([]byte, 92)
	if _, err := disk.ReadAt(head, block); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	le := binary.LittleEndian
	at, n, size := le.Uint64(head[72:]), le.Uint32(head[80:]), le.Uint32(head[84:])
	if string(head[:8]) != "EFI PART" || at == 0 || at > 1<<20 || n > 1024 || size < 128 || size > 4096 {
		return nil, nil
	}
	table := make([]byte, n*size)
	if _, err := disk.ReadAt(table, int64(at)*block); err != nil {
		return nil, fmt.Errorf("partition table: %w", err)
	}
	var types [][]byte
	for entry := range slices.Chunk(table, int(size)) {
		types = append(types, entry[:16])
	}
	return types, nil
}

// missing says what a clone's disk lacks that one of the array's own has, and that firmware wants: UEFI, or else a BIOS; "" for nothing.
func missing(clone starter, own []starter, uefi bool) string {
	switch {
	case uefi && !clone.esp && slices.ContainsFunc(own, func(s starter) bool { return s.esp }):
		return "no EFI system partition"
	case !uefi && !clone.code && slices.ContainsFunc(own, func(s starter) bool { return s.code }):
		return "no boot code in its first sector"
	}
	return ""
}

// firmware warns of each clone that is plugged in and lacks what firmware starts the array's own disks by.
func (a *app) firmware(arrays []config.Array, uefi bool) {
	found, err := a.members()
	if err != nil {
		a.log.Infof("whether firmware can start the clone is not known: %v", err)
		return
	}
	for _, conf := range arrays {
		var own []starter
		clones := map[string]starter{}
		for _, f := range found {
			if f.Member.Super.Array != conf.UUID {
				continue
			}
			s, err := a.starter(f)
			if err != nil {
				a.log.Infof("whether firmware can start %s is not known: %v", f.Path, err)
				continue
			}
			if conf.HasClone(f.Member.Super.Device) {
				clones[f.Path] = s
			} else {
				own = append(own, s)
			}
		}
		for path, s := range clones {
			if lacks := missing(s, own, uefi); lacks != "" {
				a.log.Warnf("the disk of %s, the clone of %s, has %s, as the array's own disks have: firmware cannot start it alone; "+
					"install the boot loader there as on them, and try it once", path, conf.Name, lacks)
			}
		}
	}
}

// starterOf reads the disk that a member is on.
func starterOf(f md.Found) (starter, error) {
	disk, err := os.Open(md.NodePath(sysfs.New().DiskOf(f.Name)))
	if err != nil {
		return starter{}, err
	}
	defer disk.Close()
	return readStarter(disk)
}
