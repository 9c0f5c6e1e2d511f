package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// table is the beginning of a disk: a DOS partition table with entries of types or, with a block size, a GUID partition table.
func table(code bool, block int, types ...[]byte) []byte {
	disk := make([]byte, 64<<10)
	disk[510], disk[511] = 0x55, 0xaa
	if code {
		disk[0] = 0xeb
	}
	if block == 0 {
		for i, t := range types {
			disk[446+16*i+4] = t[0]
		}
		return disk
	}
	disk[446+4] = 0xee
	head := disk[block:]
	copy(head, "EFI PART")
	binary.LittleEndian.PutUint64(head[72:], 2)
	binary.LittleEndian.PutUint32(head[80:], 128)
	binary.LittleEndian.PutUint32(head[84:], 128)
	for i, t := range types {
		copy(disk[2*block+128*i:], t)
	}
	return disk
}

func TestReadStarter(t *testing.T) {
	linux := bytes.Repeat([]byte{0x83}, 16)
	for _, test := range []struct {
		name string
		disk []byte
		want starter
		bad  bool
	}{
		{name: "a whole disk as a member", disk: make([]byte, 8192)},
		{name: "DOS, with boot code", disk: table(true, 0, linux), want: starter{code: true}},
		{name: "DOS, with an EFI system partition", disk: table(false, 0, linux, []byte{espType}), want: starter{esp: true}},
		{name: "GPT", disk: table(false, 512, linux)},
		{name: "GPT, with both", disk: table(true, 512, linux, espGUID), want: starter{true, true}},
		{name: "GPT on blocks of 4096 bytes", disk: table(false, 4096, espGUID), want: starter{esp: true}},
		{name: "GPT that is cut", disk: table(false, 512, espGUID)[:2048], bad: true},
		{name: "less than a sector", disk: make([]byte, 100), bad: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readStarter(bytes.NewReader(test.disk))
			if (err != nil) != test.bad || err == nil && got != test.want {
				t.Errorf("readStarter() = %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

func TestFirmware(t *testing.T) {
	array, other := md.UUID{1}, md.UUID{2}
	clone := md.UUID{9}
	conf := []config.Array{{Name: "root", UUID: array, Clones: []md.UUID{clone}}, {Name: "data", UUID: other}}
	for _, test := range []struct {
		name  string
		disks map[string]starter
		uefi  bool
		want  string // "" for no warning
	}{
		{"as the others", map[string]starter{"sda": {true, true}, "sdc": {true, true}}, true, ""},
		{"started by something else", map[string]starter{"sda": {}, "sdc": {}}, false, ""},
		{"no EFI system partition", map[string]starter{"sda": {false, true}, "sdc": {}}, true, "has no EFI system partition,"},
		{"no boot code", map[string]starter{"sda": {true, true}, "sdc": {}}, false, "has no boot code"},
		{"boot code that UEFI does not want", map[string]starter{"sda": {true, true}, "sdc": {false, true}}, true, ""},
		{"more than the others", map[string]starter{"sda": {}, "sdc": {true, true}}, false, ""},
		{"the clone is away", map[string]starter{"sda": {true, true}}, true, ""},
		{"another array's disk", map[string]starter{"sdx": {true, true}, "sdc": {}}, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			a := newApp(nil, &log, &log)
			a.members = func() (found []md.Found, err error) {
				for name := range test.disks {
					s := &md.Superblock{Array: array}
					switch name {
					case "sdc":
						s.Device = clone
					case "sdx":
						s.Array = other
					}
					found = append(found, md.Found{Name: name, Path: "/dev/" + name, Member: &md.Member{Super: s}})
				}
				return found, nil
			}
			a.starter = func(f md.Found) (starter, error) { return test.disks[f.Name], nil }
			a.firmware(conf, test.uefi)
			if got := log.String(); (got != "") != (test.want != "") || !strings.Contains(got, test.want) {
				t.Errorf("firmware() says %q; want %q", got, test.want)
			}
		})
	}
	var log bytes.Buffer
	a := newApp(nil, &log, &log)
	a.members = func() ([]md.Found, error) { return nil, errors.New("no disks") }
	if a.firmware(conf, false); !strings.Contains(log.String(), "not known: no disks") {
		t.Errorf("firmware() says %q; want why it does not know", log.String())
	}
}
