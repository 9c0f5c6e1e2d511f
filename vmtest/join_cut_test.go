//go:build vmtest

package vmtest

import (
	"testing"

	"mdclone/pkg/clone"
)

// cutJoins cuts the power in the moment between the kernel's taking a new drive and its giving it a slot: on its own disk it
// is a spare then, as a clone is whose join was cut. But it was never copied to, and must not get a slot back.
func cutJoins(t *testing.T, a *attackable) {
	r := a.again(t)
	r.sh(`mdadm --zero-superblock /dev/vdc; checking; mdadm /dev/md0 --add /dev/vdd 2>/dev/null
		echo "clone = $(mdadm -E /dev/vdd | awk '/Device UUID/ { print $4 }')" >> /etc/mdclone/data.conf
		until mdadm -E /dev/vdd 2>/dev/null | grep -q 'Device Role : spare'; do sleep 0.05; done`)
	r.powerCut()
	r.refused("never-synced", clone.Outdated, "/dev/vdd")
}
