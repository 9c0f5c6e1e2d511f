package main

import "testing"

func TestMountsAt(t *testing.T) {
	t.Parallel()
	const (
		fstab = "# /dev/sda1 /boot ext4\nUUID=1 / ext4 defaults 0 1\nUUID=2\t/boot/  ext4 noauto 0 2\nUUID=3 /with\\040space ext4\nnone swap swap\n/dev/x\n"
		info  = "22 1 253:0 / / rw - ext4 /dev/a rw\n30 22 8:1 / /mnt/boot rw shared:1 - ext4 /dev/b rw\n31 22 8:1 / /boot/efi rw - vfat /dev/c rw\n"
	)
	for _, c := range []struct {
		lines string
		field int
		at    string
		want  bool
	}{
		{fstab, inFstab, "/boot", true},
		{fstab, inFstab, "/", true},
		{fstab, inFstab, "/with space", true},
		{fstab, inFstab, "/home", false},
		{"#/dev/sda1 /boot ext4\n", inFstab, "/boot", false},
		{"", inFstab, "/boot", false},
		{info, inMountinfo, "/boot", false},
		{info, inMountinfo, "/mnt/boot", true},
		{info, inMountinfo, "/boot/efi", true},
	} {
		if got := mountsAt(c.lines, c.field, c.at); got != c.want {
			t.Errorf("mountsAt(%q, %d, %q) = %v; want %v", c.lines, c.field, c.at, got, c.want)
		}
	}
}
