//go:build vmtest

package vmtest

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// phase is a moment of a cycle: when an md attribute has a value.
type phase struct {
	name        string
	argv        []string
	attr, value string
}

var phases = []phase{
	{"copying", []string{"backup"}, "sync_action", "recover"},
	{"settling", []string{"backup"}, "degraded", "0"},
	{"comparing", []string{"backup", "--verify", "full"}, "sync_action", "check"},
}

// reached starts a cycle with 60 MiB to copy, stops it when it is in its phase, has do happen, and lets it go on.
func (r *rig) reached(p phase, do func(run *vm.Process)) *vm.Process {
	r.t.Helper()
	r.write("/dev/mapper/data", 60, 40)
	watch, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", fmt.Sprintf(`echo watching
		while read -r x < /sys/block/md0/md/%s && [ "$x" != %s ]; do :; done
		first=; for c in /proc/[0-9]*; do read -r n < $c/comm && [ "$n" = mdclone-early ] && { [ -z "$first" ] || [ ${c#/proc/} -lt $first ]; } && first=${c#/proc/}; done
		kill -STOP $first`, p.attr, p.value)}})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := watch.AwaitStdout(r.Context(), "watching"); err != nil {
		r.t.Fatal(err)
	}
	run, err := r.Spawn(r.Context(), vm.Command{Argv: append([]string{"mdclone-early", "--json"}, p.argv...)})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		_, _ = run.Wait(ctx) // a run that ends before its phase ends the wait below
		cancel()
	}()
	if got, err := watch.Wait(ctx); err != nil || got.Code != 0 {
		r.t.Fatalf("%s was not reached: %v %+v\nstderr: %s", p.name, err, got, run.Stderr())
	}
	do(run)
	if err := run.Signal(syscall.SIGCONT); err != nil {
		r.t.Fatal(err)
	}
	return run
}

// holder puts a dm device on the array, so that the cycle is one beside a running system.
func (r *rig) holder() {
	r.t.Helper()
	r.Script(`echo "0 $(blockdev --getsz /dev/md0) linear /dev/md0 0" | dmsetup create data`)
}

// ended waits until a run has ended, requires its exit code, and reads its account.
func (r *rig) ended(p *vm.Process, want int) clone.Result {
	r.t.Helper()
	got, err := p.Wait(r.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if got.Code != want {
		r.t.Fatalf("exit code %d; want %d\nstdout: %s\nstderr: %s", got.Code, want, got.Stdout, got.Stderr)
	}
	return read[clone.Result](r, got.Stdout)
}

// TestFaultInEachPhase: a signal, or the clone pulled out, in each phase of a cycle. The array is intact, nothing stays
// changed, and the next run finishes the job incrementally.
func TestFaultInEachPhase(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 2)
		d := NewDisk(t, "clone", diskMiB)
		r.disks = append(r.disks, d)
		r.Plugged(d)
		r.adopted()
		r.holder()
		for _, p := range phases {
			for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
				t.Run(p.name+", "+signal.String(), func(t *testing.T) {
					r := r.at(t)
					run := r.reached(p, func(run *vm.Process) {
						if err := run.Signal(signal); err != nil {
							t.Fatal(err)
						}
					})
					if signal == syscall.SIGKILL {
						if _, err := run.Wait(r.Context()); err != nil {
							t.Fatal(err)
						}
					} else if got := r.ended(run, 130); got.Attached {
						t.Errorf("after %v: %+v; want the clone out", signal, got)
					}
					r.finished()
				})
			}
			t.Run(p.name+", pulled out", func(t *testing.T) {
				r := r.at(t)
				run := r.reached(p, func(*vm.Process) {
					r.Unplugged("clone")
					r.write("/dev/mapper/data", 1, 10) // md looks at a drive when it writes to it
				})
				if got := r.ended(run, 1); got.Result != "failed" {
					t.Errorf("after the clone was pulled out: %+v; want failed", got)
				}
				if got := strings.TrimSpace(r.File("/sys/block/md0/md/degraded")); got != "1" {
					t.Errorf("degraded = %s after the clone was pulled out; want 1", got)
				}
				r.Plugged(d)
				r.finished()
			})
		}
		t.Run("a full /run", func(t *testing.T) {
			r := r.at(t)
			r.Script("mkdir -p /run/mdclone; mount -t tmpfs -o size=8k full /run/mdclone; ! dd if=/dev/zero of=/run/mdclone/fill bs=4k status=none 2>/dev/null")
			r.write("/dev/mapper/data", 4, 40)
			r.finished()
			r.Script("umount /run/mdclone")
		})
		t.Run("an array that is read-only", func(t *testing.T) {
			r := r.at(t)
			r.Script("dmsetup remove data")
			r.quiet()
			r.Must("mdadm", "--readonly", "/dev/md0")
			r.untouched(func() { code(t, r.account(3, "backup"), "readonly") })
			r.Script("mdadm --readwrite /dev/md0")
			r.finished()
		})
	})
}

// finished: the next run finishes what was cut, and leaves nothing changed.
func (r *rig) finished() {
	r.t.Helper()
	got := r.account(0, "backup")
	if got.Mode != "incremental" || got.Attached || got.MismatchedSectors != 0 {
		r.t.Errorf("the next backup: %+v; want it done, incremental", got)
	}
	r.tunables()
	r.quiet()
	r.equal()
}

// failing makes a dm device that can be made to fail over each disk; the array and its clone are made of those.
func (r *rig) failing() {
	r.t.Helper()
	r.Script(`for d in vda vdb vdc; do dd if=/dev/urandom of=/dev/$d bs=1M count=8 oflag=direct status=none
			echo "0 $(blockdev --getsz /dev/$d) linear /dev/$d 0" | dmsetup create on-$d; done
		mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --bitmap=internal --bitmap-chunk=1M /dev/mapper/on-vda /dev/mapper/on-vdb
		mdadm --wait /dev/md0 || true`)
	r.early(0, "adopt", "/dev/md0", "/dev/mapper/on-vdc", "--name", "data")
	r.early(0, "detach")
	r.holder()
}

// break1 makes a disk fail every request, or ends that.
func (r *rig) break1(disk string, failing bool) {
	r.t.Helper()
	table := "linear /dev/" + disk + " 0"
	if failing {
		table = "error"
	}
	r.Script(fmt.Sprintf(`dmsetup suspend --noflush on-%[1]s; echo "0 $(blockdev --getsz /dev/%[1]s) %[2]s" | dmsetup load on-%[1]s
		dmsetup resume on-%[1]s`, disk, table))
}

// kernelName is that of a dm device.
func (r *rig) kernelName(dm string) string {
	r.t.Helper()
	return strings.TrimSpace(r.Must("dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", dm))
}

// TestDiskFails: a disk answers every request with an error in the middle of a cycle.
func TestDiskFails(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 3)
		r.failing()
		for _, p := range phases {
			t.Run("the clone, "+p.name, func(t *testing.T) {
				r := r.at(t)
				run := r.reached(p, func(*vm.Process) {
					r.break1("vdc", true)
					r.write("/dev/mapper/data", 1, 10)
				})
				if got := r.ended(run, 1); got.Result != "failed" || got.Attached {
					t.Errorf("after the clone failed: %+v; want failed, the clone out", got)
				}
				r.break1("vdc", false)
				r.finished()
			})
			t.Run("a primary, "+p.name, func(t *testing.T) {
				r := r.at(t)
				run := r.reached(p, func(*vm.Process) {
					r.break1("vdb", true)
					r.write("/dev/mapper/data", 1, 10)
				})
				got := r.ended(run, 1)
				code(t, got, "primary-failed")
				if !got.Attached {
					t.Errorf("after a primary failed: %+v; want the clone to stay", got)
				}
				r.tunables()
				r.break1("vdb", false)
				// in its place a new one: md remembers where the old one could not be read
				r.Script(`dir=/sys/block/md0/md/dev-` + r.kernelName("on-vdb") + `; [ ! -e $dir ] || mdadm /dev/md0 --remove /dev/mapper/on-vdb
					while [ -e $dir ]; do :; done
					mdadm --zero-superblock /dev/mapper/on-vdb; mdadm /dev/md0 --add /dev/mapper/on-vdb; mdadm --wait /dev/md0 || true
					test "$(cat /sys/block/md0/md/degraded)" = 0`)
				r.early(0, "detach")
				r.equal()
			})
		}
		t.Run("both primaries, the clone attached", func(t *testing.T) {
			r := r.at(t)
			r.early(0, "attach")
			r.break1("vdb", true)
			r.write("/dev/mapper/data", 1, 10)
			r.break1("vda", true)
			r.write("/dev/mapper/data", 1, 11)
			got := r.account(3, "detach")
			code(t, got, "no-primary")
			if state := r.File("/sys/block/md0/md/dev-" + r.kernelName("on-vdc") + "/state"); !strings.Contains(state, "in_sync") {
				t.Errorf("the clone is %q; want it in sync, in the array: it is the last good copy", state)
			}
			r.write("/dev/mapper/data", 1, 12) // and the array still takes writes
		})
	})
}
