//go:build vmtest

package vmtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// badBoot is a boot in which something does not start, or starts too early.
type badBoot struct {
	bootCase
	hidden  bool   // p1's superblock is one event behind that on p2, which does not list it: mdadm starts both, whatever there is
	spoiled string // serial of a member whose bitmap is destroyed, so that md does not start it
	killed  bool   // the program is, once it has stopped the array
	deaf    bool   // the primaries' bitmaps cannot be read until the array is started
	kept    string // serial of the member that must not be written
	said    string // in the kernel's log
}

// hiddenNewest are machines both of whose own disks failed in one moment, so that md wrote one of its two superblock updates
// between, and the array went on on the clone. mdadm starts it from the old disks, before anybody has looked at the clone, or
// while the second one is waited for.
var hiddenNewest = []badBoot{
	{
		bootCase: bootCase{name: "at once", state: "ahead", disks: strings.Fields(last), data: "newest", array: "--2", wrote: true, on: everySystem},
		hidden:   true, kept: "p2", said: "which mdadm had started from disks of array root",
	},
	{
		bootCase: bootCase{
			name: "the last one late", state: "ahead", disks: []string{"p1", vm.CloneSerial}, late: []string{"p2"}, args: []string{"mdclone.wait=300"},
			data: "newest", array: "--2", wrote: true, on: firstSuite,
		},
		hidden: true, kept: "p2", said: "which mdadm had started from disks of array root",
	},
	{
		bootCase: bootCase{name: "the clone does not start", state: "ahead", disks: strings.Fields(last), data: "current", array: "-1-|01-", on: firstSuite},
		hidden:   true, spoiled: vm.CloneSerial, kept: vm.CloneSerial, said: "is started from its own disks again",
	},
	{
		bootCase: bootCase{
			name: "the program is killed", state: "ahead", disks: strings.Fields(last), data: "newest", array: "--2", wrote: true, on: rareTools,
		},
		hidden: true, killed: true, kept: "p2", said: "array root was started from",
	},
	{
		bootCase: bootCase{
			name: "the clone does not start, the program is killed", state: "ahead", disks: strings.Fields(last), data: "current", array: "-1-|01-",
			on: toolsOnly,
		},
		hidden: true, killed: true, spoiled: vm.CloneSerial, kept: vm.CloneSerial, said: "is started from its own disks again",
	},
}

// unstartable are machines with disks that md does not start.
var unstartable = []badBoot{
	{
		bootCase: bootCase{name: "the newest copy", state: "ahead", disks: strings.Fields(last), data: "current", array: "-1-|01-", on: everySystem},
		spoiled:  vm.CloneSerial, kept: vm.CloneSerial, said: "is started from its own disks again",
	},
	{
		bootCase: bootCase{
			name: "the clone alone, its primaries are late", state: "stale", disks: []string{vm.CloneSerial}, late: []string{"p1", "p2"},
			await: "cannot be started from its clone", args: []string{"mdclone.wait=3"}, data: "current", array: "01-", on: firstSuite,
		},
		spoiled: vm.CloneSerial, kept: vm.CloneSerial,
	},
	{
		bootCase: bootCase{
			name: "a primary that was being rebuilt", state: "rebuilding", disks: []string{"p2", vm.CloneSerial}, args: []string{"mdclone.wait=3"},
			data: "old", array: "--2", wrote: true, on: everySuite,
		},
		kept: "p2",
	},
	{
		bootCase: bootCase{
			name: "the primary that is left", state: "stale", disks: []string{"p1", vm.CloneSerial}, args: []string{"mdclone.wait=3"},
			data: "old", array: "--2", wrote: true, on: everySuite,
		},
		spoiled: "p1", kept: "p1", said: "it does not start from the machine's own disks",
	},
	{
		bootCase: bootCase{
			// late, as md reads the bitmap of the one that is bound last
			name: "one of two primaries", state: "ended", disks: []string{"p1", vm.CloneSerial}, late: []string{"p2"},
			args: []string{"mdclone.wait=300"}, data: "current", array: "0--", on: firstSuite,
		},
		spoiled: "p2", kept: vm.CloneSerial, said: "alone: look at its other disks",
	},
	{
		bootCase: bootCase{name: "an error that passes", state: "ended", disks: strings.Fields(last), data: "current", array: "01-", on: firstSuite},
		deaf:     true, kept: vm.CloneSerial, said: "failed to create bitmap (-5)",
	},
	{
		bootCase: bootCase{
			name: "one of two old disks, never without them", state: "ahead", disks: []string{"p1", vm.CloneSerial},
			args: []string{"mdclone.wait=never"}, data: "newest", array: "--2", wrote: true, on: firstSuite,
		},
		kept: "p1",
	},
}

// TestBootNewestIsHidden: the clone is booted. Where it does not start, it is kept out of the array that does.
func TestBootNewestIsHidden(t *testing.T) { eachBadBoot(t, hiddenNewest) }

// TestBootUnstartable: what does not start is in nobody's way.
func TestBootUnstartable(t *testing.T) { eachBadBoot(t, unstartable) }

func eachBadBoot(t *testing.T, cases []badBoot) {
	t.Parallel()
	for i, system := range systems {
		for _, c := range runOn(i, cases, func(c badBoot) where { return c.on }) {
			t.Run(system+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, system)
			})
		}
	}
}

func (c badBoot) run(t *testing.T, system string) {
	l := Lab(t)
	all := c.bootCase
	all.disks = strings.Fields(last)
	conf, _ := all.config(t, diskStates(t, l, system)[c.state])
	raw(t, &conf)
	disks := map[string]vm.Disk{}
	for _, d := range conf.Disks {
		disks[d.Serial] = d
	}
	if c.hidden {
		oneEventBehind(t, disks["p1"].Path, disks["p2"].Path)
	}
	if c.spoiled != "" {
		noBitmap(t, disks[c.spoiled].Path)
	}
	primaries := []string{"p1", "p2"}
	for _, serial := range primaries {
		if d := disks[serial]; c.deaf {
			s := readMember(t, d.Path).Super
			disks[serial] = d.Unreadable(int64(s.SuperOffset) + int64(s.BitmapOffset))
		}
	}
	before := super(t, disks[c.kept])
	conf.Disks = nil
	for _, serial := range c.disks {
		conf.Disks = append(conf.Disks, disks[serial])
	}
	conf.Args = append(conf.Args, vm.LightArg)
	if c.killed {
		conf.Args = append(conf.Args, vm.ShellAt(system, "premount")...)
	}
	r := &rig{Machine: LaunchIn(t, l, conf)}
	if c.killed {
		typed := offline{r, disks}
		typed.await(t, "(initramfs)")
		typed.enter(t, killer("[ -e /run/mdclone/stopped-* ]"))
		typed.enter(t, "exit")
	}
	if len(c.late) > 0 {
		if c.await == "" {
			c.await = waiting
		}
		if err := r.AwaitConsole(r.Context(), c.await); err != nil {
			t.Fatal(err)
		}
	}
	for _, serial := range c.late {
		if err := r.Attach(r.Context(), disks[serial]); err != nil {
			t.Fatal(err)
		}
	}
	if c.deaf {
		if err := r.AwaitConsole(r.Context(), "mdclone: starting md"); err != nil {
			t.Fatal(err)
		}
		if err := r.AwaitReadErrors(r.Context(), disks["p1"], disks["p2"]); err != nil { // so that it fails once
			t.Fatal(err)
		}
		for _, serial := range primaries {
			if err := r.Readable(r.Context(), disks[serial]); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.Up()
	said := r.Must("dmesg")
	if !strings.Contains(said, c.said) {
		t.Errorf("%q is not said:\n%s", c.said, said)
	}
	if got := strings.TrimSpace(r.File(vm.Generation)); got != c.data {
		t.Errorf("booted the data %q; want %q\n%s", got, c.data, said)
	}
	if slots := r.slots(); !slices.Contains(strings.Split(c.array, "|"), slots) {
		t.Errorf("the array is %s; want %s", slots, c.array)
	}
	if c.wrote {
		r.runsFromClone(t, true)
	} else if strings.Contains(said, "this machine runs from the clone") {
		t.Errorf("it is said that the machine runs from its clone:\n%s", said)
	}
	login := r.Try("cat", "/run/motd.d/mdclone").Stdout
	for text, want := range map[string]bool{"RUNS FROM THE CLONE": c.wrote, "MAY RUN FROM OLD DISKS": strings.Contains(c.said, "own disks again")} {
		if strings.Contains(login, text) != want {
			t.Errorf("login says %q; want %q in it: %v", login, text, want)
		}
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if now := super(t, disks[c.kept]); now.Events != before.Events || now.Updated != before.Updated {
		t.Errorf("%s was written to: events %d, %d before", c.kept, now.Events, before.Events)
	}
}

// oneEventBehind gives the superblock on the disk image failed one event less than that on last.
func oneEventBehind(t *testing.T, failed, last string) {
	t.Helper()
	m := readMember(t, failed)
	block, err := md.Reseated(m.Raw, m.Super.Slot(), readMember(t, last).Super.Events-1, true)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", filepath.Base(failed), err))
	}
	writeSector(t, failed, block, int64(m.Super.SuperOffset))
}

// noBitmap destroys the bitmap on the disk image of a member, so that md does not start it.
func noBitmap(t *testing.T, path string) {
	t.Helper()
	s := readMember(t, path).Super
	writeSector(t, path, make([]byte, 4096), int64(s.SuperOffset)+int64(s.BitmapOffset))
}

// writeSector writes to a disk image, from a sector on.
func writeSector(t *testing.T, path string, text []byte, sector int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(text, sector*512)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}
