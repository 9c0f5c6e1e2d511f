//go:build vmtest

package vmtest

import (
	"strings"
	"syscall"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

const mib = 1 << 20

// TestOffline is the cycle in a rescue shell: the array assembled, nothing above it.
func TestOffline(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 3)
		r.adopted()
		r.equal()
		if s := r.status(); len(s.Clones) != 1 || s.Clones[0].State != clone.Stale || s.Clones[0].DetachedAt == nil {
			t.Errorf("status after detach: %+v; want a stale clone and when it was detached", s.Clones)
		}
		r.write("/dev/md0", 16, 40)

		got := r.account(0, "backup", "--offline")
		if got.Result != "done" || got.Mode != "incremental" || got.MismatchedSectors != 0 || got.VerifiedBytes != got.DirtyBytes {
			t.Errorf("backup: %+v; want done, incremental, all that was copied compared and equal", got)
		}
		if got.DirtyBytes < 16*mib || got.DirtyBytes > 18*mib || got.CopiedBytes > got.DirtyBytes*105/100 {
			t.Errorf("backup copied %d bytes for %d dirty ones; want 16 to 18 MiB dirty, at most 1.05 times as much copied",
				got.CopiedBytes, got.DirtyBytes)
		}
		if s := got.Seconds; s.Total < s.Sync+s.Settle+s.Detach || s.Sync <= 0 {
			t.Errorf("backup took %+v; want parts that make the whole", s)
		}
		r.equal()
		r.tunables()
		if out := strings.TrimSpace(r.Must("cat", "/sys/block/md0/md/degraded")); out != "1" {
			t.Errorf("degraded = %s after the cycle; want 1, the clone's slot", out)
		}

		t.Run("refused while LVM is up", func(t *testing.T) {
			r := r.at(t)
			r.Script(`vgcreate -qy vg0 /dev/md0; lvcreate -qy -Wn -L 32M -n lv vg0`)
			r.quiet()
			r.untouched(func() { code(t, r.account(3, "backup", "--offline"), "in-use") })
			r.Script(`vgchange -qan vg0`)
			r.early(0, "backup", "--offline")
			r.equal()
		})
		t.Run("an array that Debian has just assembled", func(t *testing.T) {
			r := r.at(t)
			r.Script(`vgremove -qy vg0; mdadm --stop /dev/md0 2>/dev/null; echo 1 > /sys/module/md_mod/parameters/start_ro
				mdadm --assemble /dev/md0 --run /dev/vda /dev/vdb 2>/dev/null; grep -q read-auto /sys/block/md0/md/array_state`)
			if got := r.early(0, "backup", "--offline"); !strings.HasSuffix(got.Stdout, "safe to unplug\n") {
				t.Errorf("stdout of a backup: %q; want it to say that it is safe to unplug", got.Stdout)
			}
			r.equal()
		})
		t.Run("attached, then detached", func(t *testing.T) {
			r := r.at(t)
			r.write("/dev/md0", 4, 20)
			if got := r.account(0, "attach"); !got.Attached || got.VerifiedBytes != got.DirtyBytes || got.DirtyBytes < 4*mib {
				t.Errorf("attach: %+v; want it in, and all that was copied compared", got)
			}
			r.write("/dev/md0", 4, 60)
			var got vm.Result
			r.flushed(func() { got = r.early(0, "detach") })
			if strings.Contains(got.Stderr, "warning") || !strings.Contains(got.Stdout, "\nsafe to unplug\n") {
				t.Errorf("detach says %q, %q; want that it is safe to unplug, and no warning", got.Stdout, got.Stderr)
			}
			r.equal()
		})
		t.Run("a cycle done by hand", func(t *testing.T) {
			r := r.at(t)
			r.write("/dev/md0", 4, 20)
			r.Script(`mdadm /dev/md0 --re-add /dev/vdc 2>/dev/null; mdadm --wait /dev/md0 || true
				until grep -q in_sync /sys/block/md0/md/dev-vdc/state; do :; done; mdadm /dev/md0 --fail /dev/vdc --remove /dev/vdc 2>/dev/null`)
			code(t, r.account(3, "backup"), "touched")
			if got := r.account(0, "backup", "--verify", "full"); got.Mode != "incremental" || got.MismatchedSectors != 0 {
				t.Errorf("backup --verify full: %+v; want it joined, all compared, nothing different", got)
			}
			r.account(0, "backup") // nothing is doubted any more
			r.equal()
		})
		t.Run("waited for, while others work on the array", func(t *testing.T) {
			r := r.at(t)
			r.Unplugged(r.disks[2].Serial)
			p := r.start("backup", "--wait", "1h")
			if err := p.AwaitStderr(r.Context(), "waiting up to"); err != nil {
				t.Fatal(err)
			}
			r.account(4, "detach")
			r.Plugged(r.disks[2])
			r.ended(p, 0)
			r.equal()
		})
		t.Run("nothing to copy", func(t *testing.T) {
			if got := r.at(t).account(0, "backup"); got.DirtyBytes > 2*mib {
				t.Errorf("dirty bytes right after a backup: %d; want the canary's chunk at most", got.DirtyBytes)
			}
			r.at(t).equal()
		})
	})
}

// flushed requires that the clone's cache is flushed after the clone has left the array: what md flushes while it is in
// does not count.
func (r *rig) flushed(detach func()) {
	r.t.Helper()
	r.Script(`mount -t tracefs tracefs /sys/kernel/tracing; cd /sys/kernel/tracing; echo p:gone bd_unlink_disk_holder > kprobe_events
		IFS=: read -r major minor < /sys/block/vdc/dev; echo "dev == $((major << 20 | minor))" > events/block/block_rq_issue/filter
		echo 1 > events/block/block_rq_issue/enable; echo 1 > events/kprobes/gone/enable`)
	detach()
	trace := r.Script("cd /sys/kernel/tracing; cat trace; echo 0 > events/enable; echo > kprobe_events; cd /; umount /sys/kernel/tracing")
	_, after, _ := strings.Cut(trace, " gone: ")
	flush := strings.LastIndex(after, " FF ")
	if flush < 0 || strings.Contains(after[flush:], " W") {
		r.t.Errorf("after the clone had left its cache was not flushed:\n%s", trace)
	}
}

// TestOnline is the cycle beside what runs on the array: here a file system on LVM.
func TestOnline(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 3)
		r.adopted()
		r.Script(`vgcreate -qy vg0 /dev/md0; lvcreate -qy -Wn -L 120M -n lv vg0; mkfs.ext4 -q /dev/vg0/lv; mount /dev/vg0/lv /mnt
			dd if=/dev/urandom of=/mnt/x bs=1M count=16 status=none; sync`)
		got := r.account(0, "backup")
		if got.Result != "done" || got.CopiedBytes > 2*got.DirtyBytes || got.MismatchedSectors != 0 {
			t.Errorf("backup: %+v; want done, at most twice the dirty bytes copied, nothing different", got)
		}
		r.tunables()

		t.Run("a writer", func(t *testing.T) { r.at(t).whileWriting(t) })
		t.Run("killed while it settles", func(t *testing.T) { r.at(t).killed(t, syscall.SIGKILL) })
		t.Run("interrupted while it settles", func(t *testing.T) { r.at(t).killed(t, syscall.SIGINT) })

		r.Script("umount /mnt; vgchange -qan vg0")
		r.early(0, "backup", "--verify", "full")
		r.equal()
	})
}

// whileWriting: the cycle ends although somebody keeps writing, and what was flushed before the detach is on the clone.
func (r *rig) whileWriting(t *testing.T) {
	writer, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", `
		i=0; while :; do i=$((i + 1)); dd if=/dev/urandom of=/mnt/w bs=64k count=4 conv=fsync,notrunc seek=$((i % 50)) status=none
		echo $i > /mnt/flushed.new; sync /mnt/flushed.new; mv /mnt/flushed.new /mnt/flushed; sync -f /mnt/flushed; echo $i >> /run/flushed
		[ $i = 3 ] && echo writing; done`}})
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.AwaitStdout(r.Context(), "writing"); err != nil {
		t.Fatal(err)
	}
	flushed := strings.TrimSpace(r.Must("tail", "-n1", "/run/flushed"))
	got := r.account(0, "backup")
	if got.Result != "done" {
		t.Errorf("backup under a writer: %+v; want done", got)
	}
	if err := writer.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Wait(r.Context()); err != nil {
		t.Fatal(err)
	}
	// the clone, looked at alone through a copy-on-write layer: booting it would make it diverge
	seen := strings.TrimSpace(r.Script(`
		start=$(mdadm -E /dev/vdc | awk '/Data Offset/ { print $4 }'); n=$(($(cat /sys/block/md0/md/component_size) * 2))
		truncate -s 64M /run/cow; cow=$(losetup -f --show /run/cow); ro=$(losetup -f --show -r -o $((start * 512)) --sizelimit $((n * 512)) /dev/vdc)
		echo "0 $n snapshot $ro $cow N 8" | dmsetup create look
		skip=$(pvs --noheadings --nosuffix --units s -o pe_start /dev/md0 | tr -d ' ')
		echo "0 $((120 * 2048)) linear /dev/mapper/look $skip" | dmsetup create lv
		mkdir -p /look; mount -t ext4 /dev/mapper/lv /look; cat /look/flushed; umount /look
		dmsetup remove lv; dmsetup remove look; losetup -d $ro $cow`))
	if seen == "" || atoi(seen) < atoi(flushed) {
		t.Errorf("the clone has round %q; want %s or later, which was flushed before the backup began", seen, flushed)
	}
	r.tunables()
}

func atoi(s string) (n int) {
	for _, c := range s {
		n = n*10 + int(c-'0')
	}
	return n
}

// killed: a run that ends by a signal while it waits for the bitmap leaves an array that is safe; what it had changed is
// put back, by itself or by the next command.
func (r *rig) killed(t *testing.T, signal syscall.Signal) {
	r.Script("dd if=/dev/urandom of=/mnt/x bs=1M count=16 conv=fsync,notrunc status=none")
	p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"mdclone-early", "backup", "--json"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Script("until [ \"$(cat /sys/block/md0/md/degraded)\" = 0 ]; do :; done")
	if got := strings.TrimSpace(r.File("/sys/block/md0/md/bitmap/time_base")); got != "1" {
		t.Errorf("time_base = %s while it settles; want 1", got)
	}
	if err := p.Signal(signal); err != nil {
		t.Fatal(err)
	}
	end, err := p.Wait(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	if signal == syscall.SIGINT {
		if end.Code != 130 {
			t.Errorf("exit code %d after an interrupt; want 130\n%s", end.Code, end.Stderr)
		}
		if got := read[clone.Result](r, end.Stdout); got.Result != "interrupted" || got.Attached {
			t.Errorf("account after an interrupt: %+v; want interrupted, and the clone out", got)
		}
	} else {
		r.early(0, "status")
	}
	r.tunables()
	if got := r.account(0, "backup"); got.Result != "done" || got.Mode != "incremental" {
		t.Errorf("the next backup: %+v; want done, incremental", got)
	}
}
