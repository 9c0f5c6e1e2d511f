//go:build vmtest && soak

package vmtest

import (
	"testing"

	"mdclone/vmtest/vm"
)

// TestRescueLoaders starts the rescue image as a person would who has nothing else: by its entry in the menu of the machine's
// GRUB, which is on LVM on RAID1, and from a medium that the machine has made of it.
func TestRescueLoaders(t *testing.T) {
	t.Parallel()
	g := newGrubRig(t, "trixie", "")
	usb := NewDisk(t, "usb", 128)
	drive := g.Plugged(usb)
	g.Script("mdclone-gen rescue --output /var/tmp/r.img --iso /var/tmp/r.iso >&2; dd if=/var/tmp/r.iso of=/dev/" + drive +
		" bs=1M conv=fsync status=none; grub-editenv - set next_entry=mdclone-rescue; sync; mount -o remount,ro /")
	if err := g.PowerOff(g.Context()); err != nil {
		t.Fatal(err)
	}
	usb.Device = map[string]any{"bootindex": 1}
	medium := g.conf
	medium.Disks = append([]vm.Disk{usb}, medium.Disks[:2]...)
	for _, c := range []struct {
		name string
		conf vm.Config
	}{{"by GRUB's menu", g.conf}, {"from a medium", medium}} {
		t.Run(c.name, func(t *testing.T) {
			r := offline{rig: &rig{Machine: LaunchIn(t, g.l, c.conf)}}
			r.await(t, asked)
			r.enter(t, "status")
			r.await(t, "root: /dev/md0, ")
			r.end(t)
		})
	}
}
