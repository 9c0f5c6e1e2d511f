//go:build vmtest

package vmtest

import (
	"testing"

	"mdclone/pkg/clone"
)

// cutJoins cut the power in the moment between the kernel's taking a drive and its giving it a slot: on its own disk it is
// a spare then. Such a drive is refused.
func cutJoins(t *testing.T, a *attackable) {
	spare := "until mdadm -E /dev/$1 2>/dev/null | grep -q 'Device Role : spare'; do sleep 0.05; done"
	for _, test := range []struct{ name, do, drive, code string }{
		{"of a clone that left in good order", "checking; mdadm /dev/md0 --re-add /dev/vdc 2>/dev/null", "vdc", "join-cut"},
		{
			"of a clone that ran alone", `stop /dev/md0; alone /dev/vdc; write /dev/md9 3 40; stop /dev/md9; up /dev/vda /dev/vdb
			checking; mdadm /dev/md0 --re-add /dev/vdc 2>/dev/null`, "vdc", "join-cut",
		},
		{
			"of a drive that was new", `mdadm --zero-superblock /dev/vdc; checking; mdadm /dev/md0 --add /dev/vdd 2>/dev/null
			echo "clone = $(mdadm -E /dev/vdd | awk '/Device UUID/ { print $4 }')" >> /etc/mdclone/data.conf`, "vdd", "never-synced",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := a.again(t)
			r.sh(test.do + "; set -- " + test.drive + "; " + spare)
			r.powerCut()
			r.refused(test.code, clone.Outdated, "/dev/"+test.drive)
		})
	}
}
