package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"mdclone/hooks"
	"mdclone/pkg/config"
	"mdclone/pkg/report"
)

const uninstallDescription = `Removes what mdclone-gen install wrote, as listed in /var/lib/mdclone/installed, makes all boot images and GRUB's menu anew and checks that nothing of mdclone is left in the images. The programs go last, so that a run that has failed can be repeated. Nothing is removed where there is no boot image at all, as when /boot is not mounted; --update-initramfs=never leaves the boot images alone. The configuration in /etc/mdclone and the ledger in /var/lib/mdclone stay, unless --purge says otherwise: without them a clone cannot be recognised any more. The arrays and the clones are not touched.

EXAMPLES
mdclone-gen uninstall
mdclone-gen uninstall --purge

EXIT STATUS
0 done, or nothing was installed; 1 failed, something is left in a boot image, or there is none; 2 wrong arguments, or not run as root; 3 another mdclone-gen works on the machine`

type uninstallCommand struct {
	options
	updateOption
	Purge bool `long:"purge" description:"remove the configuration and the ledger too"`
	app   *app
}

// Execute implements flags.Commander.
func (c *uninstallCommand) Execute(args []string) error {
	var doc document
	return c.app.finish(&doc, c.uninstall(args, &doc))
}

func (c *uninstallCommand) uninstall(args []string, doc *document) error {
	if err := report.NoMore(args); err != nil {
		return err
	}
	m, err := c.app.change(c.options, c.Update)
	if err != nil {
		return err
	}
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	doc.Root, doc.good = m.root, "nothing of mdclone is in it"
	list, found, err := m.manifest()
	if err != nil {
		return err
	}
	if !found {
		if list, err = c.app.unlisted(m); err != nil {
			return err
		}
	}
	if !found && len(list.Files) == 0 {
		c.app.log.Infof("nothing was installed by mdclone-gen: there is no %s", m.path(manifestPath))
		return c.leave(m, list, doc)
	}
	if c.Update == "auto" {
		if err := c.needImages(m); err != nil {
			return err
		}
	}
	if err := c.app.dropTemporary(m); err != nil {
		return err
	}
	c.undo(m)
	for _, e := range slices.Backward(list.Files) {
		if isOwnProgram(e.Path) {
			continue
		}
		if err := c.app.stopped(); err != nil {
			return err
		}
		if err := c.app.removeFile(m, e, doc); err != nil {
			return err
		}
	}
	c.app.reload(m)
	// an image that cannot be made, or read, is no reason to leave an entry in the menu
	err = c.images(m, doc)
	if c.app.stopped() == nil {
		err = errors.Join(err, c.menu(m, list, doc))
	}
	if err = cmp.Or(err, c.app.stopped()); err != nil {
		return err
	}
	// last, so that a run that failed can be repeated: with these programs, by that list
	for _, e := range list.Files {
		if !isOwnProgram(e.Path) {
			continue
		}
		if err := c.app.removeFile(m, e, doc); err != nil {
			return err
		}
	}
	if err := os.Remove(m.path(manifestPath)); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may have been lost
		return err
	}
	return c.leave(m, list, doc)
}

// isOwnProgram tells the programs from what asks for them.
func isOwnProgram(path string) bool { return slices.Contains(ownPrograms(), path) }

func ownPrograms() []string { return []string{earlyPath, genPath, rescuePath} }

// needImages looks for what is to be made anew: with /boot not mounted nothing would be, and mdclone would stay in all of it.
func (c *uninstallCommand) needImages(m machine) error {
	if err := c.app.needMounted(m); err != nil {
		return err
	}
	images, _, err := m.images()
	if err == nil && len(images) == 0 {
		var entries []bootImage
		if entries, err = c.app.entryImages(m); len(entries) > 0 {
			return err
		}
	}
	if err != nil || len(images) > 0 {
		return err
	}
	return report.Fail(report.Failed, "no-image", "there is no boot image %s to take mdclone out of; nothing was removed",
		m.path("boot/initrd.img-*")).
		Hint("is /boot mounted?").
		Hint("--update-initramfs=never leaves the boot images alone")
}

// undo takes back a choice of the next boot, while there is still what it would start. What keeps it from that is no reason to
// leave all the rest in the machine.
func (c *uninstallCommand) undo(m machine) {
	if undoes(m.root, c.app.euid(), c.Update) {
		if _, err := c.app.undo(m); err != nil {
			c.app.log.Warnf("a choice of the next boot is not taken back: %v", err)
		}
		return
	}
	env, err := os.ReadFile(m.path(grubEnvFile))
	if err == nil && parseEnv(string(env))[nextEntry] == entryID {
		c.app.log.Warnf("GRUB starts the entry %s next, as boot-once has chosen; in %s run: grub-editenv - unset %s", entryID, m.root, nextEntry)
	}
}

// undoes tells whether uninstall takes a choice back: where it may run the machine's programs.
func undoes(root string, euid int, update string) bool {
	return euid == 0 && (root == "/" || update == "auto")
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
	var made error
	if g := m.generator(); g != noGenerator {
		made = c.app.updateImages(m, g, whole) // of what is left in it, the old one has more
	} else {
		c.app.log.Warnf("neither initramfs-tools nor dracut is installed in %s: no boot image is made anew", m.root)
	}
	if stopped := c.app.stopped(); stopped != nil {
		return cmp.Or(made, stopped)
	}
	images, err := c.app.bootImages(m, nil)
	if err != nil {
		return errors.Join(made, err)
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
		return made
	}
	left := report.Fail(report.Failed, "left", "%d of %d boot images cannot be read or still hold something of mdclone",
		bad, len(doc.Images))
	if entries > 0 {
		left = left.Hint(copyRecipe)
	}
	return errors.Join(made, left)
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
	err := m.inside("boot")
	if err == nil {
		err = os.Remove(m.path(stateImage))
	}
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
	for _, dir := range []string{config.Dir, config.VarDir} {
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
		err := m.inside(filepath.Dir(f))
		if err == nil { // not os.Remove, for which a link in the folder's place is a file
			err = unix.Rmdir(m.path(f))
		}
		if err != nil && !slices.ContainsFunc(staysWith(), func(e error) bool { return errors.Is(err, e) }) {
			return fmt.Errorf("remove the folder %s: %w", m.path(f), err)
		}
	}
	return nil
}

// staysWith are the errors of a folder that is not ours to remove: it is gone, not empty, a link, or somebody mounts there.
func staysWith() []error {
	return []error{fs.ErrNotExist, unix.ENOTEMPTY, fs.ErrExist, unix.ENOTDIR, unix.EBUSY}
}
