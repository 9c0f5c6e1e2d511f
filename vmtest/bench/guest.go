package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"mdclone/vmtest/vm"
)

// Sizes in MiB.
const (
	diskSize = 1024
	edge     = 16 // at both ends of the array, left alone
)

// changes are how much is changed before a measurement, in MiB.
var changes = []int{16, 400}

// setUp makes the array, which is the same all over, and the clone.
const setUp = `
	mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --bitmap=internal --bitmap-chunk=1M --assume-clean /dev/vda /dev/vdb
	vgcreate -qy vg0 /dev/md0
	lvcreate -qy -Wn -l 100%FREE -n root vg0
	vgchange -qan vg0
	mdclone-early adopt /dev/md0 /dev/vdc --name data
	mdclone-early detach`

// chunk is what a bit of the bitmap stands for, in bytes: setUp's 1M.
const chunk = 1 << 20

// quiet waits until md has marked the array clean, and forgets what was read of it.
const quiet = `
	until [ "$(cat /sys/block/md0/md/array_state)" = clean ]; do sleep 0.1; done
	echo 3 > /proc/sys/vm/drop_caches`

// guest is the virtual machine with the array.
type guest struct {
	*vm.VM
	next int // MiB: where the next change is written
}

// options are what is asked for on the command line.
type options struct {
	suite  string
	limit  int // MiB/s; 0 is none
	rounds int
	boots  int // rounds of them
}

// bench measures everything: cycles in one guest, then boots.
func bench(ctx context.Context, o options, log func(string, ...any)) (_ *results, err error) {
	dir, err := os.MkdirTemp("", "mdclone-bench")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	lab, err := vm.NewLab(ctx, func(string, ...any) {})
	if err != nil {
		return nil, err
	}
	product, err := lab.Product(ctx, dir)
	if err != nil {
		return nil, err
	}
	r, err := measureCycles(ctx, lab, o, vm.Config{Suite: o.suite, Dir: dir, Files: product}, log)
	if err != nil {
		return nil, err
	}
	r.boots, err = measureBoots(ctx, lab, o.suite, product, o.boots, log)
	return r, err
}

// measureCycles starts a guest and measures all ways to bring a disk up to date in it.
func measureCycles(ctx context.Context, lab *vm.Lab, o options, c vm.Config, log func(string, ...any)) (_ *results, err error) {
	if err := addDisks(&c, o.limit); err != nil {
		return nil, err
	}
	log("starting a guest of %s", o.suite)
	v, err := lab.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nconsole:\n%s", err, v.Console())
		}
		err = errors.Join(err, v.Close())
	}()
	log("Linux %s is up; making array and clone", v.Release())
	g := &guest{VM: v, next: edge}
	if _, err := g.script(ctx, setUp); err != nil {
		return nil, fmt.Errorf("set up: %w", err)
	}
	r := &results{options: o, release: v.Release(), samples: map[key][]sample{}}
	for range o.rounds {
		for _, mib := range changes {
			for _, w := range ways {
				s, err := g.measure(ctx, w, mib)
				if err != nil {
					return nil, fmt.Errorf("%s, %d MiB changed: %w", w.name, mib, err)
				}
				log("%s, %d MiB changed: %.2f s", w.name, mib, s.seconds)
				r.add(w, mib, s)
			}
		}
	}
	return r, v.PowerOff(ctx)
}

// addDisks adds the primaries vda and vdb, the clone vdc and the plain copy vdd. With a limit, in MiB/s, the last two are
// written no faster: like a USB drive beside the disks of the machine.
func addDisks(c *vm.Config, limit int) error {
	for _, name := range []string{"primary-1", "primary-2", "clone", "copy"} {
		d, err := vm.NewDisk(c.Dir, name, diskSize<<20)
		if err == nil {
			err = fill(d.Path)
		}
		if err != nil {
			return err
		}
		if limit > 0 && !strings.HasPrefix(name, "primary") {
			c.QEMU = append(c.QEMU, "-object", fmt.Sprintf("throttle-group,id=%s-limit,x-bps-write=%d", name, limit<<20))
			d.Block = map[string]any{
				"driver": "throttle", "throttle-group": name + "-limit",
				"file": map[string]any{"driver": "file", "filename": d.Path},
			}
		}
		c.Disks = append(c.Disks, d)
	}
	return nil
}

// fill writes a whole disk: nothing that is measured is to pay for space that the host has not allocated yet.
func fill(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	block := bytes.Repeat([]byte{0xff}, 1<<20)
	for range diskSize {
		if _, err := f.Write(block); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
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
	s.stdout, err = g.script(ctx, w.do)
	s.seconds = time.Since(start).Seconds()
	if err != nil {
		return s, err
	}
	after, err := g.written(ctx, w.disk)
	if err != nil {
		return s, err
	}
	s.written = after - before
	if w.parts != nil {
		if s.parts, err = w.parts(s); err != nil {
			return s, err
		}
	}
	_, err = g.script(ctx, w.after)
	return s, err
}

// change writes mib MiB behind the last change, and returns the bytes that the bitmap names then. A plain copy does not
// care and leaves the bitmap as it is: for it, those are what would have been written.
func (g *guest) change(ctx context.Context, w way, mib int) (dirty float64, err error) {
	if w.top == "" {
		_, err = g.script(ctx, quiet)
		return float64(mib << 20), err
	}
	if g.next+mib > diskSize-edge {
		g.next = edge
	}
	write := fmt.Sprintf("%s\ndd if=/dev/urandom of=%s bs=1M count=%d seek=%d oflag=direct status=none", w.before, w.top, mib, g.next)
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

// script runs a bash script, of which every command must succeed, and returns its stdout.
func (g *guest) script(ctx context.Context, text string) (string, error) {
	r, err := g.Run(ctx, "bash", "-euo", "pipefail", "-c", text)
	if err != nil {
		return "", err
	}
	return r.Stdout, r.Err()
}
