//go:build vmtest

package vmtest

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mdclone/pkg/report"
	"mdclone/vmtest/vm"
)

// partitions of the one clone drive of two arrays: where they begin and how long they are, in bytes.
var partitions = [][2]int64{{mib, vm.MachineDisk}, {mib + vm.MachineDisk, dataMiB * mib}}

const dataMiB = 64

// What is on the second array: on its first partition a file system, to which udev's rules make links before the one that holds
// the array, and on the other a member of an array of its own.
const (
	label, uuid = "held-data", "6d64636c-6f6e-4500-8000-000000000009"
	above       = "for l in /dev/disk/by-label/" + label + " /dev/disk/by-uuid/" + uuid + " /sys/block/md9/md9p2/holders/md*; do" +
		` [ ! -e $l ] || echo "${l##*/} is" there; done; echo looked at''all`
)

// TestOfflineBootOfTwoArrays makes the clones of two arrays at boot, on two partitions of one drive.
func TestOfflineBootOfTwoArrays(t *testing.T) {
	anySuite(t, func(t *testing.T, suite string) {
		l := Lab(t)
		boot := bootCase{disks: strings.Fields(both), args: []string{vm.LightArg}}
		conf, _ := boot.config(t, diskStates(t, l, suite)["stale"])
		conf.Disks = append(conf.Disks, NewDisk(t, "d1", dataMiB), NewDisk(t, "d2", dataMiB), partitioned(t))
		raw(t, &conf)
		disks := map[string]vm.Disk{}
		for _, d := range conf.Disks {
			disks[d.Serial] = d
		}
		r := offline{&rig{Machine: BootIn(t, l, conf)}, disks}
		drive := "/dev/" + r.name("both")
		r.Script("printf 'array = " + vm.MachineArray + "\\n' > /etc/mdclone/root.conf; mdadm --create /dev/md9 --run --quiet --level=1 " +
			"--raid-devices=2 --bitmap=internal --assume-clean /dev/" + r.name("d1") + " /dev/" + r.name("d2"))
		r.early(0, "adopt", "root", drive+"1")
		r.early(0, "adopt", "/dev/md9", drive+"2", "--name", "data")
		r.early(0, "detach")
		if err := r.WriteFile(r.Context(), "/run/table", dosTable([][2]int64{{mib, 16 * mib}, {17 * mib, 32 * mib}}), 0o600); err != nil {
			t.Fatal(err)
		}
		r.Script(`mdclone-gen install --update-initramfs=never
			head -c 2000000 /dev/urandom > /var/change
			dd if=/run/table of=/dev/md9 conv=fsync status=none; blockdev --rereadpt /dev/md9; udevadm settle; mkfs.ext4 -q -L ` + label + " -U " + uuid + ` /dev/md9p1
			mdadm --create /dev/md10 --run --quiet --level=1 --raid-devices=1 --force /dev/md9p2
			mdadm --stop /dev/md10; mdadm --stop /dev/md9; sync; mount -o remount,ro /`)
		// what making the boot image anew would put into it, which takes minutes here
		for _, path := range []string{"/etc/mdclone/root.conf", "/etc/mdclone/data.conf", "/usr/lib/udev/rules.d/63-mdclone.rules"} {
			conf.Files = append(conf.Files, vm.File{Path: path, Data: []byte(r.File(path))})
		}
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}

		conf.Args = append(conf.Args, "mdclone=backup", "mdclone.verify=changed", "break=premount,mount", "panic=")
		r.Machine = LaunchIn(t, l, conf)
		r.await(t, "(initramfs)")
		r.enter(t, above)
		r.await(t, "looked atall")
		if said := r.Console(); strings.Contains(said, "is there") {
			t.Errorf("before the release there is something on an array:\n%s", said)
		}
		r.enter(t, "exit")
		if err := r.AwaitConsoleMatch(r.Context(), regexp.MustCompile(`(?s)the arrays are released.*\(initramfs\)`)); err != nil {
			t.Fatal(err)
		}
		r.enter(t, above)
		if err := r.AwaitConsoleMatch(r.Context(), regexp.MustCompile("(?s)"+label+" is there.*"+uuid+` is there.*md\d+ is there.*looked atall`)); err != nil {
			t.Fatal(err)
		}
		for i, primary := range []string{"p1", "d1"} {
			sameMembers(t, disks[primary].Path, partition(t, disks["both"].Path, partitions[i]))
		}
		r.enter(t, "exit")
		r.Up()
		r.nothingBefore(t)
		o := r.outcome(t, offlineCase{code: report.Done})
		if a := o.Account.Arrays; len(a) != 2 || a[0].Result != "done" || a[1].Result != "done" {
			t.Errorf("the account is %+v; want both arrays done", a)
		}
	})
}

// partitioned is a drive with those partitions.
func partitioned(t *testing.T) vm.Disk {
	t.Helper()
	d := NewDisk(t, "both", 2+vm.MachineDisk/mib+dataMiB)
	f, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(dosTable(partitions)); err != nil {
		t.Fatal(err)
	}
	return d
}

// dosTable is the first sector of a disk with partitions, each from a byte on and so long.
func dosTable(partitions [][2]int64) []byte {
	sector := make([]byte, 512)
	for i, p := range partitions {
		entry := sector[446+16*i:]
		entry[4] = 0xfd
		binary.LittleEndian.PutUint32(entry[8:], uint32(p[0]/512))
		binary.LittleEndian.PutUint32(entry[12:], uint32(p[1]/512))
	}
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

// partition is a copy of a part of an image.
func partition(t *testing.T, path string, part [2]int64) string {
	t.Helper()
	from, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(filepath.Join(t.TempDir(), "part"))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.Copy(to, io.NewSectionReader(from, part[0], part[1])); err != nil {
		t.Fatal(err)
	}
	return to.Name()
}
