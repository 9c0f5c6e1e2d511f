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
func (a *app) bootImages(m machine, named []string) ([]string, error) {
	if len(named) > 0 {
		return named, nil
	}
	images, skipped, err := m.images()
	if err != nil {
		return nil, err
	}
	for _, s := range skipped {
		a.log.Infof("%s is not looked at: a copy, or its kernel is gone", s)
	}
	return images, nil
}

// checkImages runs check on every boot image of the machine, or on those named, and prints what it finds.
func (a *app) checkImages(m machine, named []string, doc *document, check func(image string) imageReport) error {
	images, err := a.bootImages(m, named)
	if err != nil {
		return err
	}
	for _, image := range images {
		r := check(image)
		if r.Differences == nil {
			r.Differences = []report.Reason{}
		}
		r.Image, r.OK = image, len(r.Differences) == 0
		doc.Images = append(doc.Images, r)
		for _, f := range r.Differences {
			doc.Reasons = append(doc.Reasons, report.Reason{Code: f.Code, Text: image + ": " + f.Text})
		}
	}
	return nil
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
