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

// theRun finds the process of a cycle that runs: the first of that name.
const theRun = `run=; for c in /proc/[0-9]*; do
	read -r n < $c/comm && [ "$n" = mdclone-early ] && { [ -z "$run" ] || [ ${c#/proc/} -lt $run ]; } && run=${c#/proc/}; done`

// reached starts a cycle with 60 MiB to copy, stops it when it is in its phase, has do happen, and lets it go on.
func (r *rig) reached(p phase, do func(run *vm.Process)) *vm.Process {
	r.t.Helper()
	r.write(r.top, 60, 40)
	watch, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", fmt.Sprintf(`echo watching
		while read -r x < /sys/block/md0/md/%s && [ "$x" != %s ]; do :; done
		%s
		kill -STOP $run`, p.attr, p.value, theRun)}})
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

// killsIn kills a run as soon as a condition holds, a list of shell commands, and fails if it does not hold then.
func (r *rig) killsIn(condition string) *vm.Process {
	r.t.Helper()
	watch, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", theRun + `
		echo watching
		within() { ` + condition + `; }
		until within || ! [ -e /proc/$run ]; do :; done
		within; was=$?; kill -9 $run; exit $was`}})
	if err == nil {
		err = watch.AwaitStdout(r.Context(), "watching")
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return watch
}

// The moments of a touch in which a run that dies must not leave the machine hanging.
const (
	suspended = `read -r x < /sys/class/block/dm-0/dm/suspended; [ "$x" = 1 ]`
	freezing  = `grep -qs freeze_super /proc/$run/task/*/stack`
)

// killedIn kills a run at a moment of the touch that settling begins with, which takes a while then, and returns when the
// second process has undone what it left.
func (r *rig) killedIn(moment string, prepare func()) {
	r.t.Helper()
	var watch *vm.Process
	run := r.reached(phases[1], func(*vm.Process) {
		prepare()
		r.limit("disk0", 8<<10)
		watch = r.killsIn(moment)
	})
	got, err := watch.Wait(r.Context())
	r.limit("disk0", 0)
	if err != nil || got.Code != 0 {
		r.t.Fatalf("it was not in that moment when it was killed: %v %+v", err, got)
	}
	if _, err := run.Wait(r.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.Script("while grep -qs undo-when-parent-end[s] /proc/[0-9]*/cmdline; do sleep 0.05; done")
}

// holder puts a dm device on the array, so that the cycle is one beside a running system.
func (r *rig) holder() {
	r.t.Helper()
	r.Script(`echo "0 $(blockdev --getsz /dev/md0) linear /dev/md0 0" | dmsetup create data`)
	r.top = "/dev/mapper/data"
}

// secondRun: while one run works on an array, another is refused and changes nothing.
func (r *rig) secondRun() {
	r.t.Helper()
	settings := func() string {
		return r.Script(`cd /sys/block/md0/md; grep . sync_speed_min sync_speed_max sync_min sync_max bitmap/time_base dev-*/slot
			tar -C / -cf - etc/mdclone run/mdclone var/lib/mdclone | md5sum`)
	}
	before := settings()
	for _, command := range []string{"backup", "attach", "detach"} {
		code(r.t, r.account(3, command), "locked")
	}
	r.early(0, "status")
	if after := settings(); after != before {
		r.t.Errorf("a second run changed something:\n%s\nbefore:\n%s", after, before)
	}
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

// TestFaultInEachPhase: a second run, a signal, or the clone pulled out, in each phase of a cycle. The array is intact,
// nothing stays changed, and the next run finishes the job incrementally.
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
						if signal == syscall.SIGINT {
							r.secondRun()
						}
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
		t.Run("killed while the volume is suspended", func(t *testing.T) {
			r := r.at(t)
			r.killedIn(suspended, func() {})
			r.write("/dev/mapper/data", 1, 10) // hangs if it still is
			r.finished()
		})
		t.Run("killed while the file system is frozen", func(t *testing.T) {
			r := r.at(t)
			r.Script("dmsetup remove data; mkfs.ext4 -q -F /dev/md0; mount /dev/md0 /mnt")
			r.top = "/mnt/x"
			r.killedIn(freezing, func() { r.Script("dd if=/dev/urandom of=/mnt/y bs=64k count=1 status=none") })
			if r.Try("fsfreeze", "--unfreeze", "/mnt").Code == 0 {
				t.Fatal("the file system was left frozen")
			}
			r.write(r.top, 1, 10)
			r.Script("umount /mnt")
			r.holder()
			r.finished()
		})
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
