package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFindDisk(t *testing.T) {
	sys := t.TempDir()
	for path, text := range map[string]string{
		"block/vda/serial":          "p1",
		"block/vdb/serial":          "p2\n",
		"block/sda/device/vpd_pg80": "\x00\x80\x00\x05clone",
		"block/sdb/device/vpd_pg80": "\x00\x80",
		"block/loop0/size":          "0\n",

		"devices/usb2/2-1/serial":                       "stick\n",
		"devices/usb2/2-1/2-1:1.0/host1/block/sdc/size": "0\n",
	} {
		path = filepath.Join(sys, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../devices/usb2/2-1/2-1:1.0/host1/block/sdc", filepath.Join(sys, "block/sdc")); err != nil {
		t.Fatal(err)
	}
	for serial, want := range map[string]string{"p1": "vda", "p2": "vdb", "clone": "sda", "stick": "sdc", "p": ""} {
		if got, err := findDisk(sys, serial); got != want || err != nil {
			t.Errorf("findDisk(%q) = %q, %v; want %q", serial, got, err, want)
		}
	}
}
