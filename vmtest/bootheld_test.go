//go:build vmtest

package vmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// TestBootNewestIsHidden: both of the machine's own disks failed in one moment, so that md wrote one of its two superblock updates
// between, and the array went on on the clone. mdadm starts it from the old disks, before anybody has looked at the clone.
func TestBootNewestIsHidden(t *testing.T) {
	for i, system := range systems {
		if !everySystem.runsOn(i) {
			continue
		}
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			l := Lab(t)
			c := bootCase{disks: strings.Fields(last), args: []string{vm.LightArg}}
			conf, _ := c.config(t, diskStates(t, l, system)["ahead"])
			raw(t, &conf)
			oneEventBehind(t, conf.Disks[0].Path, conf.Disks[1].Path)
			old := readMember(t, conf.Disks[1].Path).Super

			r := &rig{Machine: BootIn(t, l, conf)}
			said := r.Must("dmesg")
			if !strings.Contains(said, "which mdadm has started from disks of array root") {
				t.Errorf("mdadm has not started the old disks, so that this shows nothing:\n%s", said)
			}
			if got := strings.TrimSpace(r.File(vm.Generation)); got != "newest" {
				t.Errorf("booted the data %q; want newest\n%s", got, said)
			}
			if slots := r.slots(); slots != "--2" {
				t.Errorf("the array is %s; want --2", slots)
			}
			r.runsFromClone(t, true)
			if err := r.Kill(); err != nil {
				t.Fatal(err)
			}
			if now := readMember(t, conf.Disks[1].Path).Super; now.Events != old.Events || now.Updated != old.Updated {
				t.Errorf("the old disk was written to: events %d, %d before", now.Events, old.Events)
			}
		})
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
