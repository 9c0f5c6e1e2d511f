package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/report"
)

// restEach is a pause before a menu that has ended is shown again: its console may be gone, and end each at once.
const restEach = 500 * time.Millisecond

// initialize is what the first process does: it waits for processes, and all else is done by others. It does not end, as
// the kernel would panic.
func initialize(log report.Log) {
	// nor does a signal end it, which a Go program would else die of; ignored ones would be so for all others too
	signal.Notify(make(chan os.Signal, 1))
	log.Fail(errors.Join(mounts(), environment(), install("/")))
	r := reaper{log: log}
	if p, err := r.start(prepareName, "/dev/console", prepareName); err != nil {
		log.Fail(err)
	} else {
		r.wait(func() bool { return r.ended[p] })
	}
	menus, without := map[string]int{}, map[string]bool{}
	for ; ; time.Sleep(restEach) {
		for _, tty := range due(terminals("/"), menus, r.ended) {
			delete(menus, tty)
			if pid, err := r.start(menuName, tty, menuName, filepath.Base(tty)); err == nil {
				menus[tty] = pid
			} else if !without[tty] { // a console that is not there; the others are
				log.Fail(err)
				without[tty] = true
			}
		}
		n := len(r.ended)
		r.wait(func() bool { return len(r.ended) > n })
	}
}

// due are the terminals on which no menu runs; menus has the process of each, ended those that have.
func due(terminals []string, menus map[string]int, ended map[int]bool) []string {
	var out []string
	for _, tty := range terminals {
		if pid, ok := menus[tty]; !ok || ended[pid] {
			out = append(out, tty)
		}
	}
	return out
}

// mounts makes the file systems of the kernel's.
func mounts() error {
	var errs []error
	for _, m := range []struct{ dev, dir, data string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", "mode=0755"},
		{"tmpfs", "/run", "mode=0755"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		if _, err := mount.Mount(m.dev, m.dir, m.dev, m.data, 0); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func environment() error {
	return errors.Join(
		os.MkdirAll("/tmp", 0o1777), os.Setenv("PATH", "/usr/sbin:/usr/bin"), os.Setenv("HOME", "/"), os.Setenv("TERM", "linux"),
		// what drivers say is for dmesg; the menu is on the same consoles
		os.WriteFile("/proc/sys/kernel/printk", []byte("4"), 0o644))
}

// install puts the tools there, by their names.
func install(root string) error {
	bin := filepath.Join(root, "usr/bin")
	errs := []error{os.MkdirAll(bin, 0o755)}
	for _, name := range slices.Sorted(maps.Keys(tools())) {
		dir := bin
		if name == "modprobe" { // the kernel's name for it, /sbin/modprobe
			dir = filepath.Join(root, "usr/sbin")
		}
		err := os.Symlink("/"+config.RescueProgram, filepath.Join(dir, name))
		if !errors.Is(err, fs.ErrExist) { // else a program that is in the image
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// terminals are the consoles that the kernel writes to. A menu needs a terminal that can be a session's, which /dev/tty0,
// whichever is on the screen, cannot be for long.
func terminals(root string) []string {
	text, err := os.ReadFile(filepath.Join(root, "sys/class/tty/console/active"))
	var all []string
	for _, name := range strings.Fields(string(text)) {
		if name == "tty0" {
			name = "tty1"
		}
		if tty := "/dev/" + name; !slices.Contains(all, tty) {
			all = append(all, tty)
		}
	}
	if err != nil || len(all) == 0 {
		return []string{"/dev/console"}
	}
	return all
}

// reaper starts processes and waits for those, and for all that are left to the first process.
type reaper struct {
	log   report.Log
	ended map[int]bool
}

// start has this program, called so, run in a session of its own on a terminal.
func (r *reaper) start(name, tty string, args ...string) (pid int, err error) {
	f, err := os.OpenFile(tty, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()
	p, err := os.StartProcess("/proc/self/exe", append([]string{own}, args...), &os.ProcAttr{
		Dir: "/", Files: []*os.File{f, f, f}, Sys: &syscall.SysProcAttr{Setsid: true, Setctty: tty != "/dev/console", Ctty: 0},
	})
	if err != nil {
		return 0, fmt.Errorf("%s on %s: %w", name, tty, err)
	}
	pid = p.Pid
	delete(r.ended, pid) // another one, earlier
	return pid, p.Release()
}

// wait waits for processes until enough have ended.
func (r *reaper) wait(enough func() bool) {
	if r.ended == nil {
		r.ended = map[int]bool{}
	}
	for !enough() {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		switch {
		case err == nil:
			r.ended[pid] = true
		case errors.Is(err, unix.ECHILD): // not even a menu could be started
			time.Sleep(time.Second)
			return
		case !errors.Is(err, unix.EINTR):
			r.log.Fail(fmt.Errorf("wait: %w", err))
		}
	}
}
