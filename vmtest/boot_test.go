//go:build vmtest

package vmtest

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// installed is the full machine in which mdclone-gen install has run, with an array to pin and no clone yet.
func installed(t *testing.T, l *vm.Lab) vm.Machine {
	t.Helper()
	conf := vm.File{Path: "/etc/mdclone/root.conf", Data: []byte("array = " + vm.MachineArray + "\nmax-sectors-kb = " + vm.PinKB + "\n")}
	m, err := l.Machine(t.Context(), "bookworm", append([]vm.File{conf}, productFiles(t, l)...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// raw gives a machine plain copies of its disks: the host can read those while it runs.
func raw(t *testing.T, c *vm.Config) {
	t.Helper()
	for i, d := range c.Disks {
		path := filepath.Join(t.TempDir(), d.Serial+".img")
		if out, err := exec.CommandContext(t.Context(), "qemu-img", "convert", "-O", "raw", d.Path, path).CombinedOutput(); err != nil {
			t.Fatalf("qemu-img convert: %v: %s", err, out)
		}
		c.Disks[i].Path, c.Disks[i].Format = path, "raw"
	}
}

// TestPinAtBoot: after a normal boot the array and the volume on it have the pinned limit, the volume by inheritance,
// which proves that the pin came first; with mdclone=off they do not.
func TestPinAtBoot(t *testing.T) {
	t.Parallel()
	l := Lab(t)
	base := installed(t, l)
	for _, test := range []struct {
		name, args string
		pinned     bool
	}{{"normal", "quiet", true}, {"mdclone=off", "mdclone=off", false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := BootMachine(t, l, base, func(c *vm.Config) { c.Args = append(c.Args, test.args) })
			for _, name := range []string{"md0", "dm-0"} {
				got := strings.TrimSpace(m.File("/sys/block/" + name + "/queue/max_sectors_kb"))
				if (got == vm.PinKB) != test.pinned {
					t.Errorf("max_sectors_kb of %s is %s; pinned to %s: want %v", name, got, vm.PinKB, test.pinned)
				}
			}
			if test.pinned {
				m.Must("mdclone-gen", "verify")
			}
			if err := m.PowerOff(m.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRunningMachine is a user's way: adopt a drive in the running system, guard it, detach, unplug; later plug it in
// and back up, beside a system that is in use, beside a busy one, and after a reboot with the clone left plugged in.
func TestRunningMachine(t *testing.T) {
	t.Parallel()
	l := Lab(t)
	base := installed(t, l)
	var disks []vm.Disk
	r := &rig{Machine: BootMachine(t, l, base, func(c *vm.Config) { raw(t, c); disks = c.Disks })}
	primary := disks[0].Path
	d := NewDisk(t, "clone", vm.MachineDisk/mib)
	name := r.Plugged(d)
	r.early(0, "adopt", "root", "/dev/"+name, "--chunk", "1M")
	r.Must("mdclone-gen", "install", "--update-initramfs=never")
	r.early(0, "detach")
	r.Unplugged("clone")

	t.Run("incremental", func(t *testing.T) {
		r := r.at(t)
		r.Script("dd if=/dev/urandom of=/var/change bs=1M count=16 conv=fsync status=none")
		r.account(4, "backup")
		r.hotPlug(t, d)
		got := r.account(0, "backup")
		if got.Result != "done" || got.Mode != "incremental" || got.DirtyBytes < 16*mib || got.CopiedBytes > 2*got.DirtyBytes {
			t.Errorf("backup: %+v; want done, incremental, at most twice the dirty bytes copied", got)
		}
		equalButDirty(t, primary, d.Path)
		r.Unplugged("clone")
	})
	t.Run("beside a writer", func(t *testing.T) {
		r := r.at(t)
		writer, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", `i=0; while :; do i=$((i + 1))
			dd if=/dev/urandom of=/var/busy bs=64k count=4 conv=fsync,notrunc seek=$((i % 50)) status=none; [ $i = 3 ] && echo writing; done`}})
		if err != nil {
			t.Fatal(err)
		}
		if err := writer.AwaitStdout(r.Context(), "writing"); err != nil {
			t.Fatal(err)
		}
		r.Script("head -c 100000 /dev/urandom > /var/flushed; sync -f /var/flushed")
		r.hotPlug(t, d)
		if got := r.account(0, "backup"); got.Result != "done" || got.Attached {
			t.Errorf("backup beside a writer: %+v; want done, detached", got)
		}
		equalButDirty(t, primary, d.Path)
		if err := writer.Signal(9); err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Wait(r.Context()); err != nil {
			t.Fatal(err)
		}
		r.Unplugged("clone")
	})
	t.Run("offline is refused", func(t *testing.T) {
		r := r.at(t)
		r.hotPlug(t, d)
		code(t, r.account(3, "backup", "--offline"), "in-use")
		r.early(0, "status")
	})
	t.Run("power cut", func(t *testing.T) {
		r := r.at(t)
		r.Script("dd if=/dev/urandom of=/var/change bs=1M count=16 conv=fsync status=none")
		if _, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"mdclone-early", "backup"}}); err != nil {
			t.Fatal(err)
		}
		r.Script("until [ \"$(cat /sys/block/md0/md/degraded)\" = 0 ]; do :; done")
		// the tick is kept in the bitmap's superblock, which is written at the next tick
		r.Script("until mdadm -X /dev/vda | grep -q 'Daemon.*1s'; do :; done")
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		if got := readMember(t, primary).Bitmap.DaemonSleep; got != 1 {
			t.Fatalf("the bitmap on disk has a tick of %d s at the power cut; want 1: else this test shows nothing", got)
		}
		// at boot already the udev rule's pin puts it back, as any command does
		r = &rig{Machine: BootMachine(t, l, base, func(c *vm.Config) { c.Disks = disks })}
		r.early(0, "status")
		r.tunables()
		r.Plugged(d)
		r.Must("udevadm", "settle")
		// started without the clone, the primaries list it gone, and all would be compared: minutes, in an emulated machine
		if got := r.account(0, "backup", "--verify", "changed"); got.Mode != "incremental" || got.DirtyBytes > uint64(vm.MachineDisk)/2 {
			t.Errorf("backup after the power cut: %+v; want an incremental one", got)
		}
		r.tunables()
		equalButDirty(t, primary, d.Path)
		if err := r.PowerOff(r.Context()); err != nil {
			t.Error(err)
		}
	})
}

// hotPlug plugs the clone in and requires that it does not join by itself.
func (r *rig) hotPlug(t *testing.T, d vm.Disk) {
	t.Helper()
	r.Plugged(d)
	r.Must("udevadm", "settle")
	if s := r.status(); s.Degraded != 1 || s.Clones[0].State != clone.Stale || at(s.Clones[0]) == "" {
		t.Errorf("status after the clone was plugged in: %+v; want it stale and out of the array", s)
	}
}

// equalButDirty requires that the clone holds what a primary of a running system holds, byte for byte, but for the
// chunks that were written since it left: those are dirty in the primary's bitmap, and must be few.
func equalButDirty(t *testing.T, primary, cloneDisk string) {
	t.Helper()
	a, c := openMember(t, primary), openMember(t, cloneDisk)
	defer a.file.Close()
	defer c.file.Close()
	left, right := make([]byte, mib), make([]byte, mib)
	var differ []int64
	for off := int64(0); off < a.size; off += mib {
		n := min(a.size-off, mib)
		if _, err := a.file.ReadAt(left[:n], a.start+off); err != nil {
			t.Fatal(err)
		}
		if _, err := c.file.ReadAt(right[:n], c.start+off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(left[:n], right[:n]) {
			differ = append(differ, off)
		}
	}
	// the bitmap is read after the data: a chunk that was written meanwhile is in it
	dirty := readMember(t, primary).Bitmap
	for _, off := range differ {
		if !dirty.Dirty.Has(uint64(off) / uint64(dirty.ChunkBytes)) {
			t.Errorf("the clone differs at %d MiB, and the bitmap does not know", off/mib)
		}
	}
	if n := dirty.Bytes(dirty.Dirty); n > uint64(a.size)/2 {
		t.Errorf("%d bytes are dirty right after a backup of %d: too many to prove anything", n, a.size)
	}
}
