package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mdclone/hooks"
	"mdclone/pkg/config"
	"mdclone/pkg/initrd"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
	"mdclone/pkg/sysroot"
)

const (
	// rescueImage is where GRUB's menu looks for the rescue image, below the root.
	rescueImage = "boot/mdclone-rescue.img"
	// rescueKernel is in the image, and names the kernel that its modules are for, as sha256sum does: sum and release.
	rescueKernel = config.Dir + "/kernel"
	// rescueProgram is where `make install` puts that program, below the prefix.
	rescueProgram = "lib/mdclone/mdclone-rescue"
	rescuePath    = "usr/" + rescueProgram
)

// rescueSources are where that program may be, for the mdclone-gen in folder beside.
func rescueSources(m machine, beside string) []string {
	return []string{filepath.Join(beside, "mdclone-rescue"), filepath.Join(beside, "..", rescueProgram), m.path(rescuePath)}
}

// rescueModules are those of md, without which nothing works.
func rescueModules() []string { return []string{"md_mod", "raid1"} }

// keyboardModules are drivers of the keyboard that the menu is for.
func keyboardModules() []string {
	return strings.Fields("i8042 atkbd usbhid hid_generic hyperv_keyboard")
}

// mediumModules are for a medium that a log may be saved on: FAT.
func mediumModules() []string {
	return strings.Fields("vfat nls_cp437 nls_ascii nls_iso8859_1 nls_utf8")
}

// driverFolders are where drivers of disks are, of which the image gets those that the running machine has loaded.
func driverFolders() []string {
	return []string{"ata", "block", "message", "mmc", "nvme", "scsi", "usb/host", "usb/storage", "virtio", "hv", "xen", "pci/controller"}
}

// rescueEntries is what is in the image.
func (a *app) rescueEntries(m machine, arrays []config.Array, release string) (map[string]initrd.Entry, error) {
	e := entries{}
	for _, dir := range []string{"dev", "proc", "run", "sys", "tmp", "mnt", "usr/bin", "usr/lib64", "var/lib"} {
		e[dir] = initrd.Entry{Mode: fs.ModeDir | 0o755}
	}
	for name, target := range map[string]string{
		"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "/run", "etc/mtab": "/proc/self/mounts",
		"init": "/" + config.RescueProgram,
	} {
		if err := e.link(target, name); err != nil {
			return nil, err
		}
	}
	e.text(config.EarlyMark, "")
	for _, array := range arrays {
		if err := e.copy(m.path(confPath(array.Name)), confPath(array.Name)); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"etc/mdadm/mdadm.conf", "etc/mdadm.conf"} {
		if err := e.copy(m.path(name), name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := a.rescuePrograms(m, e); err != nil {
		return nil, err
	}
	return e, a.rescueDrivers(m, release, e, m.root == "/")
}

// rescuePrograms puts the programs there.
func (a *app) rescuePrograms(m machine, e entries) error {
	self, err := a.self()
	if err != nil {
		return fmt.Errorf("find mdclone-gen itself: %w", err)
	}
	beside := filepath.Dir(self)
	for inImage, candidates := range map[string][]string{
		earlyPath:            {filepath.Join(beside, "mdclone-early"), m.path(earlyPath)},
		config.RescueProgram: rescueSources(m, beside),
	} {
		var err error
		for _, name := range candidates {
			if err = e.copy(name, inImage); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		if err != nil {
			return report.Fail(report.Failed, "no-program", "find %s: %w (looked for %s)", filepath.Base(inImage), err,
				strings.Join(candidates, ", ")).Hint("make install puts it there, or mdclone-gen install that has it in its own folder")
		}
	}
	cut := sysroot.Cutter{Tree: m.root, Copy: e.copy, Link: e.link}
	if err := cut.Programs("mdadm"); err != nil {
		return report.Fail(report.Failed, "no-mdadm", "put mdadm into the image: %w", err).Hint("install the package mdadm")
	}
	return nil
}

// rescueDrivers puts the modules there, what modprobe reads about them, and the list of those that the start loads. here says
// that m is the running machine.
func (a *app) rescueDrivers(m machine, release string, e entries, here bool) error {
	modules, err := sysroot.ReadModules(m.root, release)
	if err != nil {
		return err
	}
	dir := "usr/lib/modules/" + release
	var deps strings.Builder
	put := func(name string, needs []string, image []byte) error {
		e[dir+"/"+modules.Plain(name)] = initrd.Entry{Mode: 0o644, Data: image}
		deps.WriteString(modules.Plain(name) + ":")
		for _, n := range needs {
			if modules.Path[n] != "" { // else it is built in
				deps.WriteString(" " + modules.Plain(n))
			}
		}
		deps.WriteString("\n")
		return nil
	}
	seen := map[string]bool{}
	if err := modules.Visit(rescueModules(), true, seen, put); err != nil {
		return err
	}
	drivers := slices.Concat(hooks.DiskModules(), keyboardModules(), mediumModules())
	if here {
		drivers = append(drivers, a.loadedDrivers(modules)...)
	}
	if err := modules.Visit(drivers, false, seen, put); err != nil {
		return err
	}
	e.text(dir+"/modules.dep", deps.String())
	load := slices.DeleteFunc(append(rescueModules(), drivers...), func(name string) bool { return !seen[name] })
	e.text(config.ModulesFile, strings.Join(load, "\n")+"\n")
	options, err := sysroot.Options(m.root)
	if err != nil {
		return err
	}
	var params strings.Builder
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if seen[name] {
			fmt.Fprintln(&params, name, options[name])
		}
	}
	e.text(config.OptionsFile, params.String())
	return e.copy(filepath.Join(modules.Dir, "modules.builtin"), dir+"/modules.builtin")
}

// loadedDrivers are the modules for disks that the running system has loaded.
func (a *app) loadedDrivers(modules *sysroot.Modules) []string {
	var names []string
	for _, line := range strings.Split(a.loaded(), "\n") {
		name, _, _ := strings.Cut(line, " ")
		path := modules.Path[name]
		if slices.ContainsFunc(driverFolders(), func(dir string) bool { return strings.HasPrefix(path, "kernel/drivers/"+dir+"/") }) {
			names = append(names, name)
		}
	}
	return names
}

// loadedModules is /proc/modules.
func loadedModules() string {
	text, err := os.ReadFile("/proc/modules")
	if err != nil { // a kernel without modules
		return ""
	}
	return string(text)
}

// entries are those of an image, by path.
type entries map[string]initrd.Entry

// copy puts a file there.
func (e entries) copy(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	e[to] = initrd.Entry{Mode: info.Mode().Perm() | 0o444, Data: data}
	return nil
}

func (e entries) link(target, path string) error {
	e[path] = initrd.Entry{Mode: fs.ModeSymlink | 0o777, Target: target}
	return nil
}

func (e entries) text(path, text string) { e[path] = initrd.Entry{Mode: 0o644, Data: []byte(text)} }

// scanMembers reads all members of arrays that this machine has.
func scanMembers() ([]md.Found, error) {
	found, _, err := md.Scan(sysfs.New())
	return found, err
}
