package md

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mdclone/pkg/sysfs"
)

// Found is a block device with md metadata that can be read.
type Found struct {
	Name   string // kernel name
	Path   string // node
	Member *Member
}

// Scan reads the superblock of every block device that could be a member. Devices without md metadata, empty drives and
// those that something else is stacked on (dm-multipath over sda: the upper one counts) are left out, suspended dm devices too. A device that
// cannot be read is left out too and its error is in errs by name.
func Scan(f sysfs.FS) (found []Found, errs map[string]error, err error) {
	names, err := f.List("class/block")
	if err != nil {
		return nil, nil, err
	}
	errs = map[string]error{}
	for _, n := range names {
		if !couldBeMember(f, n) {
			continue
		}
		m, err := ReadDevice(NodePath(n))
		switch {
		case errors.Is(err, ErrNoSuperblock):
		case err != nil:
			errs[n] = err
		default:
			found = append(found, Found{Name: n, Path: NodePath(n), Member: m})
		}
	}
	return found, errs, nil
}

func couldBeMember(f sysfs.FS, name string) bool {
	for _, prefix := range []string{"md", "ram", "zram", "sr", "fd"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	if size, err := f.Uint("class/block", name, "size"); err != nil || size == 0 {
		return false
	}
	if suspended, err := f.Read("class/block", name, "dm/suspended"); err == nil && suspended != "0" {
		return false // a read would wait for whoever suspended it, and cannot be killed
	}
	holders, err := f.List("class/block", name, "holders")
	if err != nil {
		return false
	}
	for _, h := range holders {
		if !strings.HasPrefix(h, "md") {
			return false
		}
	}
	return true
}

// KernelName is the kernel's name of the block device that a node is, whatever the node is called
// ("/dev/disk/by-id/x" is "sda", "/dev/mapper/x" is "dm-0").
func KernelName(f sysfs.FS, path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s is not a block device", path)
	}
	link := f.Path("dev/block", fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	target, err := os.Readlink(link)
	if err != nil {
		return "", err
	}
	return filepath.Base(target), nil
}
