//go:build vmtest

package vmtest

import (
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/pkg/report"
	"mdclone/vmtest/vm"
)

// An offlineCase is a boot with mdclone=backup.
type offlineCase struct {
	name   string
	state  string                    // of the disks, see states
	disks  []string                  // serials, in the order in which the machine sees them
	args   []string                  // further kernel parameters
	shell  string                    // where a shell is started, see vm.ShellAt
	do     func(offline, *testing.T) // what a person does, before the machine is up
	code   report.Code               // of the outcome
	why    string                    // among its reasons
	told   bool                      // the splash screen and the unit that reports are looked at
	silent bool                      // it has a disk that does not answer
	array  string                    // what it is then, as slots says it; 01- by default
	whole  bool                      // up to systemd, not only to the tests' own init
	on     where
}

// offline is such a boot, as it runs.
type offline struct {
	*rig
	disks map[string]vm.Disk
}

// looking is what the product says while it looks for the clone drive, cloning when it begins.
const looking, cloning = "Enter ends that and boots", "making the clone"

var offlineCases = []offlineCase{
	{name: "cloned", state: "syncing", disks: strings.Fields(last), shell: "mount", do: offline.atTheRelease, told: true, on: everySystem},
	{
		name: "absent", state: "stale", disks: strings.Fields(both), args: []string{"mdclone.clone-wait=3"},
		code: report.NoDrive, why: "no-drive", on: everySuite,
	},
	{
		name: "plugged in meanwhile", state: "stale", disks: strings.Fields(both), args: []string{"mdclone.clone-wait=600"},
		do: offline.plugIn, on: firstSuite,
	},
	{
		name: "a disk does not answer", state: "stale", disks: strings.Fields(both), args: []string{"mdclone.clone-wait=30"},
		do: offline.silence, silent: true, code: report.NoDrive, why: "no-drive", on: rareTools,
	},
	{ // at a console that is not /dev/console
		name: "skipped", state: "stale", disks: strings.Fields(both), args: []string{"mdclone.clone-wait=600", "console=ttyS1"},
		do: offline.skip, code: report.Interrupted, why: "skipped", on: firstSuite,
	},
	{
		name: "ended in the sync", state: "syncing", disks: strings.Fields(first), args: []string{"mdclone.clone-wait=600"},
		do: offline.endInSync, code: report.Interrupted, why: "ended", on: firstSuite,
	},
	{
		name: "pulled out in the sync", state: "syncing", disks: strings.Fields(last), args: []string{"mdclone.clone-wait=600"},
		do: offline.pullOut, code: report.Failed, why: "drive-failed", on: everySystem,
	},
	{name: "diverged", state: "diverged", disks: strings.Fields(first), code: report.Refused, why: "ran-alone", on: everySuite},
	{
		name: "for an earlier boot", state: "stale", disks: strings.Fields(first), args: []string{"mdclone.until=1700000000"},
		why: "expired", on: firstSuite,
	},
	{
		name: "the program was killed", state: "syncing", disks: strings.Fields(first), shell: "premount",
		do: offline.killed, code: report.Failed, why: "died", on: everySystem,
	},
	{
		name: "by hand at a prompt", state: "stale", disks: strings.Fields(first),
		args: []string{"mdclone.until=1700000000"}, shell: "premount", do: offline.byHand, why: "expired", on: toolsOnly,
	},
}

// TestOfflineBoot boots machines that are to make a clone before anything is started on the array. Whatever comes of it,
// the boot goes on, and nothing was started before.
func TestOfflineBoot(t *testing.T) {
	t.Parallel()
	for i, system := range systems {
		cases := runOn(i, offlineCases, func(c offlineCase) where { return c.on })
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
					c.run(t, l, system, all[c.state])
				})
			}
		})
	}
}

func (c offlineCase) run(t *testing.T, l *vm.Lab, system string, base vm.Machine) {
	c.whole = c.told && (soaking() || system == suites[0]) // most of a boot's time is systemd's
	boot := bootCase{disks: c.disks, args: append([]string{"mdclone=backup", "mdclone.verify=changed"}, c.args...)}
	if !c.whole {
		boot.args = append(boot.args, vm.LightArg)
	}
	if c.shell != "" {
		boot.args = append(boot.args, vm.ShellAt(system, c.shell)...)
	}
	conf, disks := boot.config(t, base)
	if c.told {
		conf.Files = []vm.File{{Path: "/usr/bin/plymouth", Mode: 0o755, Data: []byte(plymouth)}}
	}
	raw(t, &conf)
	for _, d := range conf.Disks {
		disks[d.Serial] = d
	}
	r := offline{&rig{Machine: LaunchIn(t, l, conf)}, disks}
	asked := vm.HasDracut(system) && c.shell == "mount" // dracut has started all volumes by then
	if asked {
		r.unlock(base)
	}
	if c.do != nil {
		c.do(r, t)
	}
	if c.silent && strings.Contains(r.Console(), "begun once more") {
		c.code, c.why = report.Failed, "hibernation"
	}
	if !asked {
		r.unlock(base)
	}
	r.Up()
	if got := strings.TrimSpace(r.File(vm.Generation)); got != "current" {
		t.Errorf("booted the data %q; want current", got)
	}
	if got, want := r.slots(), cmp.Or(c.array, "01-"); got != want {
		t.Errorf("the array is %s; want %s", got, want)
	}
	r.nothingBefore(t)
	if c.whole {
		r.reported(t)
	}
	if c.told {
		r.shown(t)
	}
	if o := r.outcome(t, c); c.code == report.Done && c.why == "" && !o.Account.Offline {
		t.Errorf("the account is %+v; want the clone made of an array at rest", o.Account)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
}

// nothingBefore requires that there was no volume before the array was released.
func (r offline) nothingBefore(t *testing.T) {
	t.Helper()
	// by the clock that udev has, which the kernel's log has not: where an emulated machine stands still, the two part
	at := r.Script(`read -r up _ </proc/uptime; now=$EPOCHREALTIME
		awk "BEGIN { printf \"%.3f\", $(stat -c %.Y /run/mdclone/released) - $now + $up }"`)
	released, err := strconv.ParseFloat(at, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range r.volumes() {
		seen := r.Script("udevadm info --query=property --name=/dev/" + name + " | sed -n s/USEC_INITIALIZED=//p")
		volume, err := strconv.ParseFloat(strings.TrimSpace(seen), 64)
		const skew = 0.1 // of what is read one after the other
		if volume /= 1e6; err != nil || volume < released-skew {
			t.Errorf("%s was there at %.3f s (%v), the array was released at %.3f s", name, volume, err, released)
		}
	}
}

// reported requires that the machine's own unit has put what came of it into the journal, the history and the ledger, before
// any other command could.
func (r offline) reported(t *testing.T) {
	t.Helper()
	r.settled()
	const unit, handedOver = "mdclone-report.service", "/run/mdclone/var"
	if got := r.Must("systemctl", "show", "--property=ActiveState,Result", unit); got != "Result=success\nActiveState=active\n" {
		t.Errorf("%s: %q; want it active, after a success", unit, got)
	}
	const want = "the clone was made before anything was started; it is detached"
	if got := r.Must("journalctl", "--boot", "--unit="+unit, "--priority=notice", "--output=cat"); strings.TrimSpace(got) != want {
		t.Errorf("the journal has, as a notice or worse, %q; want %q", got, want)
	}
	if got := r.File("/var/lib/mdclone/history.jsonl"); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"offline":true`) {
		t.Errorf("the history is\n%s\nwant the one clone that was made, offline", got)
	}
	entry := read[clone.Entry](r.rig, r.Script("cat /var/lib/mdclone/ledger/*.json"))
	left := readMember(t, r.disks[vm.CloneSerial].Path)
	if !entry.Complete || entry.Clone != left.Super.Device || !entry.Untouched(left) || entry.DetachedAt.IsZero() {
		t.Errorf("the ledger has %+v; want the clone, complete, as it was left", entry)
	}
	if got := r.Script("find " + handedOver + " -type f"); got != "" {
		t.Errorf("there is still %s; want all of it taken over", got)
	}
}

// plymouth stands in for the splash screen's program in the initramfs, and runs as it would while nobody presses a key.
const plymouth = `#!/bin/sh
echo "$*" >>/run/plymouth.log
[ "$1" != watch-keystroke ] || exec sleep 3600
`

// shown requires that the splash screen was told what is done in the initramfs.
func (r offline) shown(t *testing.T) {
	t.Helper()
	told := r.File("/run/plymouth.log")
	for _, want := range []string{"--ping", "watch-keystroke --keys=\n", "display-message --text=making the clone", "display-message --text=the clone was made before"} {
		if !strings.Contains(told, want) {
			t.Errorf("plymouth was told\n%s\nwant %q among it", told, want)
		}
	}
}

// settled waits until systemd has no unit to start any more.
func (r offline) settled() { r.t.Helper(); r.Try("systemctl", "is-system-running", "--wait") }

// told is what the running system reads of the outcome.
type told struct {
	Code    report.Code
	Reasons []report.Reason
	Account *struct {
		clone.Result
		Arrays []clone.Result
	}
}

// outcome requires that the running system is told what came of it.
func (r offline) outcome(t *testing.T, c offlineCase) (o told) {
	t.Helper()
	file := "/run/mdclone/boot.json"
	if c.whole { // it was told already
		file = "/run/mdclone/reported-boot.json"
	}
	if err := json.Unmarshal([]byte(r.File(file)), &o); err != nil {
		t.Fatal(err)
	}
	if o.Code != c.code {
		t.Errorf("the outcome is %+v; want code %d", o, c.code)
	}
	if c.why != "" && !slices.ContainsFunc(o.Reasons, func(why report.Reason) bool { return why.Code == c.why }) {
		t.Errorf("the reasons are %+v; want %s", o.Reasons, c.why)
	}
	if c.why != "" && len(o.Reasons) > 0 && !strings.Contains(r.Console(), o.Reasons[0].Text) {
		t.Errorf("the console does not give the reason %q", o.Reasons[0].Text)
	}
	told := ""
	if c.whole {
		told = r.Must("journalctl", "--boot", "--unit=mdclone-report.service", "--priority=notice", "--output=cat")
	} else {
		told = r.Must("mdclone-early", "boot", "report")
	}
	if c.why != "" && len(o.Reasons) > 0 && !strings.Contains(told, o.Reasons[0].Text) {
		t.Errorf("the report does not give the reason:\n%s", told)
	}
	if got := r.Must("mdclone-early", "boot", "report"); got != "" {
		t.Errorf("a second report says %q", got)
	}
	last := c.code.Result()
	if n := len(o.Reasons); n > 0 {
		last = o.Reasons[n-1].Code
	}
	lines := slices.Collect(strings.Lines(r.File("/var/lib/mdclone/history.jsonl")))
	ends := 1
	if c.why == "died" { // the backup that lost its parent ends in good order, and may be the later one to say so
		ends = 2
	}
	if !slices.ContainsFunc(lines[max(0, len(lines)-ends):], func(entry string) bool {
		return strings.Contains(entry, `"`+last+`"`) && strings.Contains(entry, `"result":"`+c.code.Result()+`"`)
	}) {
		t.Errorf("the history is\n%s; want %s, %s at its end", strings.Join(lines, ""), c.code.Result(), last)
	}
	return o
}

// atTheRelease compares the disks in the moment in which the array was released and nothing is mounted yet.
func (r offline) atTheRelease(t *testing.T) {
	r.await(t, "(initramfs)")
	sameMembers(t, r.disks["p1"].Path, r.disks[vm.CloneSerial].Path)
	r.enter(t, "exit")
}

func (r offline) plugIn(t *testing.T) {
	r.await(t, looking)
	if err := r.Attach(r.Context(), r.disks[vm.CloneSerial]); err != nil {
		t.Fatal(err)
	}
	r.await(t, cloning)
}

// silence plugs a disk in on which no read ends: not even the kernel's, which looks for partitions. What runs in dracut's images
// would wait for it later on: systemd has all disks synced before it goes into the real root.
func (r offline) silence(t *testing.T) {
	r.qmp("object-add", map[string]any{"qom-type": "throttle-group", "id": "slow", "limits": map[string]any{"bps-read": 1}})
	disk := NewDisk(t, "slow", 16)
	disk.Block = map[string]any{
		"driver": "throttle", "throttle-group": "slow", "file": map[string]any{"driver": "file", "filename": disk.Path},
	}
	r.await(t, looking)
	if err := r.Attach(r.Context(), disk); err != nil {
		t.Fatal(err)
	}
	if err := r.AwaitConsoleMatch(r.Context(), silenceTold); err != nil {
		t.Fatal(err)
	}
}

// silenceTold is what comes of a disk that does not answer. One that is opened in the very moment in which it appears is waited
// for in the kernel: the stage is left behind then, and the next try begins with the question whether a system sleeps.
var silenceTold = regexp.MustCompile("(?s)does not answer.*(was not plugged in|whether a system sleeps)")

// countdown is two figures of it.
var countdown = regexp.MustCompile(`(?s)600 s left; ` + looking + `.* 5[0-9]{2} s left; ` + looking)

func (r offline) skip(t *testing.T) {
	if err := r.AwaitConsoleMatch(r.Context(), countdown); err != nil {
		t.Fatal(err)
	}
	r.enter(t, "")
}

// inSync waits until the clone is being copied to, slowly.
func (r offline) inSync(t *testing.T) {
	t.Helper()
	r.limit(vm.CloneSerial, mib)
	r.await(t, "copying to ")
}

func (r offline) endInSync(t *testing.T) {
	r.inSync(t)
	r.enter(t, "")
}

func (r offline) pullOut(t *testing.T) {
	r.inSync(t)
	if err := r.Detach(r.Context(), vm.CloneSerial); err != nil {
		t.Fatal(err)
	}
}

// killer kills the program once something is so, but not those that it has started: they have another name.
func killer(once string) string {
	return "(until " + once + `; do :; done
	for p in /proc/[0-9]*; do c=; read -r c 2>/dev/null <$p/comm; [ "$c" != mdclone-early ] || kill -9 ${p#/proc/}; done) &`
}

// killed ends the program while it makes the clone, before it has released the array.
func (r offline) killed(t *testing.T) {
	r.limit(vm.CloneSerial, 8*mib)
	r.await(t, "(initramfs)")
	r.enter(t, killer(`a=; read -r a 2>/dev/null </sys/block/md0/md/sync_action; [ "$a" = recover ]`))
	r.enter(t, "exit")
}

// byHand makes the clone as a person would, while the hold keeps everything off the array, also when mdadm cannot say which one
// it is, as while the array is made read-only.
func (r offline) byHand(t *testing.T) {
	r.await(t, "(initramfs)")
	r.enter(t, `m=$(command -v mdadm); mv $m $m.away; udevadm trigger --action=change --sysname-match=md0; udevadm settle; mv $m.away $m`)
	r.noVolume(t, "the first look")
	r.enter(t, "mdclone-early backup --offline --verify changed")
	r.await(t, "safe to unplug")
	r.noVolume(t, "the second look")
	r.enter(t, "exit")
}

// noVolume requires, at a prompt, that there is no volume.
func (r offline) noVolume(t *testing.T, when string) {
	t.Helper()
	r.enter(t, "for d in /sys/block/dm-*; do [ ! -e $d ] || echo a ''volume is there; done; echo end of ''"+when)
	r.await(t, "end of "+when)
	if strings.Contains(r.Console(), "a volume is there") {
		t.Errorf("%s finds a volume before the release", when)
	}
}

func (r offline) enter(t *testing.T, line string) {
	t.Helper()
	if err := r.Type(line + "\n"); err != nil {
		t.Fatal(err)
	}
}

func (r offline) await(t *testing.T, text string) {
	t.Helper()
	if err := r.AwaitConsole(r.Context(), text); err != nil {
		t.Fatal(err)
	}
}
