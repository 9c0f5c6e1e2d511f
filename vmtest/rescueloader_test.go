//go:build vmtest && soak

package vmtest

import (
	"testing"

	"mdclone/vmtest/vm"
)

// medium has the machine make a medium of the rescue image, and end. It returns what starts from that, on the array's disks.
func (r *loaderRig) medium(t *testing.T) vm.Config {
	t.Helper()
	usb := NewDisk(t, "usb", 128)
	r.Script("mdclone-gen rescue --output /var/tmp/r.img --iso /var/tmp/r.iso >&2; dd if=/var/tmp/r.iso of=/dev/" + r.Plugged(usb) +
		" bs=1M conv=fsync status=none")
	r.stop(t)
	usb.Device = map[string]any{"bootindex": 1}
	conf := r.conf
	conf.Disks = append([]vm.Disk{usb}, conf.Disks[:2]...)
	return conf
}

// TestRescueLoaders starts the rescue image as a person would who has nothing else: by its entry in the menu of the machine's
// GRUB, which is on LVM on RAID1, and from a medium that the machine has made of it.
func TestRescueLoaders(t *testing.T) {
	t.Parallel()
	g := newGrubRig(t, "trixie", "")
	g.Script("grub-editenv - set next_entry=mdclone-rescue")
	medium := g.medium(t)
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
