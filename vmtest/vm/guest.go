package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mdclone/pkg/sysroot"
)

// Image is what a virtual machine boots: a kernel and an initramfs.
type Image struct {
	Kernel string // path
	Initrd string // path
}

// recipe is what a bare guest is made of, beside its packages. A change of it makes a new one.
type recipe struct {
	Version  int
	Programs []string // of the suite's packages; busybox has the rest
	Fio      []string // programs for those who ask for them: fio's libraries are larger than all the rest
	Extra    []string // files
	Eager    []string // modules that the agent loads
	Required []string // modules that modprobe finds, or the kernel by itself
	Wanted   []string // likewise, where the suite's kernel has them
}

var bare = recipe{
	Version: 1,
	Programs: []string{
		"bash", "blkid", "blockdev", "btrfs", "cryptsetup", "dd", "dmsetup", "dumpe2fs", "e2fsck", "findmnt", "flock",
		"fsfreeze", "insmod", "kmod", "losetup", "lsblk", "lsmod", "lvchange", "lvcreate", "lvextend", "lvm", "lvremove", "lvs",
		"mdadm", "mkfs.btrfs", "mkfs.ext4", "mkfs.xfs", "mkswap", "modprobe", "mount", "mke2fs", "pvcreate", "pvresize", "pvs",
		"resize2fs", "rmmod", "sfdisk", "swapoff", "swapon", "tar", "tune2fs", "umount", "vgchange", "vgcreate", "vgremove",
		"vgs", "wipefs", "xfs_db", "xfs_io", "xfs_repair",
	},
	Fio: []string{"fio"},
	// libgcc_s is opened by threads that end early (pthread_exit in libargon2), and named by nobody.
	Extra: []string{"etc/mke2fs.conf", "usr/lib/x86_64-linux-gnu/libgcc_s.so.1:lib/x86_64-linux-gnu/libgcc_s.so.1"},
	Eager: []string{"virtio_pci", "virtio_console", "virtio_blk", "md_mod", "raid1", "dm_mod", "loop"},
	Required: []string{
		"brd", "btrfs", "dm_crypt", "dm_delay", "dm_flakey", "dm_snapshot", "ext4", "nbd", "null_blk", "nvme", "raid10", "scsi_debug", "sd_mod",
		"virtio_scsi", "xfs",
	},
	Wanted: []string{
		"aesni_intel", "af_alg", "algif_hash", "algif_skcipher", "blake2b_generic", "cbc", "crc32c_generic", "crc32c_intel",
		"cryptd", "dm_dust", "dm_integrity", "dm_log_writes", "dm_thin_pool", "essiv", "i6300esb", "libcrc32c", "nls_ascii", "nls_cp437",
		"nls_iso8859_1", "sha256_generic", "sha256_ssse3", "uas", "usb_storage", "vfat", "xhci_pci", "xts", "xxhash_generic",
	},
}

// modprobeConf keeps modules that make devices at once from doing so.
const modprobeConf = "options null_blk nr_devices=0\noptions scsi_debug add_host=0\noptions brd rd_nr=0\noptions nbd nbds_max=1\n"

// Guest returns the bare guest of a Debian suite (bookworm, trixie, sid, ...): its kernel and, in memory, mdadm, LVM and
// the like over busybox. Its init is not in it: it is laid over it at each start.
func (l *Lab) Guest(ctx context.Context, suite string) (Image, error) {
	dir, err := l.entry(ctx, "guest-"+suite, key(packages, bare, modprobeConf), func(dir string) error {
		tree, err := l.tree(ctx, suite)
		if err != nil {
			return err
		}
		return buildGuest(ctx, tree, dir)
	})
	return Image{Kernel: filepath.Join(dir, "kernel"), Initrd: filepath.Join(dir, "base.cpio")}, err
}

// fioLayer is the initramfs to lay over a bare guest's base for fio.
func (i Image) fioLayer() string { return filepath.Join(filepath.Dir(i.Initrd), "fio.cpio") }

func buildGuest(ctx context.Context, tree, dir string) error {
	s := newStage(tree, filepath.Join(dir, "root"))
	for _, sub := range []string{"dev", "etc", "proc", "run", "sys", "tmp", "mnt", "var/lib", "usr/lib64"} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o755); err != nil {
			return err
		}
	}
	for path, to := range map[string]string{
		"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "etc/mtab": "/proc/self/mounts", "var/run": "/run",
	} {
		if err := s.link(to, path); err != nil {
			return err
		}
	}
	if err := s.Programs(bare.Programs...); err != nil {
		return err
	}
	for _, extra := range bare.Extra {
		if err := s.File(strings.Split(extra, ":")...); err != nil {
			return err
		}
	}
	if err := s.busybox(ctx); err != nil {
		return err
	}
	for path, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\ndisk:x:6:\n",
		"etc/modprobe.d/guest.conf": modprobeConf,
	} {
		if err := s.write(path, text); err != nil {
			return err
		}
	}
	m, err := onlyModules(tree)
	if err != nil {
		return err
	}
	if err := s.kernelModules(ctx, m); err != nil {
		return err
	}
	if err := unpackKernel(ctx, tree, m.Release, filepath.Join(dir, "kernel")); err != nil {
		return err
	}
	if err := s.packTo(filepath.Join(dir, "base.cpio")); err != nil {
		return err
	}
	more := newStage(tree, filepath.Join(dir, "more"))
	more.Done = s.Done
	if err := more.Programs(bare.Fio...); err != nil {
		return err
	}
	return more.packTo(filepath.Join(dir, "fio.cpio"))
}

// busybox puts it there under all its names that are not taken by a real program.
func (s *stage) busybox(ctx context.Context) error {
	if err := s.Programs("busybox"); err != nil {
		return err
	}
	_, real, err := sysroot.Find(s.Tree, "usr/bin/busybox", "bin/busybox")
	if err != nil {
		return err
	}
	names, err := output(ctx, filepath.Join(s.Tree, real), "--list")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(names) {
		if _, err := os.Lstat(filepath.Join(s.dir, "usr/sbin", name)); err == nil {
			continue
		}
		if err := s.link("busybox", filepath.Join("usr/bin", name)); err != nil {
			return err
		}
	}
	return nil
}

// kernelModules puts the recipe's modules there, and the list of those that the agent loads.
func (s *stage) kernelModules(ctx context.Context, m *sysroot.Modules) error {
	var order []string
	seen := map[string]bool{}
	put := func(name string, _ []string, image []byte) error {
		path := filepath.Join("usr/lib/modules", m.Release, m.Plain(name))
		order = append(order, "/"+path)
		return s.write(path, string(image))
	}
	if err := m.Visit(bare.Eager, true, seen, put); err != nil {
		return err
	}
	if err := s.write("mods/order", strings.Join(order, "\n")+"\n"); err != nil {
		return err
	}
	if err := m.Visit(bare.Required, true, seen, put); err != nil {
		return err
	}
	if err := m.Visit(bare.Wanted, false, seen, put); err != nil {
		return err
	}
	return copyIndex(ctx, m, s.dir)
}

// onlyModules finds the modules of the only kernel in tree.
func onlyModules(tree string) (*sysroot.Modules, error) {
	releases, err := sysroot.Kernels(tree)
	if err != nil || len(releases) != 1 {
		return nil, fmt.Errorf("find the modules in %s: %d kernels, want 1: %w", tree, len(releases), errors.Join(err))
	}
	return sysroot.ReadModules(tree, releases[0])
}

// copyIndex copies to stage what modprobe needs beside the modules, and makes the rest with depmod.
func copyIndex(ctx context.Context, m *sysroot.Modules, stage string) error {
	for _, name := range []string{"modules.builtin", "modules.builtin.modinfo", "modules.order"} {
		if err := copyFile(filepath.Join(m.Dir, name), filepath.Join(stage, "usr/lib/modules", m.Release, name)); err != nil {
			return err
		}
	}
	_, err := output(ctx, "depmod", "-b", stage, m.Release)
	return err
}

// packTo packs the stage into the file path and removes it.
func (s *stage) packTo(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := s.pack(w); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.RemoveAll(s.dir)
}
