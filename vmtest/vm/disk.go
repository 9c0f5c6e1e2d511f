package vm

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
)

// Bus is how a disk is attached.
type Bus string

// The buses.
const (
	Virtio Bus = "virtio" // /dev/vdX
	SCSI   Bus = "scsi"   // /dev/sdX on virtio-scsi
	USB    Bus = "usb"    // /dev/sdX, a USB 2 mass storage device: the kernel limits it to 120 KiB a request
)

// Disk is a disk of a virtual machine.
type Disk struct {
	Serial   string // also its id towards QEMU; at most 20 bytes
	Path     string // of the image on the host
	Format   string // raw (the default) or qcow2
	Bus      Bus    // Virtio by default
	ReadOnly bool
	Cache    string // QEMU's cache mode: unsafe (the default; a Kill loses nothing that the guest flushed), writeback or none

	LogicalBlock  int // bytes, 512 by default
	PhysicalBlock int // bytes, the logical block by default

	Device map[string]any // more properties of the device, as QMP's device_add knows them
	Block  map[string]any // replaces the block backend, as QMP's blockdev-add knows it (its node-name is set)
}

// NewDisk makes an empty disk of size bytes in dir, which takes no space until it is written. The serial is name.
func NewDisk(dir, name string, size int64) (Disk, error) {
	path := filepath.Join(dir, name+".img")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return Disk{}, fmt.Errorf("make disk %s: %w", name, err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return Disk{}, fmt.Errorf("make disk %s: %w", name, err)
	}
	return Disk{Serial: name, Path: path}, nil
}

// Overlay makes a qcow2 image at path that has the content of base, also qcow2 if d is, and keeps what is written.
// It returns d with the new image.
func (d Disk) Overlay(ctx context.Context, path string) (Disk, error) {
	base, err := filepath.Abs(d.Path)
	if err != nil {
		return Disk{}, err
	}
	if _, err := output(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", d.format(), "-b", base, path); err != nil {
		return Disk{}, fmt.Errorf("lay over disk %s: %w", d.Serial, err)
	}
	d.Path, d.Format = path, "qcow2"
	return d, nil
}

func (d Disk) format() string {
	if d.Format == "" {
		return "raw"
	}
	return d.Format
}

func (d Disk) bus() Bus {
	if d.Bus == "" {
		return Virtio
	}
	return d.Bus
}

func (d Disk) node() string { return "node-" + d.Serial }

// blockdev is the argument of QMP's blockdev-add.
func (d Disk) blockdev() (map[string]any, error) {
	if d.Serial == "" || len(d.Serial) > 20 {
		return nil, fmt.Errorf("disk %s: serial %q: want 1 to 20 bytes", d.Path, d.Serial)
	}
	b := map[string]any{
		"driver": d.format(), "read-only": d.ReadOnly,
		"file": map[string]any{"driver": "file", "filename": d.Path},
	}
	if d.Block != nil {
		b = maps.Clone(d.Block)
	}
	b["node-name"] = d.node()
	switch d.Cache {
	case "", "unsafe":
		b["cache"] = map[string]any{"direct": false, "no-flush": true}
	case "writeback":
		b["cache"] = map[string]any{"direct": false, "no-flush": false}
	case "none":
		b["cache"] = map[string]any{"direct": true, "no-flush": false}
	default:
		return nil, fmt.Errorf("disk %s: unknown cache mode %q", d.Serial, d.Cache)
	}
	return b, nil
}

// device is the argument of QMP's device_add.
func (d Disk) device() (map[string]any, error) {
	dev := map[string]any{"id": d.Serial, "drive": d.node(), "serial": d.Serial}
	switch d.bus() {
	case Virtio:
		dev["driver"] = "virtio-blk-pci"
	case SCSI:
		dev["driver"], dev["bus"] = "scsi-hd", scsiBus+".0"
	case USB:
		dev["driver"], dev["bus"] = "usb-storage", usbBus+".0"
	default:
		return nil, fmt.Errorf("disk %s: unknown bus %q", d.Serial, d.Bus)
	}
	if d.LogicalBlock != 0 {
		dev["logical_block_size"] = d.LogicalBlock
		dev["physical_block_size"] = d.LogicalBlock
	}
	if d.PhysicalBlock != 0 {
		dev["physical_block_size"] = d.PhysicalBlock
	}
	maps.Copy(dev, d.Device)
	return dev, nil
}
