package vm

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// values are the values of an option that may be given more than once.
func values(args []string, option string) []string {
	var all []string
	for i, a := range args {
		if a == option {
			all = append(all, args[i+1])
		}
	}
	return all
}

func TestQEMUArgs(t *testing.T) {
	args, err := qemuArgs(Config{
		Image: Image{Kernel: "/k", Initrd: "/i"}, Args: []string{"quiet"}, Memory: 512, CPUs: 2, Watchdog: true,
		Disks: []Disk{
			{Serial: "p1", Path: "/p1.img"},
			{Serial: "c", Path: "/c.qcow2", Format: "qcow2", Bus: SCSI, LogicalBlock: 4096, Cache: "none", ReadOnly: true},
		},
		QEMU: []string{"-s"},
	}, "tcg")
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range map[string]string{
		"-accel": "tcg", "-m": "512", "-smp": "2", "-kernel": "/k", "-initrd": "/i", "-action": "watchdog=poweroff",
	} {
		if got := values(args, option); !slices.Equal(got, []string{want}) {
			t.Errorf("qemuArgs: %s %q; want %q", option, got, want)
		}
	}
	if got := values(args, "-append")[0]; !strings.HasSuffix(got, " quiet") || !strings.Contains(got, "panic=-1") {
		t.Errorf("qemuArgs: -append %q; want panic=-1 and, last, quiet", got)
	}
	if args[len(args)-1] != "-s" {
		t.Errorf("qemuArgs: last %q; want the caller's -s", args[len(args)-1])
	}
	devices := values(args, "-device")
	if !slices.Contains(devices, "virtio-scsi-pci,id=hba-scsi") || slices.Contains(devices, "qemu-xhci,id=hba-usb") {
		t.Errorf("qemuArgs: -device %q; want a SCSI controller, since a disk is on it, and no USB", devices)
	}
	type object = map[string]any
	var got []object
	for _, text := range append(values(args, "-blockdev"), devices[len(devices)-2:]...) {
		var o object
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Fatalf("qemuArgs: %s: %v", text, err)
		}
		got = append(got, o)
	}
	want := []object{
		{
			"driver": "raw", "node-name": "node-p1", "read-only": false,
			"file":  object{"driver": "file", "filename": "/p1.img"},
			"cache": object{"direct": false, "no-flush": true},
		},
		{
			"driver": "qcow2", "node-name": "node-c", "read-only": true,
			"file":  object{"driver": "file", "filename": "/c.qcow2"},
			"cache": object{"direct": true, "no-flush": false},
		},
		{"driver": "virtio-blk-pci", "id": "p1", "drive": "node-p1", "serial": "p1"},
		{
			"driver": "scsi-hd", "bus": "hba-scsi.0", "id": "c", "drive": "node-c", "serial": "c",
			"logical_block_size": 4096., "physical_block_size": 4096.,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("qemuArgs: disks (-want +got):\n%s", diff)
	}
}

func TestQEMUArgsFirmware(t *testing.T) {
	args, err := qemuArgs(Config{Image: Image{Kernel: "/k", Initrd: "/i"}, Firmware: true}, "tcg")
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range []string{"-kernel", "-initrd", "-append"} {
		if slices.Contains(args, option) {
			t.Errorf("qemuArgs: %s among %q; want the machine to start by itself", option, args)
		}
	}
}

func TestQEMUArgsRefuses(t *testing.T) {
	for name, d := range map[string]Disk{
		"no serial":         {Path: "/a"},
		"a long serial":     {Path: "/a", Serial: "123456789012345678901"},
		"an unknown bus":    {Path: "/a", Serial: "a", Bus: "ide"},
		"an unknown cache ": {Path: "/a", Serial: "a", Cache: "fast"},
	} {
		if args, err := qemuArgs(Config{Disks: []Disk{d}}, "tcg"); err == nil {
			t.Errorf("qemuArgs with %s = %q, nil; want an error", name, args)
		}
	}
}

func TestDiskOverrides(t *testing.T) {
	d := Disk{
		Serial: "c", Path: "/c", Bus: SCSI, PhysicalBlock: 4096,
		Device: map[string]any{"bus": "slow.0"}, Block: map[string]any{"driver": "null-co", "size": 1024},
	}
	device, err := d.device()
	want := map[string]any{
		"driver": "scsi-hd", "bus": "slow.0", "id": "c", "drive": "node-c", "serial": "c", "physical_block_size": 4096,
	}
	if diff := cmp.Diff(want, device); diff != "" || err != nil {
		t.Errorf("device() = %v (-want +got):\n%s", err, diff)
	}
	block, err := d.blockdev()
	if err != nil || block["driver"] != "null-co" || block["node-name"] != "node-c" || block["file"] != nil {
		t.Errorf("blockdev() = %v, %v; want the given one with a node name", block, err)
	}
	if d.Block["node-name"] != nil {
		t.Error("blockdev() changed the disk's Block")
	}
}
