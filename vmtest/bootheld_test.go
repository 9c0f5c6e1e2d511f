//go:build vmtest

package vmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// TestBootNewestIsHidden: both of the machine's own disks failed in one moment, so that md wrote one of its two superblock updates
// between, and the array went on on the clone. mdadm starts it from the old disks, before anybody has looked at the clone, or
// while the second one is waited for. Where the clone does not start, it is kept out of the array that does.
func TestBootNewestIsHidden(t *testing.T) {
	for i, system := range systems {
		for name, c := range map[string]bootCase{
			"at once": {disks: strings.Fields(last), data: "newest", array: "--2", wrote: true, on: everySystem},
			"the last one late": {
				disks: []string{"p1", vm.CloneSerial}, late: []string{"p2"}, args: []string{"mdclone.wait=300"}, data: "newest", array: "--2",
				wrote: true, on: firstSuite,
			},
			"the clone does not start": {disks: strings.Fields(last), data: "current", array: "-1-|01-", on: everySystem},
		} {
			if !c.on.runsOn(i) {
				continue
			}
			t.Run(system+"/"+name, func(t *testing.T) {
				t.Parallel()
				c.newestIsHidden(t, system)
			})
		}
	}
}

func (c bootCase) newestIsHidden(t *testing.T, system string) {
	l := Lab(t)
	base := diskStates(t, l, system)["ahead"]
	conf, err := base.Config(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	raw(t, &conf)
	disks := map[string]vm.Disk{}
	for _, d := range conf.Disks {
		disks[d.Serial] = d
	}
	oneEventBehind(t, disks["p1"].Path, disks["p2"].Path)
	unchanged := "p2"
	if !c.wrote {
		unchanged = vm.CloneSerial
		noBitmap(t, disks[unchanged].Path)
	}
	before := super(t, disks[unchanged])
	conf.Disks = nil
	for _, serial := range c.disks {
		conf.Disks = append(conf.Disks, disks[serial])
	}
	conf.Args = append(append(conf.Args, c.args...), vm.LightArg)
	r := &rig{Machine: LaunchIn(t, l, conf)}
	if len(c.late) > 0 {
		if err := r.AwaitConsole(r.Context(), waiting); err != nil {
			t.Fatal(err)
		}
	}
	for _, serial := range c.late {
		if err := r.Attach(r.Context(), disks[serial]); err != nil {
			t.Fatal(err)
		}
	}
	r.Up()
	said := r.Must("dmesg")
	if !strings.Contains(said, "which mdadm had started from disks of array root") {
		t.Errorf("mdadm has not started the old disks, so that this shows nothing:\n%s", said)
	}
	if got := strings.TrimSpace(r.File(vm.Generation)); got != c.data {
		t.Errorf("booted the data %q; want %q\n%s", got, c.data, said)
	}
	if slots := r.slots(); !slices.Contains(strings.Split(c.array, "|"), slots) {
		t.Errorf("the array is %s; want %s", slots, c.array)
	}
	if c.wrote {
		r.runsFromClone(t, true)
	} else if !strings.Contains(said, "is started from its old disks again") {
		t.Errorf("it is not said that the old disks are started again:\n%s", said)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if now := super(t, disks[unchanged]); now.Events != before.Events || now.Updated != before.Updated {
		t.Errorf("%s was written to: events %d, %d before", unchanged, now.Events, before.Events)
	}
}

// noBitmap destroys the bitmap on the disk image of a member, so that md does not start it.
func noBitmap(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := readMember(t, path).Super
	if _, err := f.WriteAt(make([]byte, 4096), (int64(s.SuperOffset)+int64(s.BitmapOffset))*512); err != nil {
		t.Fatal(err)
	}
}

// oneEventBehind gives the superblock on the disk image failed one event less than that on last.
func oneEventBehind(t *testing.T, failed, last string) {
	t.Helper()
	f, err := os.OpenFile(failed, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := readMember(t, failed)
	block, err := md.Reseated(m.Raw, m.Super.Slot(), readMember(t, last).Super.Events-1, true)
	if err == nil {
		_, err = f.WriteAt(block, int64(m.Super.SuperOffset)*512)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", filepath.Base(failed), err))
	}
}
