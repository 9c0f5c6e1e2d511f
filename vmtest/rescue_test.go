//go:build vmtest

package vmtest

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// rescueMost is how large a rescue image may be without its kernel, in bytes.
const rescueMost = 25 << 20

// asked is the end of the rescue image's menu.
const asked = "What shall be done? "

// rescue is a machine that runs the rescue image which mdclone-gen made in it.
func rescue(t *testing.T, l *vm.Lab, base vm.Machine, conf vm.Config, args ...string) offline {
	t.Helper()
	conf.Image.Initrd = base.Rescue
	conf.Args = append(conf.Args, args...)
	return offline{rig: &rig{Machine: LaunchIn(t, l, conf)}}
}

// end powers the machine off by the menu.
func (r offline) end(t *testing.T) {
	t.Helper()
	r.enter(t, "poweroff")
	if err := r.Wait(r.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestRescue boots the rescue image and makes the clone by its menu, as a person would at the serial console. The host
// compares what came of it.
func TestRescue(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite string) {
		l := Lab(t)
		base := diskStates(t, l, suite)["stale"]
		info, err := os.Stat(base.Rescue)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("the rescue image has %.1f MiB", float64(info.Size())/mib)
		if info.Size() > rescueMost {
			t.Errorf("the rescue image has %d bytes; want at most %d", info.Size(), rescueMost)
		}
		conf, disks := bootCase{disks: strings.Fields(first)}.config(t, base)
		raw(t, &conf)
		for _, d := range conf.Disks {
			disks[d.Serial] = d
		}
		before := readMember(t, disks["p1"].Path).Super
		r := rescue(t, l, base, conf, "virtio-blk.queue_depth=64")
		r.await(t, asked)
		if now := readMember(t, disks["p1"].Path).Super; now.Events != before.Events || now.Updated != before.Updated {
			t.Errorf("the array was written to before anything was asked for: events %d, %d before", now.Events, before.Events)
		}
		r.enter(t, "clone")
		r.await(t, "safe to unplug")
		r.enter(t, "status")
		r.await(t, ": stale at /dev/vda, detached ")
		r.enter(t, "4") // the shell
		// none of what is on the array: the pattern stays as it is where nothing matches
		r.enter(t, `for d in /sys/block/dm-*; do echo "there$((1)) $d"; done`)
		r.await(t, "there1 /sys/block/dm-*")
		p := &prompt{offline: r}
		p.says(t, `echo "pinned to$((1)) $(cat /sys/block/md0/queue/max_sectors_kb)"`, "pinned to1 "+vm.PinKB)
		p.says(t, `kill 1; echo "depth$((1)) $(cat /sys/module/virtio_blk/parameters/queue_depth)"`, "depth1 64")
		p.byHand(t)
		r.enter(t, "exit")
		r.end(t)
		sameMembers(t, disks["p1"].Path, disks["p2"].Path)
		sameMembers(t, disks["p1"].Path, disks[vm.CloneSerial].Path)
		a, c := readMember(t, disks["p1"].Path).Super, readMember(t, disks[vm.CloneSerial].Path).Super
		if a.View() != "01-" || c.View() != "012" || a.ResyncOffset != md.NoResync {
			t.Errorf("the array is %s (%#x), in the clone's view %s; want 01-, clean, and 012", a.View(), a.ResyncOffset, c.View())
		}
	})
}

// byHand types what the menu says can be done by hand. What vouches for the clone is known there once it was made.
func (p *prompt) byHand(t *testing.T) {
	t.Helper()
	p.says(t, "help", "mdclone-early backup --offline", "mdclone-early status, check", "tools: ")
	p.says(t, "mdclone-early status", ": stale at /dev/vda, detached ", "bitmap: ")
	p.says(t, "mdclone-early verify; echo exit$((0)) $?", "is not in md0", "hint: mdclone-early backup --verify full", "exit0 3")
	p.says(t, "mdclone-early backup", "root: /dev/vda is a clone of the array", "safe to unplug")
	if !soaking() { // all is compared in what follows
		return
	}
	p.says(t, "mdclone-early attach; mdclone-early verify; mdclone-early detach", "compared", "safe to unplug")
}

// TestRescueLeavesAlone: where the array's own disks are not the newest copy, or this kernel cannot assemble them, the
// rescue image says so and writes nothing.
func TestRescueLeavesAlone(t *testing.T) {
	t.Parallel()
	l := Lab(t)
	all := diskStates(t, l, "bookworm")
	for _, c := range []struct {
		name, state, disks, says string
		rare                     bool
	}{
		{"the clone alone", "stale", vm.CloneSerial, "only its clone is here (vda)", false},
		{"the newest copy", "ahead", first, "it is the newest copy", true},
		{"a rollback was cut", "rollback", last, "were being copied back from the clone", true},
		{"a newer kernel's", "stale", both, "it needs 6.19", false},
	} {
		if c.rare && !soaking() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conf, _ := bootCase{disks: strings.Fields(c.disks)}.config(t, all[c.state])
			if c.state == "stale" && c.disks == both {
				raw(t, &conf)
				for i, d := range conf.Disks {
					ofNewerKernel(t, d.Path)
					layer, err := d.Overlay(t.Context(), d.Path+".layer")
					if err != nil {
						t.Fatal(err)
					}
					conf.Disks[i] = layer
				}
			}
			r := rescue(t, l, all[c.state], conf, "mdclone.wait=1")
			r.await(t, c.says)
			r.await(t, asked)
			r.enter(t, "clone")
			r.await(t, "no clone was made")
			r.end(t)
			for _, d := range conf.Disks {
				if written, err := d.Written(t.Context()); err != nil || written {
					t.Errorf("%s was written to: %v, %v", d.Serial, written, err)
				}
			}
		})
	}
}

// TestRescueAsks: where a disk of the array is missing, the rescue image's menu asks before anything is written.
func TestRescueAsks(t *testing.T) {
	anySuite(t, func(t *testing.T, suite string) {
		l := Lab(t)
		base := diskStates(t, l, suite)["stale"]
		conf, disks := bootCase{disks: []string{"clone", "p1"}, args: []string{"mdclone.wait=1"}}.config(t, base)
		raw(t, &conf)
		for _, d := range conf.Disks {
			disks[d.Serial] = d
		}
		supers := func() string {
			return string(readMember(t, disks["p1"].Path).Raw) + string(readMember(t, disks[vm.CloneSerial].Path).Raw)
		}
		const question = "Type 1 to go on: "
		before := supers()
		r := rescue(t, l, base, conf)
		r.await(t, asked)
		r.enter(t, "clone")
		r.await(t, question)
		r.enter(t, "y")
		r.await(t, "no clone was made; plug it in")
		if supers() != before {
			t.Error("a superblock was written before the answer was yes")
		}
		if !soaking() { // all of a drive is compared in what follows
			r.end(t)
			return
		}
		r.enter(t, "verify\n1") // it asks again
		r.await(t, "safe to unplug")
		r.end(t)
		if n := strings.Count(r.Console(), question); n != 2 {
			t.Errorf("it asked %d times; want 2", n)
		}
		sameMembers(t, disks["p1"].Path, disks[vm.CloneSerial].Path)
		if a, c := readMember(t, disks["p1"].Path).Super, readMember(t, disks[vm.CloneSerial].Path).Super; a.View() != "0--" || c.View() != "0-2" {
			t.Errorf("the array is %s, in the clone's view %s; want 0-- and 0-2", a.View(), c.View())
		}
	})
}

// ofNewerKernel writes a logical block size into a member's superblock, as Linux 6.19 does, and corrects the checksum.
func ofNewerKernel(t *testing.T, path string) {
	t.Helper()
	const super, checksum, blockSize = 4096, 216, 224
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, blockSize+4)
	if _, err := f.ReadAt(b, super); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b[blockSize:], 512)
	binary.LittleEndian.PutUint32(b[checksum:], binary.LittleEndian.Uint32(b[checksum:])+512) // a sum of such numbers
	if _, err := f.WriteAt(b, super); err != nil {
		t.Fatal(err)
	}
	if got := readMember(t, path).Super.LogicalBlock; got != 512 {
		t.Fatalf("the logical block size is %d; want 512", got)
	}
}
