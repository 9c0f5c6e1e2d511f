package vm

import (
	"context"
	"path/filepath"
)

// UEFIPackages are what a machine needs to start by itself from UEFI: systemd-boot, and what makes the partition that it is
// read from. GRUB is for media that a machine makes; the firmware is for QEMU.
var UEFIPackages = []string{"dosfstools", "fdisk", "grub-efi-amd64-bin", "mtools", "ovmf", "systemd-boot", "xorriso"}

// UEFI are QEMU's arguments for a machine that starts by itself (Config.Firmware) from UEFI, the firmware of a suite. What it
// and boot loaders remember is kept in dir.
func (l *Lab) UEFI(ctx context.Context, suite, dir string) ([]string, error) {
	root, err := l.root(ctx, suite, "-more", UEFIPackages...)
	if err != nil {
		return nil, err
	}
	const from = "usr/share/OVMF"
	vars := filepath.Join(dir, "vars.fd")
	if err := copyFile(filepath.Join(root, from, "OVMF_VARS_4M.fd"), vars); err != nil {
		return nil, err
	}
	return []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + filepath.Join(root, from, "OVMF_CODE_4M.fd"),
		"-drive", "if=pflash,unit=1,format=raw,file=" + vars,
	}, nil
}
