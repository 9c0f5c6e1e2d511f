package md

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

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

// TestAnswers: a disk on which a request stays under way is given up, with its partitions; one on which something ends is not.
func TestAnswers(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const idle, read = "       0        0", "       1        0"
	for disk, inflight := range map[string]string{"sda": idle, "sdb": read} {
		write("devices/"+disk+"/inflight", inflight)
		write("devices/"+disk+"/stat", "      5        0     8576     2332        0        0        0        0        1     2400     9")
		write("devices/"+disk+"/"+disk+"1/partition", "1")
		write("devices/"+disk+"/"+disk+"1/inflight", idle)
	}
	if err := os.MkdirAll(filepath.Join(root, "class/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"sda": "sda", "sda1": "sda/sda1", "sdb": "sdb", "sdb1": "sdb/sdb1"} {
		if err := os.Symlink("../../devices/"+target, filepath.Join(root, "class/block", name)); err != nil {
			t.Fatal(err)
		}
	}
	var told []string
	s := Scanner{FS: sysfs.At(root), Patience: 50 * time.Millisecond, Silent: func(disk string) { told = append(told, disk) }}
	names := []string{"sda", "sda1", "sdb", "sdb1", "gone"}
	for range 2 {
		if got, want := s.answering(names), []string{"sda", "sda1", "gone"}; !slices.Equal(got, want) {
			t.Errorf("answering = %q; want %q", got, want)
		}
	}
	if want := []string{"sdb"}; !slices.Equal(told, want) {
		t.Errorf("told of %q; want %q, once", told, want)
	}
	write("devices/sdb/stat", "      5        0     8576     9999        0        0        0        0        1     9999     9")
	if s.Answers("sdb") {
		t.Error("sdb answers as time goes by; want it silent")
	}
	write("devices/sdb/stat", "      6        0     8576     2332        0        0        0        0        1     2400     9")
	if !s.Answers("sdb1") {
		t.Error("sdb is silent although a read has ended")
	}
}
