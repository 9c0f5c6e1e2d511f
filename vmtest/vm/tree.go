package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// packages are what the bare guests are cut out of.
var packages = []string{
	"bash", "btrfs-progs", "busybox-static", "coreutils", "cryptsetup-bin", "dmsetup", "e2fsprogs", "fdisk", "fio", "kmod",
	"linux-image-amd64", "lvm2", "mdadm", "mount", "tar", "util-linux", "xfsprogs",
}

// debootstrap makes a root of suite with mmdebstrap: a directory, or a tar archive if target ends in .tar.
func (l *Lab) debootstrap(ctx context.Context, suite, variant string, include []string, target string, more ...string) error {
	args := []string{
		"--quiet", "--variant=" + variant, "--include=" + strings.Join(include, ","),
		// The machine's sources may be a frozen snapshot, whose Release files are past their date.
		`--aptopt=Acquire::Check-Valid-Until "false"`, "--skip=check/signed-by,check/empty",
	}
	args = append(args, more...)
	args = append(args, suite, target, fmt.Sprintf("deb [signed-by=%s] %s %s main", l.source.Keyring, l.source.Mirror, suite))
	_, err := output(ctx, "mmdebstrap", args...)
	return err
}

// tree returns a directory with the files of packages, of suite, not configured.
func (l *Lab) tree(ctx context.Context, suite string) (string, error) {
	return l.entry(ctx, "tree-"+suite, key(packages), func(dir string) error {
		return l.debootstrap(ctx, suite, "extract", packages, dir)
	})
}

// find returns the path inside tree of the first of paths that exists, following a last symbolic link as if tree were
// the root.
func find(tree string, paths ...string) (found, real string, err error) {
	for _, p := range paths {
		found = p
		for range 10 {
			info, err := os.Lstat(filepath.Join(tree, p))
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err != nil {
				return "", "", err
			}
			if info.Mode()&os.ModeSymlink == 0 {
				return found, p, nil
			}
			to, err := os.Readlink(filepath.Join(tree, p))
			if err != nil {
				return "", "", err
			}
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir("/"+p), to)
			}
			p = strings.TrimPrefix(filepath.Clean(to), "/")
		}
	}
	return "", "", fmt.Errorf("find %s in %s: %w", strings.Join(paths, " or "), tree, os.ErrNotExist)
}

// merged is p on a system where /bin, /sbin and /lib are links into /usr, which a guest's root is and a tree need not be.
func merged(p string) string {
	p = strings.TrimPrefix(filepath.Clean("/"+p), "/")
	for _, top := range []string{"bin", "sbin", "lib", "lib64"} {
		if p == top || strings.HasPrefix(p, top+"/") {
			return "usr/" + p
		}
	}
	return p
}
