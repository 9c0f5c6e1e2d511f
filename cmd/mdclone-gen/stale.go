package main

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"mdclone/hooks"
	udevrules "mdclone/udev-rules"
)

// isTemporary tells whether a name is what renameio calls a file that will be base: with a dot before it and a number behind.
func isTemporary(name, base string) bool {
	number, ok := strings.CutPrefix(name, "."+base)
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// ownPaths are all that any install writes, below the root.
func ownPaths() []string {
	paths := append(ownPrograms(), manifestPath, stateImage, udevrules.Path, udevrules.StartPath, hooks.GrubPath)
	files := units()
	for _, g := range []generator{initramfsTools, dracut} {
		files = append(files, g.files()...)
	}
	for _, f := range files {
		paths = append(paths, f.path)
	}
	return paths
}

// dropTemporary removes what a run that was ended in the middle has left beside its files, from where it would get into boot
// images. The lock is held, so nobody is writing these. A new image of a kernel that is gone goes too.
func (a *app) dropTemporary(m machine) error {
	bases := map[string][]string{}
	for _, p := range ownPaths() {
		bases[path.Dir(p)] = append(bases[path.Dir(p)], path.Base(p))
	}
	var errs []error
	for folder, of := range bases {
		names, err := m.list(folder, func(name string) bool {
			return slices.ContainsFunc(of, func(base string) bool { return isTemporary(name, base) }) ||
				folder == path.Dir(stateImage) && strings.HasPrefix(name, "initrd.img-") && strings.HasSuffix(name, newSuffix)
		})
		errs = append(errs, err)
		for _, name := range names {
			a.log.Infof("%s is removed: a run that was ended has left it", m.path(name))
			if err := os.Remove(m.path(name)); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
