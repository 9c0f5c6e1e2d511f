//go:build vmtest

package vmtest

import (
	"context"
	"slices"
	"strings"
	"syscall"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// phase is a moment of what changes an array.
type phase struct {
	name string
	argv []string
	// in are shell conditions that come true one after the other; the last one holds as long as the phase.
	in []string
	// slow is a disk that takes no more than rate bytes a second meanwhile, where the phase would be over too soon; "" for none.
	slow string
	rate int
	// before is what comes before it; 60 MiB are written where it is nil.
	before func(r *rig)
	stays  bool     // an interrupt leaves the clone in
	late   bool     // an interrupt comes too late to be heeded: the run does what is left, and is done
	again  []string // what finishes it; backup where it is nil
	mode   string   // of that; incremental where it is ""
	always []string // the faults that are tried in it even if there is little time
	spare  bool     // md puts the drive into the place of a primary that fails
}

// Faults.
const (
	interrupted = "interrupted"
	killed      = "killed"
	pulledOut   = "pulled out"
	primaryLost = "a primary fails"
)

var (
	most     = []string{interrupted, killed, pulledOut}
	onlyKill = []string{killed}
)

// standstill is a rate in bytes a second at which the next block comes after all that is waited for.
const standstill = 4

// phaseWords are what conditions are made of: an attribute of the array has a value, it has so many members, a spare is among
// them.
const phaseWords = `
at() { local x; { read -r x < /sys/block/md0/md/$1; } 2>/dev/null && [ "$x" = $2 ]; }
members() { local n=$1; set -- /sys/block/md0/md/dev-*; [ $# = $n ]; }
spare() { local s; for s in /sys/block/md0/md/dev-*/slot; do at ${s#/sys/block/md0/md/} none && return; done; return 1; }
`

var (
	copying   = phase{name: "copying", argv: []string{"backup"}, in: []string{"at sync_action recover && ! spare"}, always: most}
	settling  = phase{name: "settling", argv: []string{"backup"}, in: []string{"at degraded 0"}, always: most}
	comparing = phase{
		name: "comparing", argv: []string{"backup", "--verify", "full"}, in: []string{"at sync_action check"},
		always: most,
	}
	marking = phase{
		name: "marking", argv: []string{"backup", "--heal"}, in: []string{"at sync_action frozen"},
		before: (*rig).scattered,
		again:  []string{"backup", "--heal"}, mode: "healed",
		always: onlyKill,
	}
	joining = phase{
		name: "joining", argv: []string{"backup"}, in: []string{"spare"},
		slow: "vdc", rate: standstill, // its superblock is late
		always: onlyKill,
	}
	detaching = phase{
		name: "detaching", argv: []string{"backup"}, in: []string{"at degraded 0", "at degraded 1 && members 2"},
		slow: "vda", rate: 16 << 10,
		late: true,
	}
	leaving = phase{
		name: "marking the canary", argv: []string{"backup"}, in: []string{"at degraded 0", "at degraded 1 && at sync_action frozen"},
		slow: "vda", rate: 16 << 10,
		late: true,
	}
	adding = phase{
		name: "adopting, between --add and --grow", argv: adoption, in: []string{"members 3 && at raid_disks 2"},
		before: (*rig).unadopted,
		again:  adoption, mode: "full",
		spare: true,
	}
	adopting = phase{
		name: "adopting, the first copy", argv: adoption, in: []string{"at raid_disks 3 && at sync_action recover"},
		slow: "vdc", rate: 8 * mib,
		before: (*rig).unadopted,
		again:  adoption, mode: "full",
		always: onlyKill,
	}
	verifying = phase{
		name: "verify", argv: []string{"verify"}, in: []string{"at sync_action check"},
		before: func(r *rig) { r.early(0, "attach") },
		stays:  true,
	}
	resting = phase{
		name: "comparing, read-only", argv: []string{"backup", "--offline"}, in: []string{"at array_state readonly"},
		before: func(r *rig) {
			r.unheld()
			r.write(r.top, 60, 40)
		},
		always: onlyKill,
	}
)

var adoption = []string{"adopt", "/dev/md0", "/dev/vdc", "--name", "data", "--overwrite"}

// theRun waits for the process that start has started.
const theRun = `until { read -r run < /run/the-run; } 2>/dev/null && [ -e /proc/$run ]; do :; done`

// start starts a run of mdclone-early.
func (r *rig) start(args ...string) *vm.Process {
	r.t.Helper()
	argv := append([]string{"bash", "-c", `echo $$ >/run/the-run; exec mdclone-early --json "$@"`, "run"}, args...)
	run, err := r.Spawn(r.Context(), vm.Command{Argv: argv})
	if err != nil {
		r.t.Fatal(err)
	}
	return run
}

// attempts is how often a phase that is over before it is seen may be missed: the watcher and the run are two processes of a
// guest that may stand still in between.
const attempts = 5

// reached starts a run, stops it when it is in its phase, has do happen, and lets it go on.
func (r *rig) reached(p phase, do func(run *vm.Process)) *vm.Process {
	r.t.Helper()
	for try := 1; ; try++ {
		if p.before != nil {
			p.before(r)
		} else {
			r.write(r.top, 60, 40)
		}
		run, missed := r.inPhase(p)
		if missed == nil {
			do(run)
		}
		if p.slow != "" && slices.ContainsFunc(r.plugged(), func(n string) bool { return n == p.slow }) {
			r.throttle(p.slow, 0)
		}
		if err := run.Signal(syscall.SIGCONT); err != nil && missed == nil {
			r.t.Fatal(err)
		}
		if missed == nil {
			return run
		}
		got, err := run.Wait(r.Context())
		if err != nil || got.Err() != nil || try == attempts {
			r.t.Fatalf("%s was not reached, or was over, %d times: %v\nits run: %v %+v", p.name, try, missed, err, got)
		}
		r.t.Logf("%s was over too soon, once more", p.name)
		if p.mode == "full" {
			r.early(0, "detach")
		}
	}
}

// inPhase starts a run and stops it when it is in its phase. The error says that it was not: it is stopped somewhere else, or
// over.
func (r *rig) inPhase(p phase) (*vm.Process, error) {
	r.t.Helper()
	script := phaseWords + "echo watching\n" + theRun + "\n"
	for _, condition := range p.in {
		script += "until " + condition + "; do :; done\n"
	}
	script += `
		kill -STOP $run; until grep -q '^State:.[TD]' /proc/$run/status; do :; done
		` + p.in[len(p.in)-1]
	watch, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", script}})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := watch.AwaitStdout(r.Context(), "watching"); err != nil {
		r.t.Fatal(err)
	}
	if p.slow != "" {
		r.throttle(p.slow, p.rate)
		r.Script("dd if=/dev/" + p.slow + " of=/dev/" + p.slow + " bs=4096 count=1 iflag=direct oflag=direct status=none") // the first is at once
	}
	run := r.start(p.argv...)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		_, _ = run.Wait(ctx) // a run that ends before its phase ends the wait below
		cancel()
	}()
	got, err := watch.Wait(ctx)
	if err == nil {
		err = got.Err()
	} else if ended := watch.Signal(syscall.SIGKILL); ended != nil { // it would go on looking
		r.t.Fatal(ended)
	}
	return run, err
}

// plugged are the disks that the guest has.
func (r *rig) plugged() []string {
	r.t.Helper()
	return strings.Fields(r.Script("cd /sys/block; echo vd*"))
}

// holder puts a dm device on the array, so that the cycle is one beside a running system.
func (r *rig) holder() {
	r.t.Helper()
	r.Script(`[ -e /dev/mapper/data ] || echo "0 $(blockdev --getsz /dev/md0) linear /dev/md0 0" | dmsetup create data`)
	r.top = "/dev/mapper/data"
}

// unheld takes it off again.
func (r *rig) unheld() {
	r.t.Helper()
	r.Script("[ ! -e /dev/mapper/data ] || dmsetup remove --retry data") // one more try has it off already
	r.top = "/dev/md0"
}

// scattered has the clone run alone and write here and there, so that marking what it wrote takes a while.
func (r *rig) scattered() {
	r.t.Helper()
	r.unheld()
	r.whileAlone(func() {
		r.Script("for ((i = 1; i < 100; i += 2)); do echo pwrite -q ${i}m 4k; done | xfs_io -d /dev/md9")
	})
	r.holder()
	r.write(r.top, 4, 120)
}

// unadopted takes back what adopt made of the array and of vdc.
func (r *rig) unadopted() {
	r.t.Helper()
	r.Script(`rm -rf /etc/mdclone/* /var/lib/mdclone/*; mdadm --zero-superblock /dev/vdc; mdadm --grow /dev/md0 --raid-devices=2 2>/dev/null`)
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

// signalled sends a run a signal in a phase. What would hang the machine is undone at once, however it ended; a run that
// could do so itself has put everything back.
func (r *rig) signalled(p phase, signal syscall.Signal) {
	r.t.Helper()
	r.holder()
	run := r.reached(p, func(run *vm.Process) {
		if signal == syscall.SIGINT {
			r.secondRun(p)
		}
		if err := run.Signal(signal); err != nil {
			r.t.Fatal(err)
		}
	})
	if signal == syscall.SIGKILL {
		if _, err := run.Wait(r.Context()); err != nil {
			r.t.Fatal(err)
		}
		r.alive()
		r.finishes(p)
		return
	}
	want := 130
	if p.late {
		want = 0
	}
	if got := r.ended(run, want); got.Attached != p.stays {
		r.t.Errorf("after %v: %+v; want the clone in: %v", signal, got, p.stays)
	}
	r.tunables()
	r.alive()
	r.finishes(p)
}

// pulledOut takes the clone away in a phase, and plugs it in again once the run has ended.
func (r *rig) pulledOut(p phase, d vm.Disk) {
	r.t.Helper()
	r.holder()
	run := r.reached(p, func(*vm.Process) {
		r.pull(p, d.Serial)
		if p.name != resting.name {
			r.write(r.top, 1, 10) // md looks at a drive when it writes to it
		}
	})
	got := r.ended(run, 1)
	if got.Result != "failed" {
		r.t.Errorf("after the clone was pulled out: %+v; want failed", got)
	}
	r.tunables()
	r.alive()
	if n := strings.TrimSpace(r.Script("ls -d /sys/block/md0/md/dev-* | wc -l")); n != "2" {
		r.t.Errorf("the array has %s members after the clone was pulled out; want its own 2\n%+v", n, got)
	}
	if name := r.Plugged(d); name != "vdc" {
		r.t.Fatalf("the clone that was pulled out is %s when it is back; want vdc, as nothing holds on to what is gone", name)
	}
	r.finishes(p)
}

// losesPrimary has a primary fail in a phase, the one that is looked at. A clone that is in then stays, in its place; where it
// has left already, that is told.
func (r *rig) losesPrimary(p phase) {
	r.t.Helper()
	r.holder()
	run := r.reached(p, func(*vm.Process) {
		failing, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", "echo faulty > /sys/block/md0/md/dev-vda/state"}})
		if err != nil {
			r.t.Fatal(err)
		}
		if p.slow != "" { // md lets nothing else happen while it writes a superblock
			r.throttle(p.slow, 0)
		}
		if got, err := failing.Wait(r.Context()); err != nil || got.Err() != nil {
			r.t.Fatal(err, got.Err())
		}
		if p.name != resting.name {
			r.write(r.top, 1, 10)
		}
	})
	got := r.ended(run, 1)
	if code(r.t, got, "primary-failed"); got.Attached == p.late {
		r.t.Errorf("after a primary failed: %+v; want the clone to stay, if it is in: %v", got, !p.late)
	}
	r.tunables()
	r.replaced("/dev/vda", "vda")
	r.alive()
	if p.late {
		r.finishes(p)
		return
	}
	r.early(0, "detach")
	r.equal()
}

// pull takes the clone away. A request that is under way holds that up until it ends, so one that is late on purpose ends
// once the kernel has taken note.
func (r *rig) pull(p phase, serial string) {
	r.t.Helper()
	if p.slow != "" && p.rate != standstill {
		r.throttle(p.slow, 0)
	}
	gone := make(chan error, 1)
	ctx := r.Context()
	go func() { gone <- r.Unplug(ctx, serial) }()
	if p.rate == standstill {
		r.Script(`while { read -r n < /sys/block/vdc/size; } 2>/dev/null && [ "$n" != 0 ]; do sleep 0.05; done`)
		r.throttle(p.slow, 0)
	}
	if err := <-gone; err != nil {
		r.t.Fatal(err)
	}
}

// alive requires, before any other command has run, that nothing is left that would hang the machine or cost it redundancy,
// and waits for the end of what md has under way.
func (r *rig) alive() {
	r.t.Helper()
	got := r.Script(`while grep -qs undo-when-parent-end[s] /proc/[0-9]*/cmdline; do sleep 0.05; done
		cd /sys/block/md0/md; read -r action < sync_action; [ $action != frozen ] || echo "its syncs are frozen"
		read -r state < array_state; case $state in read*|broken) echo "it is $state";; esac
		read -r from < resync_start; [ $from = none ] || echo "it is to be resynced from $from"
		for s in 0 1; do grep -q in_sync rd$s/state || echo "slot $s is $(cat rd$s/state)"; done
		for s in /sys/block/dm-*/dm/suspended; do [ ! -e $s ] || grep -q 0 $s || echo "$s: 1"; done`)
	if got != "" {
		r.t.Fatalf("after the end of the run the array is not as it was:\n%s", got)
	}
	r.tunables()
	r.write(r.top, 1, 12)
	r.sh("idle")
}

// finished: the next run finishes what was cut, and leaves nothing changed.
func (r *rig) finished() { r.t.Helper(); r.finishes(settling) }

// finishes is finished for any phase.
func (r *rig) finishes(p phase) {
	r.t.Helper()
	again, mode := p.again, p.mode
	if again == nil {
		again, mode = []string{"backup"}, "incremental"
	}
	got := r.account(0, again...)
	if got.Mode != mode || got.Attached != (mode == "full") || got.MismatchedSectors != 0 {
		r.t.Errorf("the next %s: %+v; want it done, %s", again[0], got, mode)
	}
	r.tunables()
	if got.Attached {
		r.early(0, "detach")
		r.tunables()
	}
	r.quiet()
	r.equal()
}

// secondRun: while one run works on an array, another is refused and changes nothing.
func (r *rig) secondRun(p phase) {
	r.t.Helper()
	also := "grep . dev-*/slot; grep -o frozen sync_action || true"
	if p.name == adding.name {
		also = "true"
	}
	settings := func() string {
		// md goes from active to clean by itself, and mdadm, which a run has started, goes on while that is stopped
		return r.Script(`cd /sys/block/md0/md; grep . sync_speed_min sync_speed_max sync_min sync_max bitmap/time_base; sed 's/active.*/clean/; s/write-pending/clean/' array_state
			` + also + `; tar -C / -cf - etc/mdclone run/mdclone var/lib/mdclone | md5sum`)
	}
	before := settings()
	commands := [][]string{{"backup"}, {"attach"}, {"detach"}}
	if p.argv[0] == "adopt" {
		commands = [][]string{p.argv} // nothing is configured yet
	}
	for _, command := range commands {
		code(r.t, r.account(3, command...), "locked")
	}
	r.early(0, "status")
	if after := settings(); after != before {
		r.t.Errorf("a second run changed something:\n%s\nbefore:\n%s", after, before)
	}
}
