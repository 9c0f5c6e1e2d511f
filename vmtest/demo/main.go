// Command demo shows a newcomer the whole job on a real Debian machine in QEMU: root on LVM on RAID1, pinned at boot, a
// clone adopted, unplugged, and brought up to date while the machine runs. Everything lives in a folder that is removed at
// the end; what is built once stays in the cache (MDCLONE_CACHE). The host's own disks are never touched.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"mdclone/pkg/clone"
	"mdclone/pkg/report"
	"mdclone/vmtest/vm"
)

const (
	suite    = "bookworm"
	pinKB    = "512"
	patience = 30 * time.Minute // many times what it takes
)

func main() { os.Exit(run(os.Stdout, os.Stderr)) }

func run(stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d := &demo{ctx: ctx, out: stdout, start: time.Now()}
	dir, err := os.MkdirTemp("", "mdclone-demo")
	if err == nil {
		d.dir = dir
		err = errors.Join(d.show(), d.end(), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintf(stderr, "demo: error: %v\n", err)
		return 1
	}
	return 0
}

// demo is one run.
type demo struct {
	ctx   context.Context
	out   io.Writer
	dir   string
	start time.Time
	lab   *vm.Lab
	conf  vm.Config
	vm    *vm.VM
	steps int
}

func (d *demo) step(what string) {
	d.steps++
	fmt.Fprintf(d.out, "\n%d. %s   [%s]\n", d.steps, what, time.Since(d.start).Round(time.Second))
}

// user runs a command in the machine as its user would, and shows both.
func (d *demo) user(command string) error {
	fmt.Fprintf(d.out, "   # %s\n", command)
	r, err := d.vm.Sh(d.ctx, command)
	if err != nil {
		return err
	}
	for _, line := range strings.Split(strings.TrimSpace(r.Stdout+r.Stderr), "\n") {
		if line != "" {
			fmt.Fprintf(d.out, "   %s\n", line)
		}
	}
	return r.Err()
}

func (d *demo) show() error {
	for _, part := range []func() error{d.boot, d.adopt, d.unplug, d.backup, d.compare, d.offline} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// end switches the machine off, and shows its console if anything went wrong.
func (d *demo) end() error {
	if d.vm == nil {
		return nil
	}
	return d.vm.Close()
}

func (d *demo) boot() error {
	d.step("Building a Debian 12 machine, root on LVM on RAID1, with mdclone installed (once; kept in the cache)")
	var err error
	d.lab, err = vm.NewLab(d.ctx, func(format string, args ...any) {
		if line := fmt.Sprintf(format, args...); strings.HasPrefix(line, "build") {
			fmt.Fprintf(d.out, "   %s\n", line)
		}
	})
	if err != nil {
		return err
	}
	files, err := d.lab.Product(d.ctx, d.dir)
	if err != nil {
		return err
	}
	conf := "array = " + vm.MachineArray + "\nmax-sectors-kb = " + pinKB + "\n"
	base, err := d.lab.Machine(d.ctx, suite, append(files, vm.File{Path: "/etc/mdclone/root.conf", Data: []byte(conf)})...)
	if err != nil {
		return err
	}
	d.step("Booting it (emulated, so slower than yours). Its initramfs pins the array before LVM starts")
	if d.conf, err = base.Config(d.ctx, d.dir); err != nil {
		return err
	}
	if d.vm, err = d.lab.Start(d.ctx, d.conf); err != nil {
		return err
	}
	return d.user("grep . /sys/block/md0/queue/max_sectors_kb /sys/block/dm-0/queue/max_sectors_kb; findmnt -no SOURCE /; sed -n 2,3p /proc/mdstat")
}

func (d *demo) adopt() error {
	d.step("A new drive is plugged in and becomes the clone: one slot more, one full copy")
	if err := d.plugNew(); err != nil {
		return err
	}
	if err := d.user("mdclone-early adopt root /dev/vdc --chunk 1M"); err != nil {
		return err
	}
	return d.user("mdclone-gen install --update-initramfs=never && mdclone-early detach")
}

func (d *demo) plugNew() error {
	disk, err := vm.NewDisk(d.dir, "clone", vm.MachineDisk)
	if err != nil {
		return err
	}
	_, err = d.vm.Plug(d.ctx, disk)
	return err
}

func (d *demo) unplug() error {
	d.step("It is unplugged, and the machine goes on: 16 MiB change, the bitmap remembers where")
	if err := d.vm.Unplug(d.ctx, "clone"); err != nil {
		return err
	}
	if err := d.user("dd if=/dev/urandom of=/var/data bs=1M count=16 conv=fsync status=none"); err != nil {
		return err
	}
	return d.user("mdclone-early status")
}

func (d *demo) backup() error {
	d.step("The main job: plug it in, one command, unplug it. The machine keeps running")
	if _, err := d.vm.Plug(d.ctx, vm.Disk{Serial: "clone", Path: d.dir + "/clone.img"}); err != nil {
		return err
	}
	const command = "mdclone-early backup --json"
	r, err := d.vm.Run(d.ctx, "mdclone-early", "backup", "--json")
	if err != nil {
		return err
	}
	var got clone.Result
	if err := errors.Join(r.Err(), json.Unmarshal([]byte(r.Stdout), &got)); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "   # %s\n", command)
	s := got.Seconds
	fmt.Fprintf(d.out, "   %s: %s copied for %s changed (a full copy: %s)\n", got.Result, report.Bytes(got.CopiedBytes),
		report.Bytes(got.DirtyBytes), report.Bytes(vm.MachineDisk))
	fmt.Fprintf(d.out, "   %.1f s: sync %.1f, settle %.1f, compare %.1f, detach %.1f\n", s.Total, s.Sync, s.Settle, s.Verify, s.Detach)
	return d.vm.Unplug(d.ctx, "clone")
}

func (d *demo) compare() error {
	d.step("Proof: plugged in once more, and every sector of it compared with the array by the kernel")
	if _, err := d.vm.Plug(d.ctx, vm.Disk{Serial: "clone", Path: d.dir + "/clone.img"}); err != nil {
		return err
	}
	return d.user("mdclone-early backup --verify full && mdclone-early status")
}

// offline boots the machine anew. What its boot image would hold after "mdclone-gen install", and the ledger that vouches for
// the clone, is laid over the image: making it anew takes minutes in an emulated machine.
func (d *demo) offline() error {
	d.step("Offline: 16 MiB change, and the machine is started with mdclone=backup, the clone plugged in")
	if err := d.user("dd if=/dev/urandom of=/var/data bs=1M count=16 conv=fsync status=none"); err != nil {
		return err
	}
	r, err := d.vm.Sh(d.ctx, "ls /etc/mdclone/root.conf /usr/lib/udev/rules.d/63-mdclone.rules /var/lib/mdclone/ledger/*")
	if err != nil {
		return err
	}
	c := d.conf
	for _, name := range strings.Fields(r.Stdout) {
		text, err := d.vm.ReadFile(d.ctx, name)
		if err != nil {
			return err
		}
		c.Files = append(c.Files, vm.File{Path: name, Data: text})
	}
	if err := errors.Join(r.Err(), d.vm.PowerOff(d.ctx)); err != nil {
		return err
	}
	c.Args = append(c.Args, "quiet", "mdclone=backup")
	c.Disks = append(c.Disks, vm.Disk{Serial: "clone", Path: d.dir + "/clone.img"})
	if d.vm, err = d.lab.Start(d.ctx, c); err != nil {
		return err
	}
	fmt.Fprintln(d.out, "   the console, before LVM:")
	for _, line := range strings.Split(d.vm.Console(), "\n") {
		if strings.Contains(line, "mdclone: ") && !strings.Contains(line, "%") {
			fmt.Fprintf(d.out, "   %s\n", line[strings.Index(line, "mdclone: "):])
		}
	}
	if err := d.user("systemctl start mdclone-report; tail -n 1 /var/lib/mdclone/history.jsonl; mdclone-early status"); err != nil {
		return err
	}
	r, err = d.vm.Sh(d.ctx, `grep -q '"result": "done"' /run/mdclone/reported-boot.json`)
	if err = errors.Join(err, r.Err()); err != nil {
		return fmt.Errorf("no clone was made at the boot: %w", err)
	}
	fmt.Fprintf(d.out, "\nDone in %s. Nothing is left behind but the cache.\n", time.Since(d.start).Round(time.Second))
	return nil
}
