//go:build vmtest

package vmtest

import (
	"hash/maphash"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"mdclone/vmtest/vm"
)

// TestMachine tests the full machine as the tests of the product find it: that it boots through its own initramfs, that
// its array is whole and its members equal, and what mdclone-gen put into it.
func TestMachine(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite string) {
		l := Lab(t)
		conf := "array = " + vm.MachineArray + "\nclone = 00000000:11111111:22222222:33333333\n"
		files := append(slices.Clone(productFiles(t, l)), vm.File{Path: "/etc/mdclone/root.conf", Data: []byte(conf)})
		base, err := l.Machine(t.Context(), suite, files...)
		if err != nil {
			t.Fatal(err)
		}
		sameData(t, base.Disks[0].Path, base.Disks[1].Path)
		m := BootMachine(t, l, base, nil)
		if got, want := strings.TrimSpace(m.Must("findmnt", "-no", "SOURCE", "/")), "/dev/mapper/vg0-root"; got != want {
			t.Errorf("root is on %s; want %s", got, want)
		}
		if got := m.Try("systemctl", "is-system-running", "--wait"); got.Stdout != "running\n" {
			t.Errorf("is-system-running = %q; want running\n%s", got.Stdout, m.Script("systemctl --failed --no-pager --plain; "+
				"for unit in $(systemctl --failed --no-legend --plain | cut -d' ' -f1); do systemctl status -n 50 --no-pager $unit; "+
				"done; journalctl -b --no-pager -p notice | tail -n 60; true"))
		}
		m.Must("mdclone-gen", "verify")
		for attribute, want := range map[string]string{"degraded": "0", "raid_disks": "2", "metadata_version": "1.2"} {
			if got := strings.TrimSpace(m.File("/sys/block/md0/md/" + attribute)); got != want {
				t.Errorf("%s = %s; want %s", attribute, got, want)
			}
		}
		if err := m.PowerOff(m.Context()); err != nil {
			t.Errorf("PowerOff() = %v; want nil", err)
		}
	})
}

// sameData tests that two members' images have the same data.
func sameData(t *testing.T, a, b string) {
	t.Helper()
	const metadata = 2 << 20 // superblock and bitmap are before it, and differ
	var sums [2]uint64
	seed := maphash.MakeSeed()
	for i, path := range []string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var h maphash.Hash
		h.SetSeed(seed)
		n, err := io.Copy(&h, io.NewSectionReader(f, metadata, vm.MachineDisk))
		if err != nil || n != vm.MachineDisk-metadata {
			t.Fatalf("read %s: %d bytes, %v", path, n, err)
		}
		sums[i] = h.Sum64()
	}
	if sums[0] != sums[1] {
		t.Error("the members of the array differ; want them equal")
	}
}
