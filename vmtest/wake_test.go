//go:build vmtest && soak

package vmtest

import (
	"strings"
	"testing"

	"mdclone/vmtest/vm"
)

// TestWake has a machine really sleep on a disk beside its array. Told to make a clone at the next boot, it wakes instead.
func TestWake(t *testing.T) {
	onEach(t, suites[1:], func(t *testing.T, suite string) {
		l := Lab(t)
		conf, disks := bootCase{disks: strings.Fields(last), args: []string{"resume=/dev/vdd"}}.config(t, diskStates(t, l, suite)["stale"])
		conf.Memory = 512
		conf.Disks = append(conf.Disks, NewDisk(t, "swap", 1024))
		r := offline{&rig{Machine: BootIn(t, l, conf)}, disks}
		r.Script("mkswap /dev/vdd >&2; swapon /dev/vdd; echo token > /run/token; echo shutdown > /sys/power/disk")
		boot := r.File("/proc/sys/kernel/random/boot_id")
		// the agent's connection does not outlast it
		r.Must("systemd-run", "--no-block", "sh", "-ec", "sync; echo disk > /sys/power/state; systemctl restart agent")
		if err := r.Wait(r.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}

		conf.Args = append(conf.Args, "mdclone=backup")
		r.Machine = LaunchIn(t, l, conf)
		r.await(t, "a system sleeps on /dev/vdd")
		r.Up()
		if got := r.File("/proc/sys/kernel/random/boot_id"); got != boot {
			t.Fatalf("the machine started anew (boot %s); want it to wake (%s)", got, boot)
		}
		if got := r.slots(); got != "01-" {
			t.Errorf("the array is %s; want 01-", got)
		}
		r.Script("test $(cat /run/token) = token; head -c 2000000 /dev/urandom > /var/awake; sync")
		if err := r.PowerOff(r.Context()); err != nil {
			t.Fatal(err)
		}
		if written, err := disks[vm.CloneSerial].Written(t.Context()); err != nil || written {
			t.Errorf("the clone was written: %v, %v; want false", written, err)
		}
		raw(t, &conf)
		sameMembers(t, conf.Disks[0].Path, conf.Disks[1].Path)
	})
}
