package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mdclone/pkg/report"
)

// newSuffix is at the end of a boot image's name until it is whole.
const newSuffix = ".mdclone-new"

// postUpdateFolders are those with what boot loaders have to do about a new boot image, below the root.
func postUpdateFolders() []string {
	return []string{"etc/initramfs/post-update.d", "usr/share/initramfs/post-update.d"}
}

// updateImages makes all boot images of the machine anew, those of the newest kernel first. One that fails does not keep the
// others from theirs, so each is asked for by itself: update-initramfs -k all ends with the first that fails, and dracut's own
// update-initramfs is not in all its packages. A kernel without modules here is another system's, with which /boot is shared.
// check tells what keeps an image from taking the place of the one that is there.
func (a *app) updateImages(m machine, g generator, check func(image bootImage) imageReport) error {
	if err := a.needMounted(m); err != nil {
		return err
	}
	a.log.Infof("making the boot images anew, which takes a while (%s)", g)
	start := time.Now()
	kernels, err := m.kernels()
	if err != nil {
		return err
	}
	var errs []error
	for _, version := range kernels {
		if err := a.stopped(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		switch {
		case !m.exists("lib/modules/" + version):
		case g == dracut:
			errs = append(errs, a.remakeDracut(m, version, check))
		case m.exists("boot/initrd.img-" + version):
			errs = append(errs, a.remakeInitramfsTools(m, version))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	a.log.Infof("boot images are made, %.0f s", time.Since(start).Seconds())
	return nil
}

// remakeInitramfsTools makes the image of one kernel. update-initramfs makes it beside the old one, and tells the boot loaders.
func (a *app) remakeInitramfsTools(m machine, version string) error {
	if err := a.command(m.root, "/"+updateInitramfs, "-u", "-k", version); err != nil {
		return report.Fail(report.Failed, "update-initramfs", "update-initramfs for kernel %s in %s: %w", version, m.root, err).
			Hint("its own messages above say why; then run the same command again")
	}
	return nil
}

// remakeDracut makes the image of one kernel, and tells the boot loaders.
func (a *app) remakeDracut(m machine, version string, check func(image bootImage) imageReport) error {
	if err := a.dracutImage(m, version, check); err != nil {
		return report.Fail(report.Failed, "dracut", "dracut for kernel %s in %s: %w; its boot image is as it was", version, m.root, err).
			Hint("the messages above may say why; is there room for one more image in /boot? then run the same command again")
	}
	return a.postUpdate(m, version)
}

// dracutImage makes an image beside the one that is there, which stays until the new one is whole and on the disk: dracut 106
// would write over it, and remove it where that fails.
func (a *app) dracutImage(m machine, version string, check func(image bootImage) imageReport) (err error) {
	image := m.path("boot/initrd.img-" + version)
	if real, err := filepath.EvalSymlinks(image); err == nil { // as dracut does
		image = real
	}
	if folder := filepath.Dir(image); m.root != "/" && !strings.HasPrefix(folder+"/", m.root+"/") {
		return fmt.Errorf("%s leads out of %s, to %s", m.path("boot/initrd.img-"+version), m.root, image)
	}
	fresh := image + newSuffix
	defer func() {
		if e := os.Remove(fresh); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}()
	// dracut would give the loaders an image of that name; postUpdate does it
	if err := a.command(m.root, "/usr/bin/env", "NO_POST_UPDATE_HOOKS=1", "/"+dracutProgram, "--quiet", "--force",
		"/"+strings.TrimPrefix(strings.TrimPrefix(fresh, m.root), "/"), version); err != nil {
		return err
	}
	if found := check(imageFile(fresh)).Differences; len(found) > 0 {
		return fmt.Errorf("what it made is not as it should be: %w", &report.Error{Reasons: found})
	}
	if err := syncFile(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, image); err != nil {
		return err
	}
	return syncFile(filepath.Dir(image))
}

// syncFile waits until a file, or what a folder names, is on the disk.
func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// postUpdate tells the boot loaders of a new image, as dracut 106 does, and the callers of newer ones.
func (a *app) postUpdate(m machine, version string) error {
	for _, dir := range postUpdateFolders() {
		if !m.exists(dir) {
			continue
		}
		if err := a.command(m.root, "/usr/bin/run-parts", "--arg="+version, "--arg=/boot/initrd.img-"+version, "/"+dir); err != nil {
			return report.Fail(report.Failed, "post-update", "tell the boot loader of the new boot image of kernel %s (run-parts %s in %s): %w",
				version, "/"+dir, m.root, err).Hint("the messages above may say why; then run the same command again")
		}
	}
	return nil
}
