package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mdclone/pkg/report"
)

// images lists the boot images of the machine, by absolute path. skipped are those that cannot be booted as they are:
// copies that update-initramfs, dracut or an administrator keeps, and images whose kernel is gone.
func (m machine) images() (images, skipped []string, err error) {
	all, err := filepath.Glob(m.path("boot/initrd.img-*"))
	if err != nil {
		return nil, nil, err
	}
	for _, image := range all {
		if isCopy(image) || !m.hasKernel(versionOf(image)) {
			skipped = append(skipped, image)
			continue
		}
		images = append(images, image)
	}
	return images, skipped, nil
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

func (m machine) hasKernel(version string) bool {
	return slices.ContainsFunc([]string{"boot/vmlinuz-", "boot/vmlinux-", "lib/modules/"},
		func(prefix string) bool { return m.exists(prefix + version) })
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
	images, skipped, err := m.images()
	if err != nil {
		return nil, err
	}
	for _, s := range skipped {
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
