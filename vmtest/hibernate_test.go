//go:build vmtest

package vmtest

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"mdclone/pkg/report"
	"mdclone/vmtest/vm"
)

// napMiB is the size of the swap areas.
const napMiB = 8

// The signatures of a swap area, which end its first page: of one with an image, and of one in use. The kernel puts the
// latter back before it reads an image, so that it is tried once (kernel/power/swap.c, Linux 6.12).
const asleep, awake = "S1SUSPEND\x00", "SWAPSPACE2"

// nap is the first page of a swap area that says that a system sleeps in it. No image follows: the kernel goes on without.
func nap() []byte {
	const version, lastPage, original, signature = 1024, 1028, 4076, 4086
	page := make([]byte, 4096)
	binary.LittleEndian.PutUint32(page[version:], 1)
	binary.LittleEndian.PutUint32(page[lastPage:], napMiB<<20/4096-1)
	copy(page[original:], awake)
	copy(page[signature:], asleep)
	return page
}

// A napCase is a boot with mdclone=backup while a system sleeps.
type napCase struct {
	name    string
	state   string // of the disks, see states
	place   string // of the image
	code    report.Code
	why     string // among the outcome's reasons
	resumes bool   // the image is tried after all
	wrote   bool   // the clone may be written
}

const napVolume = "/dev/mapper/vg0-swap"

var napCases = []napCase{
	{name: "on a disk", state: "stale", place: "/dev/vdd", code: report.Refused, why: "hibernation", resumes: true},
	{name: "on the array", state: "stale", place: napVolume, wrote: true},
	{name: "on the array, and the clone is refused", state: "diverged", place: napVolume, code: report.Refused, why: "ran-alone", resumes: true},
}

// TestHibernation: no clone is made where it can be seen that a system sleeps. Where its image is on the array, it is not
// resumed after a clone was made, and it is if nothing was done.
func TestHibernation(t *testing.T) {
	eachSystem(t, suites[1:], func(t *testing.T, system string) {
		l := Lab(t)
		all := diskStates(t, l, system)
		for _, c := range napCases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, l, system, all[c.state])
			})
		}
	})
}

func (c napCase) run(t *testing.T, l *vm.Lab, system string, base vm.Machine) {
	if vm.HasDracut(system) && c.place != napVolume { // an image that dracut sees is tried before anything else is done
		c.code, c.why, c.wrote = report.Done, "", true
	}
	args := []string{"mdclone=backup", "mdclone.verify=changed", vm.LightArg, "resume=" + c.place}
	if vm.HasDracut(system) && c.place == napVolume { // it starts no volumes but those that it is told of
		args = append(args, "rd.lvm.lv=vg0/swap")
	}
	conf, disks := bootCase{disks: strings.Fields(last), args: args}.config(t, base)
	if c.place == napVolume {
		fallAsleepOnArray(t, l, vm.SuiteOf(system), conf.Disks[:2])
	} else {
		d := NewDisk(t, "swap", napMiB)
		if err := writeAt(d.Path, nap()); err != nil {
			t.Fatal(err)
		}
		conf.Disks = append(conf.Disks, d)
	}
	r := offline{&rig{Machine: BootIn(t, l, conf)}, disks}
	if got := strings.TrimSpace(r.File(vm.Generation)); got != "current" {
		t.Errorf("booted the data %q; want current", got)
	}
	if got := r.slots(); got != "01-" {
		t.Errorf("the array is %s; want 01-", got)
	}
	r.nothingBefore(t)
	r.outcome(t, offlineCase{code: c.code, why: c.why})

	signature := r.Script("dd if=" + c.place + " bs=1 skip=4086 count=10 status=none")
	tried := strings.TrimSpace(r.File("/sys/power/resume"))
	device := strings.TrimSpace(r.Script("mountpoint -x $(realpath " + c.place + ")"))
	switch {
	case c.resumes && (signature != awake || tried != device):
		t.Errorf("the image was not tried: its signature is %q, /sys/power/resume is %s; want %q, %s", signature, tried, awake, device)
	case !c.resumes && (signature != asleep || tried != "0:0"):
		t.Errorf("the image was tried: its signature is %q, /sys/power/resume is %s; want %q, 0:0", signature, tried, asleep)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if written, err := disks[vm.CloneSerial].Written(t.Context()); err != nil || written != c.wrote {
		t.Errorf("the clone was written: %v, %v; want %v", written, err, c.wrote)
	}
}

// fallAsleepOnArray puts a swap area with an image on a volume of the array of those disks.
func fallAsleepOnArray(t *testing.T, l *vm.Lab, suite string, primaries []vm.Disk) {
	t.Helper()
	m := BootIn(t, l, vm.Config{Suite: suite, Disks: primaries, Files: []vm.File{{Path: "/nap", Data: nap()}}})
	m.Script(fmt.Sprintf(`
		mdadm --assemble --run --quiet /dev/md0 /dev/vda /dev/vdb
		lvcreate -qy -Wn -Zn -L %dM -n swap vg0 >&2
		dd if=/nap of=%s conv=fsync status=none
		vgchange -qan vg0 >&2
		mdadm --stop --quiet /dev/md0`, napMiB, napVolume))
	if err := m.PowerOff(m.Context()); err != nil {
		t.Fatal(err)
	}
}

// writeAt overwrites the beginning of a file.
func writeAt(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
