package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"mdclone/hooks"
	"mdclone/pkg/config"
	"mdclone/pkg/report"
	udevrules "mdclone/udev-rules"
)

const installDescription = `Reads /etc/mdclone/*.conf and writes the udev rules made from it, hook and scripts for initramfs-tools or, where that makes the boot images, a module for dracut, a systemd unit that reports what they did, and mdclone-early and mdclone-gen to /usr/sbin and mdclone-rescue to /usr/lib/mdclone, unless they are there already; then makes all boot images anew and checks that they hold everything. Where GRUB is, its menu gets an entry that makes the clone before anything runs (see boot-once). Run it again after each change of the configuration. What was written is listed in /var/lib/mdclone/installed.

EXAMPLES
mdclone-gen install
mdclone-gen install --root /mnt    (dracut wants /mnt/proc and /mnt/sys mounted)
mdclone-gen install --update-initramfs=never

EXIT STATUS
0 done; 1 failed, or a boot image is not as configured; 2 wrong arguments, not run as root, or nothing is configured; 3 another mdclone-gen works on the machine`

type installCommand struct {
	options
	updateOption
	app *app
}

// Execute implements flags.Commander.
func (c *installCommand) Execute(args []string) error {
	var doc document
	return c.app.finish(&doc, c.install(args, &doc))
}

func (c *installCommand) install(args []string, doc *document) error {
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
	doc.Root, doc.good = m.root, "as configured"
	arrays, err := m.arrays()
	if err != nil {
		return err
	}
	if c.Update == "auto" {
		if err := m.needGenerator(); err != nil {
			return err
		}
	}
	for _, a := range arrays {
		if len(a.Clones) == 0 {
			c.app.log.Infof("%s has no clone yet: its array's limits are pinned, there is nothing to guard", m.path(confPath(a.Name)))
		}
	}
	if err := c.app.dropTemporary(m); err != nil {
		return err
	}
	if m.root == "/" {
		c.app.firmware(arrays, m.exists("sys/firmware/efi"))
	}
	menu, err := c.app.installFiles(m, arrays, doc)
	if err != nil {
		return err
	}
	c.app.reload(m)
	if m.usesGrub() && m.exists("boot") {
		menu = errors.Join(menu, m.writeState(c.app.pending(m)))
	}
	if c.Update == "never" {
		c.app.log.Infof("the boot images are as they were; run %s, then mdclone-gen verify", m.generator().recipe())
		return menu
	}
	want, err := m.expect(arrays)
	if err != nil {
		return err
	}
	made := c.app.updateImages(m, m.generator(), want.check)
	if stopped := c.app.stopped(); stopped != nil {
		return errors.Join(cmp.Or(made, stopped), menu)
	}
	images, err := c.app.bootImages(m, nil)
	if err == nil {
		err = c.app.verifyImages(m, arrays, images, doc, "the messages above may say why")
	}
	if err := errors.Join(made, err, menu); err != nil { // what the boot images do for every boot does not wait for an entry of the menu
		return err
	}
	if err := c.app.staleRescue(m, arrays); err != nil {
		return err
	}
	if m.usesGrub() && m.hasMenu() {
		return c.app.updateMenu(m)
	}
	return nil
}

// file is something to install.
type file struct {
	path string // below the root
	data []byte
	mode fs.FileMode
}

// installFiles writes what is not there as it should be. menu is what keeps GRUB's script from being written, which the others
// do not wait for.
func (a *app) installFiles(m machine, arrays []config.Array, doc *document) (menu, err error) {
	files, err := a.files(m, arrays)
	if err != nil {
		return nil, err
	}
	list, _, err := m.manifest()
	if err != nil {
		return nil, err
	}
	var write []file
	for _, f := range files {
		same, err := m.holds(f)
		if err != nil && f.path == hooks.GrubPath {
			menu = err
			continue
		}
		if err != nil {
			return nil, err
		}
		if !same {
			write = append(write, f)
		}
		// nobody else makes these, but for the programs, which a package may bring
		if !same || !isOwnProgram(f.path) || list.find(f.path) != nil {
			list.add(f.path, f.data)
		}
	}
	for _, f := range write {
		made, err := m.mkdirs(filepath.Dir(f.path))
		list.addFolders(made)
		if err != nil {
			return nil, errors.Join(err, m.save(list))
		}
	}
	// before the files: whatever ends this program now, uninstall knows what to look for
	if err := m.save(list); err != nil {
		return nil, err
	}
	for _, f := range write {
		if err := a.stopped(); err != nil {
			return menu, err
		}
		err := m.write(f.path, f.data, f.mode)
		switch {
		case err == nil:
			doc.Written = append(doc.Written, m.path(f.path))
		case f.path == hooks.GrubPath:
			menu = err
		default:
			return menu, err
		}
	}
	return menu, a.dropOthers(m, list, doc)
}

// dropOthers removes what an earlier install wrote for another generator of boot images, which the machine has no more.
func (a *app) dropOthers(m machine, list manifest, doc *document) error {
	before := len(list.Files)
	for _, path := range m.generator().others() {
		e := list.find(path)
		if e == nil {
			continue
		}
		if err := a.removeFile(m, *e, doc); err != nil {
			return err
		}
		list.Files = slices.DeleteFunc(list.Files, func(e manifestEntry) bool { return e.Path == path })
	}
	if len(list.Files) == before {
		return nil
	}
	return m.save(list)
}

// files lists what there is to install, in the order of writing: what asks for the programs comes behind them, and GRUB's script
// last.
func (a *app) files(m machine, arrays []config.Array) ([]file, error) {
	text, err := rule(arrays)
	if err != nil {
		return nil, err
	}
	self, err := a.self()
	if err != nil {
		return nil, fmt.Errorf("find mdclone-gen itself: %w", err)
	}
	var files []file
	for _, p := range []struct{ from, path string }{
		{filepath.Join(filepath.Dir(self), "mdclone-early"), earlyPath},
		{self, genPath},
	} {
		f, err := m.program(p.from, p.path)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	for _, name := range rescueSources(m, filepath.Dir(self)) { // nothing but the rescue image needs it
		data, err := os.ReadFile(name)
		if err == nil {
			files = append(files, file{path: rescuePath, data: data, mode: 0o755})
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	files = append(append(files, m.generator().files()...), units()...)
	files = append(files,
		file{path: udevrules.Path, data: text, mode: 0o644},
		file{path: udevrules.StartPath, data: udevrules.Start(), mode: 0o644})
	if !m.usesGrub() {
		return files, nil
	}
	script := file{path: hooks.GrubPath, data: hooks.Grub(), mode: 0o755}
	if info, err := os.Stat(m.path(script.path)); err == nil { // chmod -x is how an administrator takes its entries out of the menu
		script.mode = info.Mode().Perm()
	}
	return append(files, script), nil
}

// units are systemd's.
func units() []file {
	var files []file
	all := hooks.Units()
	for _, path := range slices.Sorted(maps.Keys(all)) {
		files = append(files, file{path: path, data: all[path], mode: 0o644})
	}
	return files
}

// program is the one at from, or, if there is none, the one that is installed already.
func (m machine) program(from, path string) (file, error) {
	for _, name := range []string{from, m.path(path)} {
		data, err := os.ReadFile(name)
		if err == nil {
			return file{path: path, data: data, mode: 0o755}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return file{}, err
		}
	}
	return file{}, report.Fail(report.Failed, "no-program", "there is neither %s nor %s", from, m.path(path)).
		Hint("mdclone-gen installs the mdclone-early that is in its own folder")
}

// holds tells whether f is in the machine as it should be.
func (m machine) holds(f file) (bool, error) {
	data, err := os.ReadFile(m.path(f.path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info, err := os.Stat(m.path(f.path))
	if err != nil {
		return false, err
	}
	return bytes.Equal(data, f.data) && info.Mode().Perm()&f.mode == f.mode, nil
}
