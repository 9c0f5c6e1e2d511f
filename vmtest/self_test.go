//go:build vmtest

package vmtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"mdclone/vmtest/vm"
)

// TestBareGuest tests the harness itself: what the other tests stand on.
func TestBareGuest(t *testing.T) {
	eachKernel(t, func(t *testing.T, suite string) {
		m := Boot(t, vm.Config{
			Suite: suite, SCSI: true, USB: true, Fio: true,
			QEMU:  []string{"-device", "virtio-scsi-pci,id=small,max_sectors=240"},
			Disks: []vm.Disk{NewDisk(t, "p1", 64), NewDisk(t, "p2", 64)},
			Files: []vm.File{{Path: "/sbin/hello", Mode: 0o755, Data: []byte("#!/bin/sh\necho hello $1\n")}},
		})
		if got, want := m.Must("hello", "guest"), "hello guest\n"; got != want {
			t.Errorf("hello = %q; want %q", got, want)
		}
		t.Run("commands", func(t *testing.T) { commands(t, m.In(t)) })
		t.Run("files", func(t *testing.T) { files(t, m.In(t)) })
		t.Run("array", func(t *testing.T) { array(t, m.In(t)) })
		t.Run("disks", func(t *testing.T) { disks(t, m.In(t)) })
		t.Run("modules", func(t *testing.T) { modules(t, m.In(t)) })
		if err := m.PowerOff(m.Context()); err != nil {
			t.Errorf("PowerOff() = %v; want nil", err)
		}
	})
}

func commands(t *testing.T, m *Machine) {
	r := m.Try("bash", "-c", "echo out; echo err >&2; exit 7")
	if r.Stdout != "out\n" || r.Stderr != "err\n" || r.Code != 7 || r.Err() == nil {
		t.Errorf("Run = %+v, Err() = %v; want out, err and status 7", r, r.Err())
	}
	if _, err := m.Run(m.Context(), "no-such-program"); err == nil {
		t.Error("Run(no-such-program) = nil; want an error")
	}
	p, err := m.Spawn(m.Context(), vm.Command{Argv: []string{"sh", "-c", "cat; echo $A; sleep 1000"}, Env: []string{"A=b"}, Stdin: []byte("in\n")})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitStdout(m.Context(), "in\nb\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if r, err := p.Wait(m.Context()); err != nil || r.Signal != syscall.SIGTERM {
		t.Errorf("Wait() = %+v, %v; want signal %v", r, err, syscall.SIGTERM)
	}
	// An orphan of a command that has ended is reaped.
	m.Script("(true &); until ! ps -o stat,comm | grep -q '^Z'; do sleep 0.05; done")
}

func files(t *testing.T, m *Machine) {
	want := make([]byte, 5<<20+3)
	rand.Read(want)
	if err := m.WriteFile(m.Context(), "/tmp/a/b", want, 0o640); err != nil {
		t.Fatal(err)
	}
	got, err := m.ReadFile(m.Context(), "/tmp/a/b")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("ReadFile = %d bytes, %v; want the %d bytes that were written", len(got), err, len(want))
	}
	if got := strings.TrimSpace(m.Must("stat", "-c", "%a %s", "/tmp/a/b")); got != "640 5242883" {
		t.Errorf("mode and size = %s; want 640 5242883", got)
	}
	if _, err := m.ReadFile(m.Context(), "/no/file"); err == nil {
		t.Error("ReadFile(/no/file) = nil; want an error")
	}
}

func array(t *testing.T, m *Machine) {
	m.Script(`mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 --bitmap=internal --assume-clean /dev/vda /dev/vdb
		pvcreate -q /dev/md0; vgcreate -q vg0 /dev/md0; lvcreate -qy -L 32M -n root vg0
		mkfs.ext4 -q /dev/vg0/root; mount /dev/vg0/root /mnt; echo kept > /mnt/file; umount /mnt; vgchange -qan vg0`)
	if got := strings.TrimSpace(m.File("/sys/block/md0/md/array_state")); got != "clean" && got != "active" {
		t.Errorf("array_state = %q; want clean or active", got)
	}
}

func disks(t *testing.T, m *Machine) {
	for _, c := range []struct {
		disk  vm.Disk
		name  string            // how the guest's name begins
		queue map[string]string // attributes of its queue
	}{
		{vm.Disk{Serial: "virtio"}, "vdc", map[string]string{"logical_block_size": "512"}},
		{vm.Disk{Serial: "scsi", Bus: vm.SCSI, LogicalBlock: 4096}, "sd", map[string]string{"logical_block_size": "4096"}},
		{vm.Disk{Serial: "usb", Bus: vm.USB}, "sd", map[string]string{"max_hw_sectors_kb": "120", "logical_block_size": "512"}},
		{
			vm.Disk{Serial: "slow", Bus: vm.SCSI, Device: map[string]any{"bus": "small.0"}},
			"sd",
			map[string]string{"max_hw_sectors_kb": "120"},
		},
	} {
		c.disk.Path = NewDisk(t, c.disk.Serial, 32).Path
		name := m.Plugged(c.disk)
		if !strings.HasPrefix(name, c.name) {
			t.Errorf("Plug(%s) = %q; want %s...", c.disk.Serial, name, c.name)
		}
		for attribute, want := range c.queue {
			if got := strings.TrimSpace(m.File("/sys/block/" + name + "/queue/" + attribute)); got != want {
				t.Errorf("%s of %s = %s; want %s", attribute, c.disk.Serial, got, want)
			}
		}
		m.Script("dd if=/dev/urandom of=/dev/" + name + " bs=1M count=1 oflag=direct 2>&1")
		m.Unplugged(c.disk.Serial)
		if r := m.Try("test", "-e", "/sys/block/"+name); r.Code != 1 {
			t.Errorf("after Unplug(%s): /sys/block/%s is there; want it gone", c.disk.Serial, name)
		}
	}
}

// modules tests that what is not loaded at boot is loaded when it is wanted.
func modules(_ *testing.T, m *Machine) {
	m.Script(`modprobe null_blk; modprobe scsi_debug; modprobe brd
		truncate -s 400M /tmp/disk; dev=$(losetup -f --show /tmp/disk)
		size=$(blockdev --getsz $dev)
		dmsetup create flaky --table "0 $size flakey $dev 0 60 0"; dmsetup create late --table "0 $size delay /dev/mapper/flaky 0 1"
		mkfs.xfs -q /dev/mapper/late; mount /dev/mapper/late /mnt; umount /mnt; wipefs -qa /dev/mapper/late
		mkfs.btrfs -qf /dev/mapper/late; mount /dev/mapper/late /mnt; umount /mnt
		luks() { echo secret | cryptsetup -q --key-file - "$@"; }
		luks luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/mapper/late
		luks open /dev/mapper/late plain; cryptsetup close plain
		fio --name=a --filename=/dev/mapper/late --rw=randwrite --bs=4k --size=1M --direct=1 --output-format=terse >/tmp/fio
		dmsetup remove late; dmsetup remove flaky; losetup -d $dev`)
}

// TestPowerCut tests that what a guest flushed survives a cut, and the state of an array too.
func TestPowerCut(t *testing.T) {
	disks := []vm.Disk{NewDisk(t, "p1", 64), NewDisk(t, "p2", 64)}
	l := Lab(t)
	m := BootIn(t, l, vm.Config{Disks: disks})
	m.Script(`mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 --bitmap=internal --assume-clean /dev/vda /dev/vdb
		mkfs.ext4 -q /dev/md0; mount /dev/md0 /mnt; echo kept > /mnt/file; sync`)
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	m = BootIn(t, l, vm.Config{Disks: disks})
	if got, want := m.Script("mdadm -q --assemble /dev/md0 /dev/vda /dev/vdb; mount /dev/md0 /mnt; cat /mnt/file"), "kept\n"; got != want {
		t.Errorf("after the cut the file has %q; want %q", got, want)
	}
}

// TestEmulatorCrash: a machine whose kernel the emulator may have hurt is begun again, also where nobody waits for its agent.
func TestEmulatorCrash(t *testing.T) {
	anySuite(t, func(t *testing.T, suite string) {
		begun := 0
		l, err := vm.NewLab(t.Context(), func(format string, args ...any) {
			if strings.HasPrefix(fmt.Sprintf(format, args...), "qemu-system") {
				begun++
			}
			t.Logf(format, args...)
		})
		if err != nil {
			t.Fatal(err)
		}
		image, err := l.Guest(t.Context(), suite)
		if err != nil {
			t.Fatal(err)
		}
		image.Initrd = t.TempDir() + "/initrd"
		if err := os.WriteFile(image.Initrd, []byte("\x28\xb5\x2f\xfdno frame of zstd"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err = l.Launch(t.Context(), vm.Config{Image: image, Dir: t.TempDir(), Disks: []vm.Disk{NewDisk(t, "p1", 64)}})
		if err == nil || begun != 3 {
			t.Errorf("Launch() = %v after %d tries; want an error after 3", err, begun)
		}
	})
}

// TestLost: a guest that hangs is given up after the first command that it leaves unanswered, and what there is to know is said.
func TestLost(t *testing.T) {
	anySuite(t, func(t *testing.T, suite string) {
		m := Boot(t, vm.Config{Suite: suite})
		if got := m.Autopsy(); got != "" {
			t.Errorf("Autopsy() = %q while the guest answers", got)
		}
		agent := strings.TrimSpace(m.Must("sh", "-c", "echo $PPID"))
		spawn := func(argv ...string) error {
			ctx, cancel := context.WithTimeout(m.Context(), 5*time.Second)
			defer cancel()
			_, err := m.Spawn(ctx, vm.Command{Argv: argv})
			return err
		}
		err := spawn("kill", "-STOP", agent)
		for err == nil { // what it has begun before it stops
			err = spawn("true")
		}
		if !errors.Is(err, vm.ErrLost) || !errors.Is(spawn("true"), vm.ErrLost) {
			t.Errorf("a command ends with %v, and another one with %v; want ErrLost", err, spawn("true"))
		}
		if got := m.Autopsy(); !strings.Contains(got, "RIP=") || !strings.Contains(m.Console(), "Show Blocked State") {
			t.Errorf("Autopsy() = %q, the console:\n%s", got, m.Console())
		}
	})
}
