//go:build vmtest

package vmtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mdclone/vmtest/vm"
)

// bootCase is one way in which a machine with a clone finds its disks at boot.
type bootCase struct {
	name  string
	state string   // of the disks, see states
	disks []string // serials, in the order in which the machine sees them
	late  []string // serials that are plugged in while they are waited for
	later []string // serials that are plugged in when the product then waits
	after int      // the late ones come so many seconds after the first stage began, by the guest's clock
	typed string   // into a shell before init-premount
	await string   // the console's words that begin this; "" for those of the product's wait
	enter bool     // the wait for primaries is ended at the console
	args  []string // kernel parameters
	data  string   // whose data is to be booted
	array string   // "01-": who is to be in the array, "|" for or; "--2*" says that others are syncing
	wrote bool     // the clone may be written: the machine runs from it
	begun bool     // mdadm may start the clone before the product holds it, which writes its superblock
	on    where
}

// where says on which systems a case runs, unless there is time: then it is all of them.
type where int

const (
	everySuite where = iota // with initramfs-tools
	firstSuite
	everySystem  // with dracut too, but not with its variant without systemd
	everyVariant // with that too
	never        // it is rarer
	toolsOnly    // everySuite, and never with dracut: it is about initramfs-tools
	rareTools    // likewise, and rarer
)

// runsOn tells whether a case runs on the i-th of systems.
func (w where) runsOn(i int) bool {
	dracut := vm.HasDracut(systems[i])
	switch {
	case w == toolsOnly, w == rareTools && soaking():
		return !dracut
	case soaking() || w == everyVariant:
		return true
	case w == everySystem:
		return !strings.HasSuffix(systems[i], vm.DracutPlain)
	case w == everySuite:
		return !dracut
	}
	return w == firstSuite && i == 0
}

// runOn are those of cases that run on the i-th of systems.
func runOn[C any](i int, cases []C, on func(C) where) []C {
	return slices.DeleteFunc(slices.Clone(cases), func(c C) bool { return !on(c).runsOn(i) })
}

const both, first, last, middle = "p1 p2", "clone p1 p2", "p1 p2 clone", "p1 clone p2"

// waiting is what the product says when it waits for primaries.
const waiting = "Enter on the console ends that"

// appear begins what the kernel's log has where primaries appear by the guest's clock.
const appear = "the primaries appear "

// looks is what mdadm's script says in the case quicker, when it is about to look for arrays.
const looks = "mdadm looks "

// quicker has initramfs-tools look for the root file system in the moment in which the clone appears, before any rule of udev.
var quicker = bootCase{
	name: "later clone, mdadm is quicker, diverged", state: "diverged", late: []string{"clone"}, later: []string{"p1", "p2"},
	typed: `sed -i '/^mdadm -q --assemble --scan --no-degraded/i echo "` + looks + `"now; until [ -b /dev/vda ]; do :; done' ` +
		"/scripts/local-block/mdadm; exit",
	await: looks + "now", args: []string{"mdclone.wait=300", "break=premount", "panic="}, data: "current", array: "01-",
	begun: true, on: toolsOnly,
}

// bootCases boot, each through the machine's own initramfs.
var bootCases = []bootCase{
	{name: "power cut, clone first", state: "cut", disks: strings.Fields(first), data: "current", array: "01-", on: everyVariant},
	{name: "power cut, clone last", state: "cut", disks: strings.Fields(last), data: "current", array: "01-", on: firstSuite},
	{name: "power cut, clone unplugged", state: "cut", disks: strings.Fields(both), data: "current", array: "01-", on: firstSuite},
	{name: "ended in good order, clone first", state: "ended", disks: strings.Fields(first), data: "current", array: "01-"},
	{name: "power cut in a sync, clone first", state: "syncing", disks: strings.Fields(first), data: "current", array: "01-"},
	{name: "stale, first", state: "stale", disks: strings.Fields(first), data: "current", array: "01-", on: firstSuite},
	{name: "diverged, first", state: "diverged", disks: strings.Fields(first), data: "current", array: "01-"},
	{name: "diverged, last", state: "diverged", disks: strings.Fields(last), data: "current", array: "01-", on: firstSuite},
	{
		name: "a primary missing, diverged", state: "diverged", disks: []string{"clone", "p1"}, args: []string{"mdclone.wait=5"},
		data: "current", array: "0--",
	},
	{
		name: "late primaries, diverged", state: "diverged", disks: []string{"clone"}, late: []string{"p1", "p2"},
		args: []string{"mdclone.wait=300"}, data: "current", array: "01-", on: firstSuite,
	},
	{
		// initramfs-tools looks for the root file system now, with mdadm --assemble --scan, past all rules of udev
		name: "later primaries, diverged", state: "diverged", disks: []string{"clone"}, late: []string{"p1", "p2"},
		await: "/scripts/local-block ... done.", args: []string{"mdclone.wait=never"}, data: "current", array: "01-",
		on: toolsOnly,
	},
	{
		name: "later clone, still later primaries, diverged", state: "diverged", late: []string{"clone"}, later: []string{"p1", "p2"},
		await: "Begin: Running /scripts/local-block", args: []string{"mdclone.wait=300"}, data: "current", array: "01-",
		begun: true, on: toolsOnly, // as mdadm may be quicker here too
	},
	quicker,
	{
		name: "alone, stale", state: "stale", disks: []string{"clone"}, enter: true, args: []string{"mdclone.wait=600"},
		data: "old", array: "--2", wrote: true,
	},
	{
		name: "alone, diverged", state: "diverged", disks: []string{"clone"}, args: []string{"mdclone.wait=3", "quiet"},
		data: "own", array: "--2", wrote: true, on: everySystem,
	},
	{name: "ahead", state: "ahead", disks: strings.Fields(last), data: "newest", array: "--2", wrote: true},
	{name: "rollback cut", state: "rollback", disks: strings.Fields(first), data: "own", array: "--2*|012", wrote: true},
	{name: "stale, last", state: "stale", disks: strings.Fields(last), data: "current", array: "01-", on: never},
	{name: "stale, middle", state: "stale", disks: strings.Fields(middle), data: "current", array: "01-", on: never},
	{name: "diverged, middle", state: "diverged", disks: strings.Fields(middle), data: "current", array: "01-", on: never},
	{name: "power cut, clone in the middle", state: "cut", disks: strings.Fields(middle), data: "current", array: "01-", on: never},
	{name: "power cut in a sync, clone last", state: "syncing", disks: strings.Fields(last), data: "current", array: "01-", on: never},
	{name: "ended in good order, clone last", state: "ended", disks: strings.Fields(last), data: "current", array: "01-", on: never},
	{name: "ahead, clone first", state: "ahead", disks: strings.Fields(first), data: "newest", array: "--2", wrote: true, on: never},
	{name: "rollback cut, clone last", state: "rollback", disks: strings.Fields(last), data: "own", array: "--2*|012", wrote: true, on: never},
	{
		name: "power cut, a primary missing", state: "cut", disks: []string{"p2", "clone"}, args: []string{"mdclone.wait=5"},
		data: "current", array: "-1-", on: never,
	},
	{
		name: "late primaries, stale", state: "stale", disks: []string{"clone"}, late: []string{"p1", "p2"},
		args: []string{"mdclone.wait=300"}, data: "current", array: "01-", on: never,
	},
	{
		name: "primaries 20 s late, diverged", state: "diverged", disks: []string{"clone"}, late: []string{"p1", "p2"}, after: 20,
		args: []string{"mdclone.wait=300", "break=premount", "panic="}, data: "current", array: "01-", on: rareTools,
	},
	{
		name: "primaries 20 s late, stale", state: "stale", disks: []string{"clone"}, late: []string{"p1", "p2"}, after: 20,
		args: []string{"mdclone.wait=300", "break=premount", "panic="}, data: "current", array: "01-", on: rareTools,
	},
	{name: "primaries alone", state: "stale", disks: strings.Fields(both), data: "current", array: "01-", on: never},
}

// TestBootSet boots machines whose clone is plugged in, or all that is left.
func TestBootSet(t *testing.T) {
	t.Parallel()
	for i, system := range systems {
		cases := runOn(i, bootCases, func(c bootCase) where { return c.on })
		if len(cases) == 0 {
			continue
		}
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			l := Lab(t)
			all := diskStates(t, l, system)
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(t, l, all[c.state])
				})
			}
		})
	}
}

// start boots the machine in a case's state of disks, up to a small init in its real root.
func (c bootCase) start(t *testing.T, l *vm.Lab, base vm.Machine) (*rig, map[string]vm.Disk) {
	t.Helper()
	r, disks := c.launch(t, l, base)
	if c.after > 0 {
		c.typed = fmt.Sprintf(`(sleep %d; echo "<3>%s"now >/dev/kmsg) & exit`, c.after, appear)
		c.await = appear + "now"
	}
	if c.typed != "" {
		shell := offline{rig: r}
		shell.await(t, "(initramfs)")
		shell.enter(t, c.typed)
	}
	if len(c.late) > 0 || c.enter {
		if c.await == "" {
			c.await = waiting
		}
		if err := r.AwaitConsole(r.Context(), c.await); err != nil {
			t.Fatal(err)
		}
		if c.enter {
			if err := r.Type("\n"); err != nil {
				t.Fatal(err)
			}
		}
		attach := func(serials []string) {
			for _, serial := range serials {
				if err := r.Attach(r.Context(), disks[serial]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if attach(c.late); len(c.later) > 0 {
			if err := r.AwaitConsole(r.Context(), waiting); err != nil {
				t.Fatal(err)
			}
			attach(c.later)
		}
	}
	r.unlock(base)
	r.Up()
	return r, disks
}

// launch is start that returns at once.
func (c bootCase) launch(t *testing.T, l *vm.Lab, base vm.Machine) (*rig, map[string]vm.Disk) {
	t.Helper()
	conf, disks := c.config(t, base)
	conf.Args = append(conf.Args, vm.LightArg)
	return &rig{Machine: LaunchIn(t, l, conf)}, disks
}

// config is what boots the machine in a case's state of disks, up to its own init; disks are all of the state's.
func (c bootCase) config(t *testing.T, base vm.Machine) (conf vm.Config, disks map[string]vm.Disk) {
	t.Helper()
	conf, err := base.Config(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	disks = map[string]vm.Disk{}
	for _, d := range conf.Disks {
		disks[d.Serial] = d
	}
	conf.Disks = nil
	for _, serial := range c.disks {
		conf.Disks = append(conf.Disks, disks[serial])
	}
	conf.Args = append(conf.Args, c.args...)
	return conf, disks
}

func (c bootCase) run(t *testing.T, l *vm.Lab, base vm.Machine) {
	r, disks := c.start(t, l, base)
	if got := strings.TrimSpace(r.File(vm.Generation)); got != c.data {
		t.Errorf("booted the data %q; want %q", got, c.data)
	}
	slots := r.slots()
	if !slices.Contains(strings.Split(c.array, "|"), slots) {
		t.Errorf("the array is %s; want %s", slots, c.array)
	}
	for _, name := range append(r.volumes(), "md0") {
		if got := strings.TrimSpace(r.File("/sys/block/" + name + "/queue/max_sectors_kb")); got != vm.PinKB {
			t.Errorf("max_sectors_kb of %s is %s; want %s", name, got, vm.PinKB)
		}
	}
	if c.after > 0 {
		begun, err := r.KernelSaid(r.Context(), waiting)
		come, e := r.KernelSaid(r.Context(), appear)
		// the first stage looks at the disks before it says that it waits
		if took := come - begun; err != nil || e != nil || took > float64(c.after) || took < float64(c.after)/2 {
			t.Errorf("the primaries came %.1f s after the product began to wait (%v, %v); want up to %d s", took, err, e, c.after)
		}
	}
	if len(c.args) == 0 && strings.Contains(r.Must("dmesg"), waiting) {
		t.Error("it waited for primaries; want it to start at once")
	}
	if !c.wrote && slices.Contains(slices.Concat(c.disks, c.late), vm.CloneSerial) {
		// whatever it is, nothing holds it any more
		if got := r.Try("mdclone-early", "check", "root", "/dev/"+base.Layout.Node(r.name(vm.CloneSerial))); strings.Contains(got.Stderr, "in use") {
			t.Errorf("check: %s", got.Stderr)
		}
	}
	if c.wrote {
		r.runsFromClone(t, len(strings.Trim(slots, "-")) == 1)
	} else if s := r.status(); s.RunsFromClone {
		t.Errorf("status: %+v; want it not to run from its clone", s)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if written, err := disks[vm.CloneSerial].Written(t.Context()); err != nil || !c.begun && written != c.wrote {
		t.Errorf("the clone was written: %v, %v; want %v", written, err, c.wrote)
	}
}

// slots is who is in md0, by slot: "01-". A star says that there are members that are being synced.
func (r *rig) slots() string {
	r.t.Helper()
	return strings.TrimSpace(r.Script(`cd /sys/block/md0/md; out=; star=
		for slot in $(seq 0 $(($(cat raid_disks) - 1))); do
			found=-
			for d in dev-*; do
				[ "$(cat $d/slot)" = $slot ] || continue
				case ,$(cat $d/state), in *,in_sync,*) found=$slot;; *) star='*';; esac
			done
			out=$out$found
		done
		echo "$out$star"`))
}

// runsFromClone requires that the machine said that it runs from its clone wherever somebody looks, and, where it still
// does so alone, that no backup is made of that.
func (r *rig) runsFromClone(t *testing.T, alone bool) {
	t.Helper()
	said := map[string]string{"login": r.File("/run/motd.d/mdclone"), "the kernel log": r.Must("dmesg"), "the console": r.Console()}
	if alone {
		said["status"] = r.early(0, "status").Stdout
		if s := r.status(); !s.RunsFromClone {
			t.Errorf("status: %+v; want it to run from its clone", s)
		}
		code(t, r.account(3, "backup"), "no-primary")
		r.Script("ls /run/mdclone/lifted-*") // by which udev's rule keeps own disks out
	}
	for what, text := range said {
		if !strings.Contains(strings.ToLower(text), "this machine runs from the clone") {
			t.Errorf("%s does not say that the machine runs from its clone:\n%s", what, text)
		}
	}
}

// TestBootSetOff: with mdclone=off the clone that was attached at a power cut is joined. So the cases above show what the
// boot set does.
func TestBootSetOff(t *testing.T) {
	t.Parallel()
	l := Lab(t)
	c := bootCase{state: "cut", disks: strings.Fields(first), args: []string{"mdclone=off"}}
	r, disks := c.start(t, l, diskStates(t, l, "bookworm")[c.state])
	if got := r.slots(); !strings.HasPrefix(got, "01") || got == "01-" {
		t.Errorf("the array is %s; want the clone in it", got)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if written, err := disks[vm.CloneSerial].Written(t.Context()); err != nil || !written {
		t.Errorf("the clone was written: %v, %v; want true", written, err)
	}
}
