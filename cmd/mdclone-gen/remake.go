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

// updateImages makes all boot images of the machine anew. check tells what keeps one from taking the place of the one that is
// there.
func (a *app) updateImages(m machine, g generator, check func(image bootImage) imageReport) error {
	a.log.Infof("making the boot images anew, which takes a while (%s)", g.recipe())
	start := time.Now()
	var err error
	if g == dracut {
		err = a.dracutImages(m, check)
	} else if err = a.command(m.root, "/"+updateInitramfs, "-u", "-k", "all"); err != nil { // makes each beside the old one
		err = report.Fail(report.Failed, "update-initramfs", "update-initramfs in %s: %w", m.root, err).
			Hint("its own messages above say why; then run the same command again")
	}
	if err != nil {
		return err
	}
	a.log.Infof("boot images are made, %.0f s", time.Since(start).Seconds())
	return nil
}

// dracutImages makes the image of each kernel; one that fails does not keep the others from theirs. dracut's own
// update-initramfs is not in all its packages.
func (a *app) dracutImages(m machine, check func(image bootImage) imageReport) error {
	kernels, err := filepath.Glob(m.path("boot/vmlinu[xz]-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, k := range kernels {
		_, version, _ := strings.Cut(filepath.Base(k), "-")
		if isCopy(k) || !m.exists("lib/modules/"+version) {
			continue
		}
		err := a.dracutImage(m, version, check)
		if err != nil {
			err = report.Fail(report.Failed, "dracut", "dracut for kernel %s in %s: %w; its boot image is as it was", version, m.root, err).
				Hint("the messages above may say why; is there room for one more image in /boot? then run the same command again")
		} else {
			err = a.postUpdate(m, version)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// dracutImage makes an image beside the one that is there, which stays until the new one is whole and on the disk: dracut 106
// would write over it, and remove it where that fails.
func (a *app) dracutImage(m machine, version string, check func(image bootImage) imageReport) (err error) {
	image := m.path("boot/initrd.img-" + version)
	if real, err := filepath.EvalSymlinks(image); err == nil { // as dracut does
		image = real
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
