package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// Sizes in MiB.
const (
	diskSize = 1024
	edge     = 16 // left alone at both ends of the array
)

// chunk is what a bit of the bitmap stands for, in bytes: setUp's 1M.
const chunk = 1 << 20

// changes is how much is changed before a measurement, in MiB.
var changes = []int{16, 400}

// setUp fills the array before it is cloned, and the plain copy too: no case is to pay for space that the host has not
// allocated yet.
const setUp = `
	mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --bitmap=internal --bitmap-chunk=1M --assume-clean /dev/vda /dev/vdb
	dd if=/dev/urandom of=/dev/md0 bs=1M count=$(($(blockdev --getsize64 /dev/md0) >> 20)) oflag=direct status=none
	mdclone-early adopt /dev/md0 /dev/vdc --name data
	mdclone-early detach
	dd if=/dev/md0 of=/dev/vdd bs=1M oflag=direct status=none`

// quiet waits until md has marked the array clean, and forgets what was read of it.
const quiet = `
	until [ "$(cat /sys/block/md0/md/array_state)" = clean ]; do sleep 0.1; done
	echo 3 > /proc/sys/vm/drop_caches`

// guest is the virtual machine with the array.
type guest struct {
	*vm.VM
	log  func(format string, args ...any)
	next int // MiB: where the next change is written
}

// measure boots a guest and measures everything in it.
func measure(ctx context.Context, suite string, rounds int, log func(string, ...any)) (_ *results, err error) {
	dir, err := os.MkdirTemp("", "mdclone-bench")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	lab, err := vm.NewLab(ctx, func(string, ...any) {})
	if err != nil {
		return nil, err
	}
	config := vm.Config{Suite: suite, Dir: dir}
	if config.Files, err = lab.Product(ctx, dir); err != nil {
		return nil, err
	}
	for _, name := range []string{"primary-1", "primary-2", "clone", "copy"} {
		d, err := vm.NewDisk(dir, name, diskSize<<20)
		if err != nil {
			return nil, err
		}
		config.Disks = append(config.Disks, d)
	}
	log("starting a guest of %s", suite)
	v, err := lab.Start(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nconsole:\n%s", err, v.Console())
		}
		err = errors.Join(err, v.Close())
	}()
	g := &guest{VM: v, log: log, next: edge}
	log("Linux %s is up; setting up the array", v.Release())
	if _, err := g.script(ctx, setUp); err != nil {
		return nil, fmt.Errorf("set up: %w", err)
	}
	r := &results{suite: suite, release: v.Release(), rounds: rounds, samples: map[key][]sample{}}
	for range rounds {
		for _, mib := range changes {
			for _, w := range ways {
				s, err := g.measure(ctx, w, mib)
				if err != nil {
					return nil, fmt.Errorf("%s, %d MiB: %w", w.name, mib, err)
				}
				log("%d MiB changed, %s: %.2f s", mib, w.name, s.seconds)
				r.samples[key{mib, w.name}] = append(r.samples[key{mib, w.name}], s)
			}
		}
	}
	return r, v.PowerOff(ctx)
}

// measure changes mib MiB of the array and brings a disk up to date.
func (g *guest) measure(ctx context.Context, w way, mib int) (s sample, err error) {
	if s.dirty, err = g.change(ctx, w, mib); err != nil {
		return s, err
	}
	before, err := g.written(ctx, w.disk)
	if err != nil {
		return s, err
	}
	start := time.Now()
	out, err := g.script(ctx, w.do)
	s.seconds = time.Since(start).Seconds()
	if err != nil {
		return s, err
	}
	after, err := g.written(ctx, w.disk)
	if err != nil {
		return s, err
	}
	s.written = after - before
	if w.account {
		var r clone.Result
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			return s, fmt.Errorf("%w in %s", err, out)
		}
		if r.VerifiedBytes < uint64(mib)<<20 {
			return s, fmt.Errorf("not all that was copied was compared: %s", out)
		}
		s.parts = r.Seconds
	}
	_, err = g.script(ctx, w.after)
	return s, err
}

// change writes mib MiB where the change before did not, and returns the bytes that the bitmap names then. A plain copy
// does not care, and leaves the bitmap as it is: for it they are what would have been written.
func (g *guest) change(ctx context.Context, w way, mib int) (dirty float64, err error) {
	if _, err = g.script(ctx, w.before); err != nil {
		return 0, err
	}
	if w.top == "" {
		_, err = g.script(ctx, quiet)
		return float64(mib << 20), err
	}
	if g.next+mib > diskSize-edge {
		g.next = edge
	}
	write := fmt.Sprintf("dd if=/dev/urandom of=%s bs=1M count=%d seek=%d oflag=direct status=none", w.top, mib, g.next)
	g.next += mib
	if _, err = g.script(ctx, write+quiet); err != nil {
		return 0, err
	}
	chunks, err := g.number(ctx, `mdadm -X /dev/vda | sed -n 's/.* \([0-9]*\) dirty.*/\1/p'`)
	return chunks * chunk, err
}

// written is how many bytes a disk was written since the start (Documentation/block/stat.rst, field 7).
func (g *guest) written(ctx context.Context, disk string) (float64, error) {
	sectors, err := g.number(ctx, "read -ra field </sys/block/"+disk+"/stat; echo ${field[6]}")
	return sectors * 512, err
}

// number runs a script that prints one number.
func (g *guest) number(ctx context.Context, text string) (float64, error) {
	out, err := g.script(ctx, text)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(out), 64)
}

// script runs a bash script, of which every command must succeed.
func (g *guest) script(ctx context.Context, text string) (string, error) {
	r, err := g.Run(ctx, "bash", "-euo", "pipefail", "-c", text)
	if err != nil {
		return "", err
	}
	return r.Stdout, r.Err()
}
