package main

import (
	"bytes"
	"errors"
	"os"
	"path"
	"slices"
	"strings"

	"mdclone/pkg/initrd"
	"mdclone/pkg/report"
)

// bootImage is what the kernel unpacks at one boot: a file in /boot, or all that an entry of systemd-boot names.
type bootImage struct {
	name    string   // of the file, the image's or the entry's
	files   []string // one behind the other
	version string   // of the kernel, "" if it is not told
	entry   bool
}

// imageFile is an image that is one file.
func imageFile(name string) bootImage {
	return bootImage{name: name, files: []string{name}, version: versionOf(name)}
}

// read is initrd.Read for all its files.
func (b bootImage) read(keep func(path string) bool) (*initrd.Image, error) {
	if len(b.files) == 1 {
		return initrd.Read(b.files[0], keep)
	}
	if len(b.files) == 0 {
		return nil, errors.New("it names no initrd")
	}
	var all []byte
	for _, name := range b.files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(append(all, data...), make([]byte, -len(data)&3)...) // what is not compressed begins at a multiple of 4
	}
	return initrd.Open(bytes.NewReader(all), int64(len(all)), keep)
}

// entry is a file of text that systemd-boot reads (Boot Loader Specification, type 1).
type entry struct {
	linux, version, machine string
	initrds                 []string // as they are written: below the mount point of the entry's partition
}

func parseEntry(text string) entry {
	var e entry
	for _, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(line), "\t", " "), " ")
		value = strings.TrimSpace(value)
		switch key {
		case "linux":
			e.linux = value
		case "version":
			e.version = value
		case "machine-id":
			e.machine = value
		case "initrd":
			e.initrds = append(e.initrds, value)
		}
	}
	return e
}

// entryImages are what systemd-boot starts this machine from, if it does: the copies that its entries name may be older than
// what is in /boot. The default entry is looked at in any case, others where they are of a kernel that the machine has.
func (a *app) entryImages(m machine) ([]bootImage, error) {
	switch {
	case a.loader(m) != systemdBoot, m.root != "/" && !a.hasSystemdBoot(m): // that has started another system
		return nil, nil
	case a.euid() != 0:
		a.log.Warnf("what systemd-boot's entries name is not looked at: that takes root")
		return nil, nil
	}
	list, err := a.output(m.root, "/"+bootctl, "list")
	if err != nil {
		return nil, report.Fail(report.Failed, "bootctl", "bootctl list in %s: %w", m.root, err).
			Hint("is the partition mounted that systemd-boot is on?")
	}
	first := defaultSource(list)
	if first == "" {
		a.log.Warnf("systemd-boot's default entry is no file in loader/entries: what it starts is not looked at")
	}
	id, err := os.ReadFile(m.path("etc/machine-id"))
	if err != nil { // then entries do not tell whose they are
		id = nil
	}
	var images []bootImage
	for _, root := range a.entryRoots(m) {
		names, err := m.list(path.Join(root, "loader/entries"), func(name string) bool { return strings.HasSuffix(name, ".conf") })
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			name = m.path(name)
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			e := parseEntry(string(text))
			other := e.machine != "" && e.machine != strings.TrimSpace(string(id))
			switch isFirst := name == m.path(first); {
			case isFirst && e.linux == "":
				a.log.Warnf("%s, systemd-boot's default entry, names no kernel: what it starts is not looked at", name)
				continue
			case !isFirst && (other || e.linux == "" || e.version == "" || !m.mayStart(e.version)):
				a.log.Infof("%s is not looked at: it is of another system, or its kernel is gone", name)
				continue
			}
			image := bootImage{name: name, version: e.version, entry: true}
			for _, f := range e.initrds {
				image.files = append(image.files, m.path(path.Join(root, f)))
			}
			images = append(images, image)
		}
	}
	return images, nil
}

// entryRoots are the mount points of the partitions that systemd-boot reads.
func (a *app) entryRoots(m machine) []string {
	var roots []string
	for _, which := range []string{"--print-esp-path", "--print-boot-path"} {
		root, err := a.output(m.root, "/"+bootctl, which)
		root = strings.TrimSpace(root)
		if err == nil && !slices.Contains(roots, root) { // else there is no such partition
			roots = append(roots, root)
		}
	}
	return roots
}
