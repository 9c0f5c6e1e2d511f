package boot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// claimMark is followed by a clone's device UUID: its file has the process that holds the clone, and the clone's kernel
// name.
const claimMark = "claim-"

// claim has a process hold the clone open exclusively, so that mdadm leaves it alone whatever is asked of it. It ends with
// the initramfs. The descriptor must be that process's alone: two openers would be one too many when it is dropped.
func (b *Boot) claim(conf config.Array, c Drive) error {
	name := claimMark + c.Super.Device.Dashed()
	pid, drive, err := b.holder(name)
	switch known := err == nil; {
	case known && pid > 0 && b.FS.Exists("class/block", drive):
		return nil
	case known && pid > 0: // the drive is back under another name, and what is held is gone
		_ = unix.Kill(pid, unix.SIGKILL)
	case known && drive == c.Name && b.stage == stageStart: // somebody let it go, and works on it: events are of that
		return nil
	}
	path := md.NodePath(c.Name)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("hold the clone %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	cmd := exec.Command("/proc/self/exe", Command, stageHold, c.Name)
	cmd.Args[0] = "mdclone-early" // as others see it
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("hold the clone %s: %w", path, err)
	}
	b.Log.Infof("the clone of array %s, %s, is kept out of it (to let it go: kill %d)", conf.Name, path, cmd.Process.Pid)
	return errors.Join(b.mark(name, fmt.Sprintf("%d %s\n", cmd.Process.Pid, c.Name)), cmd.Process.Release())
}

// hold is the process that holds a clone: until the initramfs is removed, whoever forgets to end it. In the running system
// it would be in the way of the next backup.
func (b *Boot) hold() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("hold: inotify: %w", err)
	}
	defer unix.Close(fd)
	mark := filepath.Join(b.Root, config.EarlyMark)
	if _, err := unix.InotifyAddWatch(fd, mark, unix.IN_DELETE_SELF); err != nil {
		return fmt.Errorf("hold: watch %s: %w", mark, err)
	}
	buf := make([]byte, unix.SizeofInotifyEvent+unix.NAME_MAX+1)
	for {
		if _, err := unix.Read(fd, buf); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// holder is the process that holds a clone, and the clone's kernel name; 0 if it lives no more.
func (b *Boot) holder(name string) (pid int, drive string, err error) {
	text, err := os.ReadFile(b.file(name))
	if err != nil {
		return 0, "", err
	}
	if _, err := fmt.Sscan(string(text), &pid, &drive); err != nil {
		return 0, "", fmt.Errorf("read %s: %w", b.file(name), err)
	}
	// the number may be another process's by now
	cmdline, err := os.ReadFile(filepath.Join(b.Root, "proc", strconv.Itoa(pid), "cmdline"))
	if errors.Is(err, os.ErrNotExist) || err == nil && !strings.Contains(string(cmdline), "\x00"+stageHold+"\x00") {
		return 0, drive, nil
	}
	return pid, drive, err
}

// dropAtMost bounds how long the end of a process is waited for.
const dropAtMost = 10 * time.Second

// drop ends a claim and sees that it has ended.
func (b *Boot) drop(u md.UUID) error {
	name := claimMark + u.Dashed()
	pid, drive, err := b.holder(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if pid > 0 {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("let %s go: %w", drive, err)
		}
	}
	path := md.NodePath(drive)
	for end := time.Now().Add(dropAtMost); ; {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			_ = unix.Close(fd)
			break
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) { // unplugged
			break
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR) || time.Now().After(end) {
			return fmt.Errorf("let %s go: %w", drive, err)
		}
		time.Sleep(5 * time.Millisecond) // the last close of a device is not announced
	}
	return os.Remove(b.file(name))
}

// dropAll ends all claims.
func (b *Boot) dropAll() error {
	marks, err := filepath.Glob(b.file(claimMark + "*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range marks {
		u, err := md.ParseUUID(strings.TrimPrefix(filepath.Base(m), claimMark))
		if err == nil {
			err = b.drop(u)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
