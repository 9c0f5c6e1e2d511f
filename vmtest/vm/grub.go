package vm

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
)

// grubPackages are what a machine needs to start by itself from a BIOS: GRUB and its programs, and those that it makes media
// with. Nothing is set up yet.
var grubPackages = []string{"grub-pc-bin", "grub2-common", "mtools", "xorriso"}

// grubDefault is /etc/default/grub of a machine whose kernel is to have the same parameters as without GRUB.
func grubDefault(system string) File {
	var args []string
	for _, arg := range slices.Concat(kernelArgs, machineArgs, Layout{}.storageArgs(system)) {
		if arg != "ro" { // GRUB finds it out, and where the root is
			args = append(args, arg)
		}
	}
	return File{Path: "/etc/default/grub", Data: []byte("GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_DISTRIBUTOR=Debian\n" +
		"GRUB_TERMINAL=serial\nGRUB_SERIAL_COMMAND=\"serial\"\nGRUB_CMDLINE_LINUX=\"" + strings.Join(args, " ") + "\"\n")}
}

// GrubMachine is Cloned with GRUB's packages, and files besides. For a start by itself (Config.Firmware) it needs a disk to
// which GRUB is installed, a NewBootDisk: its own disks have no place for it.
func (l *Lab) GrubMachine(ctx context.Context, system string, files ...File) (Machine, error) {
	return l.Cloned(ctx, system, Layout{}, append([]File{grubDefault(system)}, files...), grubPackages...)
}

// NewBootDisk makes an empty disk in dir with an MBR and one partition, which leaves the gap of 1 MiB for GRUB; a BIOS starts
// from it. The serial is name.
func NewBootDisk(dir, name string) (Disk, error) {
	const sectors, start = 64 << 11, 1 << 11
	d, err := NewDisk(dir, name, sectors*512)
	if err != nil {
		return d, err
	}
	mbr := make([]byte, 512)
	entry := mbr[446:]
	entry[4] = 0x83 // Linux
	binary.LittleEndian.PutUint32(entry[8:], start)
	binary.LittleEndian.PutUint32(entry[12:], sectors-start)
	mbr[510], mbr[511] = 0x55, 0xaa
	f, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	if err != nil {
		return d, err
	}
	defer f.Close()
	if _, err := f.Write(mbr); err != nil {
		return d, fmt.Errorf("make disk %s: %w", name, err)
	}
	d.Device = map[string]any{"bootindex": 1} // QEMU gives 0 to a kernel from the host
	return d, nil
}
