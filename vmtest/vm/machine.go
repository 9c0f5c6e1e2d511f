package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"mdclone/pkg/md"
)

// Machine is an installed Debian system: root on an ext4 file system on the LVM volume vg0-root on the RAID1 /dev/md0,
// whose members are whole disks, without a partition table, if its Layout does not say otherwise. It is never changed: what boots are layers over its disks.
type Machine struct {
	Image   Image  // kernel and initramfs, as its own generator made it
	Rescue  string // the rescue image that mdclone-gen made, "" if there is none
	Release string // of the kernel
	Disks   []Disk // the members, with the serials p1 and p2; then those of a Layer
	Layout  Layout
	Dir     string // where it is in the cache
	Volume  int64  // where the root file system begins on each disk, in bytes
	id      string // of this build
	args    []string
}

// members are the serials of a machine's own disks.
var members = []string{"p1", "p2"}

// CloneSerial is the serial of a machine's clone, where it is made with one.
const CloneSerial = "clone"

// machineArgs are the kernel parameters of a machine, besides those of its Layout.
var machineArgs = []string{
	"ro", "loglevel=4", "systemd.show_status=0", "ipv6.disable=1", "apparmor=0",
}

// Machine returns the machine of a Debian suite, by default with initramfs-tools (see Dracut), with files in it. If they
// include mdclone-gen and a configuration for it, it is run there (`mdclone-gen install --root`), with the machine's own generator. That this happens on the host
// makes no difference to the result, but it takes seconds, and minutes in an emulated machine.
func (l *Lab) Machine(ctx context.Context, system string, files ...File) (Machine, error) {
	return l.machine(ctx, system, Layout{}, members, files, "")
}

// CloneMachine is Machine, laid out as y says, with one more member, in sync with the others as if adopt had made it; files
// is told its device UUID. more are packages that it has besides.
func (l *Lab) CloneMachine(ctx context.Context, system string, y Layout, files func(clone md.UUID) []File, more ...string) (Machine, error) {
	names := append(slices.Clone(y.members()), CloneSerial)
	storage, _, err := l.storage(ctx, SuiteOf(system), y, names)
	if err != nil {
		return Machine{}, err
	}
	m, err := y.readMember(filepath.Join(storage, CloneSerial+".img"))
	if err != nil {
		return Machine{}, err
	}
	special, packages := y.packages(system)
	if len(more) > 0 {
		special += "-more"
	}
	return l.machine(ctx, system, y, names, append(y.files(), files(m.Super.Device)...), special, append(packages, more...)...)
}

// machine is Machine with more packages, for which special names the root directory.
func (l *Lab) machine(ctx context.Context, system string, y Layout, names []string, files []File, special string, more ...string) (Machine, error) {
	base, over := variant(system)
	root, err := l.root(ctx, base, special, more...)
	if err != nil {
		return Machine{}, err
	}
	storage, start, err := l.storage(ctx, SuiteOf(system), y, names)
	if err != nil {
		return Machine{}, err
	}
	agent, err := l.agent(ctx)
	if err != nil {
		return Machine{}, err
	}
	files, sum, err := loadAll(slices.Concat(identity(agent), over, files))
	if err != nil {
		return Machine{}, err
	}
	k := key(root, storage, masked, sum, "4")
	dir, err := l.entry(ctx, entryName("machine", system, y, names), k, func(dir string) error {
		tree := filepath.Join(dir, "root")
		if _, err := output(ctx, "cp", "-a", "--reflink=auto", root, tree); err != nil {
			return err
		}
		if err := furnish(ctx, tree, files); err != nil {
			return err
		}
		if err := takeBoot(ctx, tree, dir); err != nil {
			return err
		}
		return errors.Join(fillDisks(ctx, tree, storage, start, y, names, dir), os.RemoveAll(tree))
	})
	if err != nil {
		return Machine{}, err
	}
	m, err := readMachine(dir)
	m.args, m.Layout = y.args(system), y
	return m, err
}

// furnish writes files into tree, masks and enables units, and installs mdclone.
func furnish(ctx context.Context, tree string, files []File) error {
	if err := writeFiles(tree, files); err != nil {
		return err
	}
	s := &stage{dir: tree}
	const units = "etc/systemd/system/"
	for _, name := range masked {
		if err := s.link("/dev/null", units+name); err != nil {
			return err
		}
	}
	if err := s.link("/etc/systemd/system/agent.service", units+"multi-user.target.wants/agent.service"); err != nil {
		return err
	}
	has := func(pattern string) bool {
		return slices.ContainsFunc(files, func(f File) bool {
			match, err := filepath.Match(pattern, f.Path)
			return match && err == nil
		})
	}
	if !has(genProgram) || !has("/etc/mdclone/*.conf") {
		return nil
	}
	program := filepath.Join(tree, genProgram)
	_, err := output(ctx, program, "install", "--root", tree)
	if err == nil && has(rescueProgram) {
		_, err = output(ctx, program, "rescue", "--root", tree, "--output", filepath.Join(tree, rescueImage))
	}
	return err
}

// rescueImage is where the rescue image is in a machine, and rescueName is its name in the cache.
const rescueImage, rescueName = "boot/mdclone-rescue.img", "rescue"

// takeBoot copies kernel, initramfs and rescue image from tree to dir.
func takeBoot(ctx context.Context, tree, dir string) error {
	m, err := onlyModules(tree)
	if err != nil {
		return err
	}
	if err := unpackKernel(ctx, tree, m.Release, filepath.Join(dir, "kernel")); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(tree, "boot/initrd.img-"+m.Release), filepath.Join(dir, "initrd")); err != nil {
		return err
	}
	err = copyFile(filepath.Join(tree, rescueImage), filepath.Join(dir, rescueName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return writeAll(dir, map[string]string{"release": m.Release, "id": newID()})
}

// fillDisks copies the disks of storage to dir and puts tree into the volume on them, which begins at start.
func fillDisks(ctx context.Context, tree, storage string, start int64, y Layout, names []string, dir string) error {
	fs := filepath.Join(dir, "root.ext4")
	_, err := output(ctx, "mke2fs", "-q", "-t", "ext4", "-U", rootUUID, "-d", tree, "-E", "lazy_itable_init=0,lazy_journal_init=0", fs,
		strconv.Itoa(machineRoot>>10)+"k")
	if err != nil {
		return err
	}
	for _, name := range names {
		d, err := NewDisk(dir, name, MachineDisk)
		if err != nil {
			return err
		}
		if err := copySparse(filepath.Join(storage, name+".img"), d.Path, 0); err != nil {
			return err
		}
		if err := y.fill(ctx, fs, d.Path, start); err != nil {
			return err
		}
	}
	return errors.Join(os.Remove(fs), writeAll(dir, map[string]string{
		"start": strconv.FormatInt(start, 10), "members": strings.Join(names, " "),
	}))
}

// readMachine reads the machine in the cache entry dir: one that was made there, or a layer's.
func readMachine(dir string) (Machine, error) {
	m := Machine{Image: Image{Kernel: filepath.Join(dir, "kernel"), Initrd: filepath.Join(dir, "initrd")}, Dir: dir}
	rescue := filepath.Join(dir, rescueName)
	if _, err := os.Stat(rescue); err == nil {
		m.Rescue = rescue
	}
	var start, names string
	for _, f := range []struct {
		name string
		to   *string
	}{{"release", &m.Release}, {"id", &m.id}, {"start", &start}, {"members", &names}} {
		text, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil {
			return m, fmt.Errorf("read the machine: %w", err)
		}
		*f.to = string(text)
	}
	var err error
	if m.Volume, err = strconv.ParseInt(start, 10, 64); err != nil {
		return m, fmt.Errorf("read the machine: %w", err)
	}
	for _, name := range strings.Fields(names) {
		m.Disks = append(m.Disks, Disk{Serial: name, Path: filepath.Join(dir, name+".img")})
	}
	return m, nil
}

// Config is what boots the machine, from new layers in dir over its disks. The caller may add to it; files that are laid
// over the initramfs are not in the root file system.
func (m Machine) Config(ctx context.Context, dir string) (Config, error) {
	c := Config{Image: m.Image, Args: slices.Concat(machineArgs, m.args), Dir: dir}
	for _, d := range m.Disks {
		layer, err := d.Overlay(ctx, filepath.Join(dir, d.Serial+".qcow2"))
		if err != nil {
			return c, err
		}
		c.Disks = append(c.Disks, layer)
	}
	return c, nil
}

// StartedBy is the machine with the kernel, boot image and parameters of another of the same suite, as if its generator had
// been exchanged: so far as the start goes, the disks are the same.
func (m Machine) StartedBy(other Machine) Machine {
	m.Image, m.args = other.Image, other.args
	return m
}

// writeAll writes small files into dir.
func writeAll(dir string, files map[string]string) error {
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.TrimSpace(text)), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}
