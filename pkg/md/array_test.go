package md

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/sysfs"
)

// array is md0 in a made-up sysfs; attributes are named below its md directory.
func array(t *testing.T, attrs map[string]string) Array {
	t.Helper()
	root := t.TempDir()
	for name, text := range attrs {
		path := filepath.Join(root, "block/md0/md", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Array{sysfs.At(root), "md0"}
}

// TestArrayState: what the kernel leaves out, or says in words of its own.
func TestArrayState(t *testing.T) {
	for _, test := range []struct {
		name  string
		attrs map[string]string
		want  State
	}{
		{"inactive: most is not there", map[string]string{"array_state": "inactive\n"}, State{ArrayState: "inactive"}},
		{
			"all of it",
			map[string]string{
				"array_state": "active\n", "level": "raid1\n", "metadata_version": "1.2\n", "sync_action": "idle\n", "bitmap/location": "+8\n",
				"raid_disks": "3 (2)\n", "degraded": "1\n", "component_size": "1024\n", "suspend_lo": "0\n", "suspend_hi": "8\n",
				"dev-vda/state": "in_sync,write_mostly\n", "dev-vda/slot": "0\n", "dev-vdb/state": "spare\n", "dev-vdb/slot": "none\n",
				"dev-vdc/state": "faulty\n",
			},
			State{
				ArrayState: "active", Level: "raid1", Metadata: "1.2", SyncAction: "idle", RaidDisks: 3, Degraded: 1,
				ComponentSize: 1 << 20, Suspended: true, Members: []MemberState{
					{Name: "vda", Slot: 0, Flags: []string{"in_sync", "write_mostly"}},
					{Name: "vdb", Slot: -1, Flags: []string{"spare"}},
				}, // vdc left between two reads
			},
		},
		{
			"odd",
			map[string]string{
				"array_state": "clean\n", "bitmap/location": "none\n", "raid_disks": "delayed\n", "degraded": "\n", "component_size": "none\n",
				"suspend_lo": "none\n", "sync_action": "delayed\n", "dev-vda/state": "\n", "dev-vda/slot": "-7\n",
			},
			State{ArrayState: "clean", SyncAction: "delayed", Members: []MemberState{{Name: "vda", Slot: -1}}},
		},
	} {
		got, err := array(t, test.attrs).State()
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%s: State() = %v (-want +got):\n%s", test.name, err, diff)
		}
	}
	if got, err := array(t, map[string]string{"level": "raid1\n"}).State(); err == nil {
		t.Errorf("without array_state: State() = %+v; want an error", got)
	}
}

func TestBadBlocks(t *testing.T) {
	for _, test := range []struct {
		acked, unacked string
		want           bool
	}{{"", "", false}, {"\n", "\n", false}, {"4096 8\n", "", true}, {"", "4096 8\n", true}} {
		a := array(t, map[string]string{"dev-vda/bad_blocks": test.acked, "dev-vda/unacknowledged_bad_blocks": test.unacked})
		if got, err := a.BadBlocks("vda"); err != nil || got != test.want {
			t.Errorf("BadBlocks() of %q, %q = %v, %v; want %v", test.acked, test.unacked, got, err, test.want)
		}
	}
	if got, err := array(t, map[string]string{"dev-vda/bad_blocks": ""}).BadBlocks("vda"); err == nil {
		t.Errorf("without one of them: BadBlocks() = %v; want an error", got)
	}
}
