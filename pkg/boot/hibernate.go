package boot

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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

// sleeper is the first device that can be seen with an image of a sleeping system, or "". Such a system goes on with the
// array as it had it in memory: whatever is written to the array before that destroys it.
func (b *Boot) sleeper() (string, error) {
	names, err := b.FS.List("class/block")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		for _, prefix := range []string{"md", "dm-", "ram", "zram", "sr", "fd", "loop"} {
			if strings.HasPrefix(name, prefix) {
				name = ""
			}
		}
		if name == "" {
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
	return "", nil
}

// noResume has initramfs-tools leave a sleeping system alone whose image is on the array itself, where it cannot be seen
// before the array's volumes are: the file is read by the boot's script after each step (scripts/functions,
// initramfs-tools 0.142). Other initramfs have no such file, and resume before this. undo takes that
// back, where the array was not changed after all.
func (b *Boot) noResume() (undo func() error, err error) {
	const conf = "conf"
	nothing := func() error { return nil }
	if _, err := os.Stat(filepath.Join(b.Root, conf)); errors.Is(err, fs.ErrNotExist) {
		return nothing, nil
	}
	path := filepath.Join(b.Root, conf, "param.conf")
	was, err := os.ReadFile(path)
	undo = func() error { return os.WriteFile(path, was, 0o644) }
	if errors.Is(err, fs.ErrNotExist) {
		undo, err = func() error { return os.Remove(path) }, nil
	}
	if err != nil {
		return nothing, err
	}
	return undo, appendTo(path, "resume=\nnoresume=y\n")
}
