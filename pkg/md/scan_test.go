package md

import (
	"os"
	"path/filepath"
	"testing"

	"mdclone/pkg/sysfs"
)

func TestCouldBeMember(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"sda/size": "1000", "sda/holders/md0": "", "sdb/size": "1000", "sdb/holders/dm-0": "", "sdc/size": "0", "sdc/holders/.keep": "",
		"md0/size": "1000", "md0/holders/.keep": "", "dm-0/size": "1000", "dm-0/holders/md0": "", "dm-0/dm/suspended": "0",
		"dm-1/size": "1000", "dm-1/holders/md0": "", "dm-1/dm/suspended": "1",
	} {
		path = filepath.Join(root, "class/block", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{"sda": true, "sdb": false, "sdc": false, "md0": false, "dm-0": true, "dm-1": false, "gone": false} {
		if got := couldBeMember(sysfs.At(root), name); got != want {
			t.Errorf("couldBeMember(%s) = %v; want %v", name, got, want)
		}
	}
}
