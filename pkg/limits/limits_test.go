package limits

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/md"
	"mdclone/pkg/sysfs"
)

// machine is a made-up sysfs: md0 of vda and of a partition of vdb, with dm-0 on it, dm-1 on that, and md0p1.
func machine(t *testing.T) sysfs.FS {
	t.Helper()
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(root, target), path); err != nil {
			t.Fatal(err)
		}
	}
	for name, kb := range map[string]string{"vda": "1280", "vdb": "512", "md0": "9999", "dm-0": "1280", "dm-1": "128"} {
		dir := "devices/" + name
		put(dir+"/queue/max_sectors_kb", kb)
		put(dir+"/queue/max_hw_sectors_kb", "2048")
		put(dir+"/queue/logical_block_size", "512")
		put(dir+"/queue/max_segments", "128")
		put(dir+"/queue/max_segment_size", "65536")
		link(dir, "class/block/"+name)
		link(dir, "block/"+name)
	}
	put("devices/vdb/vdb1/partition", "1")
	link("devices/vdb/vdb1", "class/block/vdb1")
	put("devices/md0/md0p1/partition", "1")
	link("devices/md0/md0p1", "class/block/md0p1")
	put("devices/md0/holders/dm-0", "")
	put("devices/dm-0/holders/dm-1", "")
	put("devices/dm-0/slaves/md0", "")
	put("devices/dm-1/slaves/dm-0", "")
	put("devices/md0/md/array_state", "clean")
	for name, slot := range map[string]string{"vda": "0", "vdb1": "1"} {
		put("devices/md0/md/dev-"+name+"/state", "in_sync")
		put("devices/md0/md/dev-"+name+"/slot", slot)
	}
	return sysfs.At(root)
}

func TestReadOfAPartitionIsItsDisks(t *testing.T) {
	f := machine(t)
	want := Queue{MaxSectorsKB: 512, MaxHWSectorsKB: 2048, LogicalBlock: 512, MaxSegments: 128, MaxSegmentSize: 65536}
	for _, name := range []string{"vdb", "vdb1"} {
		if got, err := Read(f, name); got != want || err != nil {
			t.Errorf("Read(%s) = %+v, %v; want %+v", name, got, err, want)
		}
	}
	if _, err := Read(f, "none"); err == nil {
		t.Error("Read(none) succeeded")
	}
}

func TestAbove(t *testing.T) {
	got, err := Above(machine(t), "md0")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"dm-0", "md0p1", "dm-1"}, got); diff != "" {
		t.Errorf("Above(md0) (-want +got):\n%s", diff)
	}
}

func TestPin(t *testing.T) {
	a := md.Array{FS: machine(t), Name: "md0"}
	got, err := Pin(a, 1000)
	if err == nil || got.After != 5129 || got.Wanted != 1000 || got.Members != 512 {
		// a file keeps the rest of a longer value: 512, which is the most that a member takes, over 9999 reads 5129
		t.Fatalf("Pin(1000) = %+v, %v; want it to say that the kernel kept 5129", got, err)
	}
	if err := os.WriteFile(a.FS.Path("block/md0/queue/max_sectors_kb"), []byte("999\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err = Pin(a, 256); err != nil {
		t.Fatal(err)
	}
	dm0 := Device{"dm-0", Queue{MaxSectorsKB: 1280, MaxHWSectorsKB: 2048, LogicalBlock: 512, MaxSegments: 128, MaxSegmentSize: 65536}}
	want := PinResult{Wanted: 256, Before: 999, After: 256, Members: 512, Late: []Device{dm0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Pin(256) (-want +got):\n%s", diff)
	}
}

func TestPinOnlyAnActiveArray(t *testing.T) {
	a := md.Array{FS: machine(t), Name: "md0"}
	if err := a.FS.Write("inactive", a.Attr("array_state")); err != nil {
		t.Fatal(err)
	}
	if _, err := Pin(a, 128); !errors.Is(err, ErrNotActive) {
		t.Errorf("Pin() = %v; want %v", err, ErrNotActive)
	}
	if q, err := Read(a.FS, "md0"); q.MaxSectorsKB != 9999 || err != nil {
		t.Errorf("the limit is %d, %v; want it untouched", q.MaxSectorsKB, err)
	}
}
