package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mdclone/pkg/report"
	"mdclone/pkg/sysroot"
)

// images lists the boot images of the machine, by absolute path. skipped are those that cannot be booted as they are:
// copies that update-initramfs, dracut or an administrator keeps, images whose kernel is gone, and those of another system with which
// /boot is shared: without modules none is made here.
func (m machine) images() (images, skipped []string, err error) {
	all, err := m.list("boot", func(name string) bool { return strings.HasPrefix(name, "initrd.img-") })
	if err != nil {
		return nil, nil, err
	}
	for _, image := range all {
		image = m.path(image)
		if version := versionOf(image); isCopy(image) || !m.hasKernel(version) || !m.exists("lib/modules/"+version) {
			skipped = append(skipped, image)
			continue
		}
		images = append(images, image)
	}
	return images, skipped, nil
}

// kernels are the versions of the kernels in /boot, newest first.
func (m machine) kernels() ([]string, error) {
	var versions []string
	_, err := m.list("boot", func(name string) bool {
		stem, version, _ := strings.Cut(name, "-")
		if (stem == "vmlinuz" || stem == "vmlinux") && version != "" && !isCopy(name) && !slices.Contains(versions, version) {
			versions = append(versions, version)
		}
		return false
	})
	slices.SortFunc(versions, func(a, b string) int {
		switch {
		case sysroot.Newer(a, b):
			return -1
		case sysroot.Newer(b, a):
			return 1
		}
		return strings.Compare(a, b)
	})
	return versions, err
}

func isCopy(image string) bool {
	return slices.ContainsFunc([]string{".bak", ".dpkg-bak", ".old", ".old-dkms", ".new", ".orig", ".tmp", "~", newSuffix},
		func(suffix string) bool { return strings.HasSuffix(image, suffix) })
}

// versionOf is the kernel version in an image's name, "" if there is none.
func versionOf(image string) string {
	version, ok := strings.CutPrefix(filepath.Base(image), "initrd.img-")
	if !ok {
		return ""
	}
	return strings.TrimSuffix(version, newSuffix)
}

// hasKernel tells whether there is a kernel for an image in /boot: where its modules alone have stayed nothing starts it, and
// nothing makes it anew.
func (m machine) hasKernel(version string) bool {
	return m.exists("boot/vmlinuz-"+version) || m.exists("boot/vmlinux-"+version)
}

// mayStart tells whether an entry of systemd-boot is for a kernel of this machine, which need not have it in /boot.
func (m machine) mayStart(version string) bool {
	return m.hasKernel(version) || m.exists("lib/modules/"+version)
}

// reload tells a running udev of new rules. That it cannot is no failure: it looks itself every few seconds.
func (a *app) reload(m machine) {
	if m.root != "/" || !a.udevRuns() {
		return
	}
	if err := a.command("/", "udevadm", "control", "--reload"); err != nil {
		a.log.Warnf("udevadm control --reload: %v", err)
	}
}

// bootImages are those named, or all of the machine that can be booted.
func (a *app) bootImages(m machine, named []string) ([]bootImage, error) {
	var found []bootImage
	for _, name := range named {
		found = append(found, imageFile(name))
	}
	if len(named) > 0 {
		return found, nil
	}
	if err := a.needMounted(m); err != nil {
		return nil, err
	}
	images, skipped, err := m.images()
	if err != nil {
		return nil, err
	}
	for _, s := range skipped {
		if version := versionOf(s); !isCopy(s) && m.hasKernel(version) {
			a.log.Warnf("%s is another system's, as /lib/modules has nothing for its kernel: it is not looked at, and what it starts is not guarded", s)
			continue
		}
		a.log.Infof("%s is not looked at: a copy, or its kernel is gone", s)
	}
	for _, name := range images {
		found = append(found, imageFile(name))
	}
	entries, err := a.entryImages(m)
	return append(found, entries...), err
}

// checkImages runs check on boot images, and notes what it finds.
func (a *app) checkImages(images []bootImage, doc *document, check func(image bootImage) imageReport) {
	for _, image := range images {
		r := check(image)
		if r.Differences == nil {
			r.Differences = []report.Reason{}
		}
		r.Image, r.OK, r.entry = image.name, len(r.Differences) == 0, image.entry
		doc.Images = append(doc.Images, r)
		for _, f := range r.Differences {
			doc.Reasons = append(doc.Reasons, report.Reason{Code: f.Code, Text: image.name + ": " + f.Text})
		}
	}
}

// unreadable is what an image is that cannot be read.
func unreadable(image string, err error) []report.Reason {
	text := err.Error()
	var path *os.PathError
	if !errors.As(err, &path) { // initrd's own errors begin with the name, which is printed in front anyway
		text = strings.TrimPrefix(text, "read "+image+": ")
	}
	return []report.Reason{{Code: "unreadable", Text: text}}
}
