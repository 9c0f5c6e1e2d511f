package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The lists of modules to load, one a line: paths of uncompressed modules, dependencies first, and names for modprobe.
const (
	orderFile = "/mods/order"
	moreFile  = "/mods/more"
)

// bringUp is process 1 of a bare guest. It returns only if there is nothing to live for, and then the kernel panics,
// which ends the virtual machine.
func bringUp(log io.Writer) error {
	if err := mountAll(); err != nil {
		return err
	}
	os.Clearenv()
	for k, v := range map[string]string{
		"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb",
		"DM_DISABLE_UDEV": "1", // there is no udev: libdevmapper makes the nodes itself
	} {
		if err := os.Setenv(k, v); err != nil {
			return fmt.Errorf("set up the environment: %w", err)
		}
	}
	if err := loadModules(log); err != nil {
		return err
	}
	server := exec.Command("/proc/self/exe")
	server.Stdout, server.Stderr = os.Stdout, os.Stderr
	if err := server.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	return reap(server.Process.Pid)
}

// reap collects every child, orphans of others too, until server ends. The server is a process of its own so that this
// never takes an exit status that a command's own parent waits for.
func reap(server int) error {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for children: %w", err)
		case pid == server:
			return fmt.Errorf("the server ended: status %#x", uint32(status))
		}
	}
}

func mountAll() error {
	for _, m := range []struct{ fs, dir string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"devtmpfs", "/dev"},
		{"devpts", "/dev/pts"},
		{"tmpfs", "/dev/shm"},
		{"tmpfs", "/run"},
		{"tmpfs", "/tmp"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		// EBUSY: the kernel has mounted devtmpfs by itself.
		if err := unix.Mount(m.fs, m.dir, m.fs, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s on %s: %w", m.fs, m.dir, err)
		}
	}
	for _, dir := range []string{"/run/lock", "/run/mdadm", "/run/lvm", "/dev/md", "/mnt", "/root"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// loadModules loads what the lists name, in their order. A module that is there already or finds no hardware is no
// failure; of another one the console tells, since the test that needs it will fail with less to go by.
func loadModules(log io.Writer) error {
	order, err := readLines(orderFile)
	if err != nil {
		return err
	}
	for _, path := range order {
		err := loadModule(path)
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			fmt.Fprintf(log, "agent: load module %s: %v\n", filepath.Base(path), err)
		}
	}
	more, err := readLines(moreFile)
	if err != nil || len(more) == 0 {
		return err
	}
	if out, err := exec.Command("modprobe", append([]string{"-a"}, more...)...).CombinedOutput(); err != nil {
		fmt.Fprintf(log, "agent: load modules %s: %v: %s\n", strings.Join(more, ", "), err, out)
	}
	return nil
}

func readLines(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the list of modules: %w", err)
	}
	return strings.Fields(string(text)), nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
