package vm

import (
	"context"
	"fmt"
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
