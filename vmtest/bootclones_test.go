//go:build vmtest && soak

package vmtest

import (
	"slices"
	"strings"
	"testing"

	"mdclone/vmtest/vm"
)

// TestBootTwoClones: the machine went on on one clone, after its own disks had failed; the other one was tried on its own
// before, for so long that it has the most events.
func TestBootTwoClones(t *testing.T) {
	anySuite(t, func(t *testing.T, suite string) {
		l := Lab(t)
		boot := bootCase{disks: strings.Fields(last), args: []string{vm.LightArg}}
		conf, _ := boot.config(t, diskStates(t, l, suite)["stale"])
		conf.Disks = append(conf.Disks, NewDisk(t, "second", vm.MachineDisk/mib))
		raw(t, &conf)
		all := slices.Clone(conf.Disks)
		// up boots it with all disks but one
		up := func(args []string, but ...string) *rig {
			c := conf
			c.Dir, c.Args = t.TempDir(), append(slices.Clone(conf.Args), args...)
			c.Disks = slices.DeleteFunc(slices.Clone(all), func(d vm.Disk) bool { return slices.Contains(but, d.Serial) })
			return &rig{Machine: BootIn(t, l, c)}
		}
		down := func(r *rig) {
			r.Script("sync")
			if err := r.Kill(); err != nil {
				t.Fatal(err)
			}
		}

		r := up(nil)
		r.early(0, "attach", "root")
		r.early(0, "adopt", "root", "/dev/"+r.name("second"))
		r.early(0, "detach", "root")
		r.Script("mdclone-gen install --update-initramfs=never")
		// what making the boot image anew would put into it, which takes minutes here
		for _, path := range []string{"/etc/mdclone/root.conf", "/usr/lib/udev/rules.d/63-mdclone.rules"} {
			conf.Files = append(conf.Files, vm.File{Path: path, Data: []byte(r.File(path))})
		}
		down(r)

		r = up([]string{"mdclone.wait=1"}, "p1", "p2", vm.CloneSerial)
		r.Script("echo tried > " + vm.Generation + `; echo 0.01 > /sys/block/md0/md/safe_mode_delay
			for i in $(seq 60); do dd if=/dev/zero of=/var/tried bs=4k count=1 conv=fsync status=none; sleep 0.1; done`)
		down(r)

		r = up(nil, "second")
		r.Script("mdadm --wait /dev/md0 || true") // the power was cut
		r.early(0, "attach", "root")
		r.Script("md=/dev/md0 A=/dev/" + r.name("p1") + " B=/dev/" + r.name("p2") + vm.FailFirst + "fail $A $B; mdadm $md --fail $B; echo newest > " +
			vm.Generation)
		down(r)

		events := map[string]uint64{}
		for _, d := range all {
			events[d.Serial] = super(t, d).Events
		}
		if events["second"] <= events[vm.CloneSerial] || events[vm.CloneSerial] <= events["p2"] {
			t.Fatalf("events are %v; want the second clone's to be the most, and then the first's", events)
		}
		r = up(nil)
		if got := strings.TrimSpace(r.File(vm.Generation)); got != "newest" {
			t.Errorf("booted the data %q; want newest\n%s", got, r.Script("dmesg | grep -e mdclone: -e md/raid1 -e md0"))
		}
		if slots := r.slots(); slots != "--2-" {
			t.Errorf("the array is %s; want --2-", slots)
		}
		if s := super(t, all[3]); s.Events != events["second"] {
			t.Errorf("the second clone has %d events; want %d, as before", s.Events, events["second"])
		}
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
	})
}
