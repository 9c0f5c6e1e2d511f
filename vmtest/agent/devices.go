package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mdclone/vmtest/wire"
)

// openPort opens the agent's virtio-serial port, and waits for it where it is not there yet: the host names it some
// time after the driver is loaded. Blocking mode is wanted: two threads, one for each direction.
func openPort() (*os.File, error) {
	var device string
	err := untilDevice(func() (bool, error) {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return false, err
		}
		for _, n := range names {
			text, err := os.ReadFile(n)
			if err == nil && strings.TrimSpace(string(text)) == wire.Port {
				device = "/dev/" + filepath.Base(filepath.Dir(n))
				_, err := os.Stat(device)
				return err == nil, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("find the port %s: %w", wire.Port, err)
	}
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: device, Err: err}
	}
	return os.NewFile(uintptr(fd), device), nil
}

// waitDisk waits until a disk with serial is there with its node in /dev, or is not, and returns its kernel name. One that is
// there has been announced to udev, whose settling may be awaited.
func waitDisk(serial string, present bool) (string, error) {
	var name string
	err := untilDevice(func() (bool, error) {
		var err error
		if name, err = findDisk("/sys", serial); err != nil || name == "" {
			return !present, err
		}
		// the kernel lets nobody open a disk before it has looked for partitions, and announces it then (device_add_disk, block/genhd.c)
		return present && opens("/dev/"+name), nil
	})
	if err != nil {
		return "", fmt.Errorf("wait for disk %q: %w", serial, err)
	}
	return name, nil
}

// opens says whether the device can be opened to read.
func opens(node string) bool {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	return unix.Close(fd) == nil
}

// findDisk returns the kernel name of the disk with serial, "" if there is none.
func findDisk(sys, serial string) (string, error) {
	disks, err := os.ReadDir(filepath.Join(sys, "block"))
	if err != nil {
		return "", err
	}
	for _, d := range disks {
		if diskSerial(filepath.Join(sys, "block", d.Name())) == serial {
			return d.Name(), nil
		}
	}
	return "", nil
}

// diskSerial is the serial of the disk at the sysfs path block, "" if it has none: virtio-blk has an attribute for it,
// a SCSI disk has its unit serial number page (SPC-4, 7.8.15: four bytes of header, then text), and a USB disk has
// neither, but the USB device above it has one.
func diskSerial(block string) string {
	if page, err := os.ReadFile(filepath.Join(block, "device/vpd_pg80")); err == nil && len(page) > 4 {
		return strings.TrimSpace(string(page[4:]))
	}
	dir, err := filepath.EvalSymlinks(block)
	for ; err == nil && len(dir) > 1; dir = filepath.Dir(dir) {
		if text, err := os.ReadFile(filepath.Join(dir, "serial")); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	return ""
}

// untilDevice returns when ready says true: it asks at once and after each event that the kernel sends about a device.
func untilDevice(ready func() (bool, error)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("open the kernel's device events: %w", err)
	}
	defer unix.Close(fd)
	const kernel = 1 // the multicast group of the kernel's own events; udev's is 2
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernel}); err != nil {
		return fmt.Errorf("listen to the kernel's device events: %w", err)
	}
	buf := make([]byte, 16<<10)
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		for {
			n, err := unix.Read(fd, buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			// ENOBUFS: events were lost, so something happened.
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				return fmt.Errorf("read the kernel's device events: %w", err)
			}
			if err != nil || bytes.Contains(buf[:n], []byte("SUBSYSTEM=block")) ||
				bytes.Contains(buf[:n], []byte("SUBSYSTEM=virtio-ports")) {
				break
			}
		}
	}
}
