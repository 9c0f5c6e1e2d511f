package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"mdclone/hooks"
	"mdclone/pkg/config"
	"mdclone/pkg/report"
)

const uninstallDescription = `Removes what mdclone-gen install wrote, as listed in /var/lib/mdclone/installed, makes all boot images and GRUB's menu anew and checks that nothing of mdclone is left in the images. The configuration in /etc/mdclone and the ledger in /var/lib/mdclone stay, unless --purge says otherwise: without them a clone cannot be recognised any more. The arrays and the clones are not touched.

EXAMPLES
mdclone-gen uninstall
mdclone-gen uninstall --purge

EXIT STATUS
0 done, or nothing was installed; 1 failed, or something is left in a boot image; 2 wrong arguments, or not run as root`

type uninstallCommand struct {
	options
	updateOption
	Purge bool `long:"purge" description:"remove the configuration and the ledger too"`
	app   *app
}

// Execute implements flags.Commander.
func (c *uninstallCommand) Execute(args []string) error {
	var doc document
	return c.app.finish(c.options, &doc, c.uninstall(args, &doc))
}

func (c *uninstallCommand) uninstall(args []string, doc *document) error {
	if err := report.NoMore(args); err != nil {
		return err
	}
	m, err := c.app.change(c.options, c.Update)
	if err != nil {
		return err
	}
	doc.Root, doc.good = m.root, "nothing of mdclone is in it"
	list, found, err := m.manifest()
	if err != nil {
		return err
	}
	if !found {
		c.app.log.Infof("nothing was installed by mdclone-gen: there is no %s", m.path(manifestPath))
		return c.leave(m, list, doc)
	}
	if c.Update == "auto" { // while there is still what a choice of the next boot would start
		if _, err := c.app.undo(m); err != nil {
			return err
		}
	}
	for _, e := range list.Files {
		if err := c.app.removeFile(m, e, doc); err != nil {
			return err
		}
	}
	c.app.reload(m)
	if err := c.images(m, doc); err != nil {
		return err
	}
	if err := c.menu(m, list, doc); err != nil {
		return err
	}
	// last, so that a run that failed can be repeated
	if err := os.Remove(m.path(manifestPath)); err != nil {
		return err
	}
	return c.leave(m, list, doc)
}

// removeFile removes what the manifest lists; that it is gone already is fine.
func (a *app) removeFile(m machine, e manifestEntry, doc *document) error {
	path := m.path(e.Path)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := m.inside(filepath.Dir(e.Path)); err != nil {
		return err
	}
	if sum(data) != e.SHA256 {
		a.log.Warnf("%s was changed since it was installed; it is removed all the same", path)
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	doc.Removed = append(doc.Removed, path)
	return nil
}

// images makes the boot images anew and looks for what is left in them.
func (c *uninstallCommand) images(m machine, doc *document) error {
	if c.Update == "never" {
		c.app.log.Infof("the boot images are as they were; run %s", m.generator().recipe())
		return nil
	}
	if g := m.generator(); g != noGenerator {
		if err := c.app.updateImages(m, g, whole); err != nil { // of what is left in it, the old one has more
			return err
		}
	} else {
		c.app.log.Warnf("neither initramfs-tools nor dracut is installed in %s: no boot image is made anew", m.root)
	}
	images, err := c.app.bootImages(m, nil)
	if err != nil {
		return err
	}
	c.app.checkImages(images, doc, leftovers)
	bad, entries := 0, 0
	for _, i := range doc.Images {
		if !i.OK {
			bad++
			if i.entry {
				entries++
			}
		}
	}
	if bad == 0 {
		return nil
	}
	left := report.Fail(report.Failed, "left", "%d of %d boot images cannot be read or still hold something of mdclone",
		bad, len(doc.Images))
	if entries > 0 {
		return left.Hint(copyRecipe)
	}
	return left
}

// menu takes the entry out of GRUB's menu, and then what it loads.
func (c *uninstallCommand) menu(m machine, list manifest, doc *document) error {
	if list.find(hooks.GrubPath) != nil && m.hasMenu() {
		if c.Update == "never" {
			c.app.log.Infof("GRUB's menu is as it was; run update-grub")
		} else if err := c.app.updateMenu(m); err != nil {
			return err
		}
	}
	err := os.Remove(m.path(stateImage))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		doc.Removed = append(doc.Removed, m.path(stateImage))
	}
	return err
}

// leave removes, or says that it keeps, configuration and ledger, and removes the folders that install made, if they are
// empty.
func (c *uninstallCommand) leave(m machine, list manifest, doc *document) error {
	for _, dir := range []string{config.Dir, stateDir} {
		entries, err := os.ReadDir(m.path(dir))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case c.Purge:
			if err := m.inside(dir); err != nil {
				return err
			}
			if err := os.RemoveAll(m.path(dir)); err != nil {
				return err
			}
			doc.Removed = append(doc.Removed, m.path(dir))
		case len(entries) > 0:
			doc.Kept = append(doc.Kept, m.path(dir))
		}
	}
	for _, f := range slices.Backward(list.Folders) {
		err := os.Remove(m.path(f))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
