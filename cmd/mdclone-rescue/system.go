package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/kmodule"
	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/interp"
)

// exitStatus is an exit status without words.
func exitStatus(n uint8) error { return interp.ExitStatus(n) }

// dmesg prints the kernel's log.
func dmesg(s streams, _ []string) error {
	const readAll, sizeBuffer = 3, 10 // syslog(2)
	n, err := unix.Klogctl(sizeBuffer, nil)
	if err != nil {
		return err
	}
	buf := make([]byte, n)
	if n, err = unix.Klogctl(readAll, buf); err != nil {
		return err
	}
	_, err = s.out.Write(buf[:n])
	return err
}

// probe loads a module and what it depends on.
func probe(name, params string) error { return kmodule.Probe(name, params) }

// modprobe [-r] [-q] [--] MODULE [PARAMETER...]. The kernel calls it too, for aliases, of which there is no list here.
func modprobe(s streams, args []string) error {
	quiet, remove := false, false
	for ; len(args) > 0 && strings.HasPrefix(args[0], "-"); args = args[1:] {
		quiet = quiet || args[0] == "-q"
		remove = remove || args[0] == "-r"
	}
	if len(args) == 0 {
		return usage("modprobe [-q] [-r] MODULE [PARAMETER...]")
	}
	if remove {
		return rmmod(s, args)
	}
	err := probe(args[0], strings.Join(args[1:], " "))
	if err != nil && quiet {
		return exitStatus(1)
	}
	return err
}

func insmod(_ streams, args []string) error {
	if len(args) == 0 {
		return usage("insmod FILE [PARAMETER...]")
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	return kmodule.FileInit(f, strings.Join(args[1:], " "), 0)
}

func rmmod(_ streams, args []string) error {
	var errs []error
	for _, name := range args {
		if err := kmodule.Delete(name, unix.O_NONBLOCK); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func lsmod(s streams, _ []string) error {
	return opened(s, []string{"/proc/modules"}, func(_ string, r io.Reader) error {
		return lines(r, func(line string) bool {
			if f := strings.Fields(line); len(f) > 3 {
				fmt.Fprintf(s.out, "%-24s %8s  %s %s\n", f[0], f[1], f[2], strings.TrimSuffix(strings.TrimPrefix(f[3], "-"), ","))
			}
			return true
		})
	})
}

// mountTool mounts a file system, read-only unless -w is given: nothing above the arrays is to be written by mistake.
func mountTool(s streams, args []string) error {
	how := "mount [-w] [-t TYPE] [-o DATA] DEVICE FOLDER; it is read-only without -w"
	if len(args) == 0 {
		return opened(s, []string{"/proc/self/mounts"}, func(_ string, r io.Reader) error {
			_, err := io.Copy(s.out, r)
			return err
		})
	}
	var kind, data string
	flags := uintptr(unix.MS_RDONLY)
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch {
		case args[0] == "-w":
			flags, args = 0, args[1:]
		case args[0] == "-t" && len(args) > 1:
			kind, args = args[1], args[2:]
		case args[0] == "-o" && len(args) > 1:
			data, args = args[1], args[2:]
		default:
			return usage(how)
		}
	}
	if len(args) != 2 {
		return usage(how)
	}
	still := stillOptions()
	mounts := func(kind string) error {
		options := data
		if flags != 0 && still[kind] != "" {
			options = strings.TrimPrefix(data+","+still[kind], ",")
		}
		_, err := mount.Mount(args[0], args[1], kind, options, flags)
		return err
	}
	if kind != "" {
		return mounts(kind)
	}
	if flags != 0 { // before one of them is tried as the others are
		for _, kind := range slices.Sorted(maps.Keys(still)) {
			if mounts(kind) == nil {
				return nil
			}
		}
	}
	_, err := mount.TryMount(args[0], args[1], data, flags)
	return err
}

// stillOptions are of file systems that write their journal back even where they are mounted read-only: that they do not.
func stillOptions() map[string]string {
	return map[string]string{"ext3": "noload", "ext4": "noload", "xfs": "norecovery", "btrfs": "rescue=nologreplay", "f2fs": "norecovery"}
}

func umount(_ streams, args []string) error {
	if len(args) == 0 {
		return usage("umount FOLDER...")
	}
	var errs []error
	for _, dir := range args {
		errs = append(errs, mount.Unmount(dir, false, false))
	}
	return errors.Join(errs...)
}

// ps lists processes but for the kernel's own.
func ps(s streams, _ []string) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(cmdline) == 0 { // it has ended, or is the kernel's
			continue
		}
		fmt.Fprintf(s.out, "%6s  %s\n", filepath.Base(dir), strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " ")))
	}
	return nil
}

// kill [-N | -NAME] PID...
func kill(_ streams, args []string) error {
	how, signal := "kill [-SIGNAL] PID...", unix.SIGTERM
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		text := strings.ToUpper(args[0][1:])
		if n, err := strconv.Atoi(text); err == nil {
			signal = unix.Signal(n)
		} else if signal = unix.SignalNum("SIG" + strings.TrimPrefix(text, "SIG")); signal == 0 {
			return usage(how)
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return usage(how)
	}
	var errs []error
	for _, arg := range args {
		pid, err := strconv.Atoi(arg)
		if err == nil {
			err = unix.Kill(pid, signal)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", arg, err))
		}
	}
	return errors.Join(errs...)
}

func sleep(_ streams, args []string) error {
	if len(args) != 1 {
		return usage("sleep SECONDS")
	}
	seconds, err := strconv.ParseFloat(args[0], 64)
	if err != nil || seconds < 0 {
		return usage("sleep SECONDS")
	}
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	return nil
}

func syncTool(streams, []string) error {
	unix.Sync()
	return nil
}

func uname(s streams, _ []string) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.out, unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Nodename[:]),
		unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]))
	return err
}
