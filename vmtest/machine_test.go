//go:build vmtest

package vmtest

import (
	"strings"
	"testing"

	"mdclone/vmtest/vm"
)

// TestMachine tests the stock machine: that it boots through its own initramfs, that its array is whole and clean, and
// that it runs on a third disk beside its own.
func TestMachine(t *testing.T) {
	l := Lab(t)
	base, err := l.Machine(t.Context(), "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	m := BootMachine(t, l, base, func(c *vm.Config) { c.Disks = append(c.Disks, NewDisk(t, "clone", 1024)) })
	if got, want := strings.TrimSpace(m.Must("findmnt", "-no", "SOURCE", "/")), "/dev/mapper/vg0-root"; got != want {
		t.Errorf("root is on %s; want %s", got, want)
	}
	if got := strings.TrimSpace(m.File("/sys/block/md0/md/degraded")); got != "0" {
		t.Errorf("degraded = %s; want 0", got)
	}
	if got := m.Try("systemctl", "is-system-running", "--wait"); got.Stdout != "running\n" {
		t.Errorf("is-system-running = %q; want running\n%s", got.Stdout, m.Must("systemctl", "--failed"))
	}
	m.Script("mdadm -X /dev/vda >&2; echo check > /sys/block/md0/md/sync_action; mdadm --wait /dev/md0 || true")
	if got := m.File("/sys/block/md0/md/mismatch_cnt"); got != "0\n" {
		t.Errorf("mismatch_cnt = %q; want 0", got)
	}
	t.Log(m.Must("systemd-analyze"), m.Must("systemd-analyze", "blame"), m.Must("df", "-h", "/"), m.Must("lsblk"))
	if err := m.PowerOff(m.Context()); err != nil {
		t.Errorf("PowerOff() = %v; want nil", err)
	}
}
