//go:build vmtest

package vmtest

import (
	"slices"
	"syscall"
	"testing"

	"mdclone/vmtest/vm"
)

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
	run := r.reached(settling, func(*vm.Process) {
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

// TestFaultInEachPhase: a second run, a signal, the clone pulled out, or a primary that fails, in each phase of a cycle and of
// an adoption. The array is intact, nothing stays changed, and the next run finishes the job.
func TestFaultInEachPhase(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 2)
		d := NewDisk(t, "clone", diskMiB)
		r.disks = append(r.disks, d)
		r.Plugged(d)
		r.adopted()
		r.holder()
		for _, p := range []phase{copying, settling, comparing, marking, joining, detaching, leaving, verifying, resting, adding, adopting} {
			for _, f := range []struct {
				name string
				do   func(r *rig, p phase)
			}{
				{interrupted, func(r *rig, p phase) { r.signalled(p, syscall.SIGINT) }},
				{"terminated", func(r *rig, p phase) { r.signalled(p, syscall.SIGTERM) }},
				{killed, func(r *rig, p phase) { r.signalled(p, syscall.SIGKILL) }},
				{pulledOut, func(r *rig, p phase) { r.pulledOut(p, d) }},
				{primaryLost, (*rig).losesPrimary},
			} {
				always := slices.Contains(p.always, f.name) && (suite == suites[1] || f.name == killed)
				if soaking() && (f.name != primaryLost || !p.spare) || always {
					t.Run(p.name+", "+f.name, func(t *testing.T) { f.do(r.at(t), p) })
				}
			}
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
