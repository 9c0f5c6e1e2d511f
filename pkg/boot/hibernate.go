package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mdclone/pkg/md"
)

// swapSignatures are those of a swap area that holds an image of the sleeping system (kernel/power/swap.c, Linux 6.12,
// and the user space tools for it). They end the area's first page.
var swapSignatures = []string{"S1SUSPEND", "S2SUSPEND", "ULSUSPEND", "LINHIB0001"}

// asleep tells whether a swap area's first page says that a system sleeps in it.
func asleep(page []byte) bool {
	const length = 10
	if len(page) < length {
		return false
	}
	end := page[len(page)-length:]
	for _, s := range swapSignatures {
		if bytes.HasPrefix(end, []byte(s)) {
			return true
		}
	}
	return false
}

// neverAsleep tells whether a device by that name holds no swap area that outlasts the machine, or one that is another's.
func neverAsleep(name string) bool {
	return slices.ContainsFunc([]string{"ram", "zram", "sr", "fd", "loop"}, func(kind string) bool { return strings.HasPrefix(name, kind) })
}

// sleeper is the first device that can be seen with an image of a sleeping system, or "". Such a system goes on with the
// array as it had it in memory: whatever is written to the array before that destroys it. What is on an array is looked at
// once the machine runs only. md.ErrSilent is the error where none is seen and a disk does not answer, which may have one.
func (b *Boot) sleeper() (device string, err error) {
	var silent error
	names, err := b.FS.List("class/block")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		stacked := strings.HasPrefix(name, "md") || strings.HasPrefix(name, "dm-")
		if stacked && b.stage != Report || neverAsleep(name) {
			continue
		}
		if !b.scanner().Answers(name) {
			silent = fmt.Errorf("%s: %w", name, md.ErrSilent)
			continue
		}
		page := md.AlignedBuffer(os.Getpagesize())
		d, err := md.OpenDisk(md.NodePath(name), unix.O_RDONLY)
		if err != nil {
			continue // gone, or empty
		}
		err = d.ReadAligned(page, 0)
		_ = d.Close()
		if err == nil && asleep(page) {
			return md.NodePath(name), nil
		}
	}
	return "", silent
}

// noResume has the initramfs leave a sleeping system alone whose image is on the array itself, where it cannot be seen before
// the array's volumes are. initramfs-tools reads a file after each step of the boot (scripts/functions, 0.142); where systemd
// runs the initramfs, as dracut's, the unit that waits for the image's device has a condition of ours; dracut without systemd
// has files of its own. Others resume before this. undo takes it back, where the array was not changed after all.
func (b *Boot) noResume(ctx context.Context) (undo func() error, err error) {
	switch {
	case exists(filepath.Join(b.Root, "conf")):
		return b.setNoResume(filepath.Join(b.Root, "conf/param.conf"))
	case exists(filepath.Join(b.Root, "run/systemd/system")):
		return func() error { return os.Remove(b.file(noResume)) }, b.mark(noResume, "")
	}
	return b.setResumeAside(ctx)
}

// noResume is the mark that ends the resuming, a condition of systemd-hibernate-resume.service (hooks/dracut).
const noResume = "no-resume"

// setResumeAside takes dracut's files away (95resume/parse-resume.sh, 106): the rule that resumes as soon as an image is seen,
// and the name of the device that is tried once more before anything is mounted.
func (b *Boot) setResumeAside(ctx context.Context) (undo func() error, err error) {
	const aside = ".mdclone"
	var moved []string
	reload := func() error {
		if len(moved) == 0 {
			return nil
		}
		if out, err := b.Run(ctx, "udevadm", "control", "--reload"); err != nil {
			return fmt.Errorf("udevadm control --reload: %w: %s", err, out)
		}
		return nil
	}
	undo = func() error {
		var errs []error
		for _, path := range moved {
			errs = append(errs, os.Rename(path+aside, path))
		}
		return errors.Join(append(errs, reload())...)
	}
	for _, name := range []string{"etc/udev/rules.d/99-resume.rules", ".resume"} {
		path := filepath.Join(b.Root, name)
		err := os.Rename(path, path+aside)
		if err == nil {
			moved = append(moved, path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return undo, err
		}
	}
	return undo, reload()
}

func (b *Boot) setNoResume(path string) (undo func() error, err error) {
	was, err := os.ReadFile(path)
	undo = func() error { return os.WriteFile(path, was, 0o644) }
	if errors.Is(err, fs.ErrNotExist) {
		undo, err = func() error { return os.Remove(path) }, nil
	}
	if err != nil {
		return func() error { return nil }, err
	}
	return undo, appendTo(path, "resume=\nnoresume=y\n")
}
