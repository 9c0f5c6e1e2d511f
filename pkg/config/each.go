package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mdclone/pkg/md"
)

// LoadEach is Load for a boot, where one bad file must not leave all arrays alone while udev's rule still hides their clones.
// What is wrong is in errs; of a file that cannot be read as a whole it takes which array and clones it names, if that is
// certain, and of two for one array the first, with the clones of both.
func LoadEach(root string) (all []Array, errs []error) {
	dir := filepath.Join(root, Dir)
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, []error{err}
	}
	for _, f := range files {
		name := filepath.Join(dir, f.Name())
		if !strings.HasSuffix(name, ".conf") || strings.HasPrefix(f.Name(), ".") { // an editor's, or a file in the making
			continue
		}
		a, ok, err := load(name)
		if err != nil {
			errs = append(errs, err)
		}
		if !ok {
			continue
		}
		known := false
		for i, b := range all {
			for _, u := range a.Clones {
				switch {
				case b.HasClone(u) && b.UUID != a.UUID: // its superblock says whose it is
					errs = append(errs, fmt.Errorf("%s: clone %s is in %s.conf already", name, u, b.Name))
				case !b.HasClone(u) && b.UUID == a.UUID:
					all[i].Clones = append(all[i].Clones, u)
				}
			}
			if b.UUID == a.UUID {
				errs = append(errs, fmt.Errorf("%s: array %s is in %s.conf already", name, a.UUID, b.Name))
				known = true
			}
		}
		if !known {
			all = append(all, a)
		}
	}
	return all, errs
}

// load reads a file. With an error it may still be ok: the array is known then.
func load(name string) (a Array, ok bool, err error) {
	text, err := read(name)
	if err != nil {
		return Array{}, false, err
	}
	called := strings.TrimSuffix(filepath.Base(name), ".conf")
	if a, err = Parse(called, text); err == nil {
		return a, true, nil
	}
	a, ok = essence(called, string(text))
	return a, ok, fmt.Errorf("%s: %w", name, err)
}

// essence is the array that a bad file names, with its clones, if all of these lines are good. A clone that is not known
// would be taken for one of the machine's own disks.
func essence(called, text string) (a Array, ok bool) {
	a = Array{Name: called, Verify: VerifyChanged}
	if CheckName(called) != nil {
		return a, false
	}
	for _, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`)
		var err error
		switch {
		case strings.HasPrefix(key, "#"):
		case key == "clone-max-sectors-kb":
			a.CloneMaxSectorsKB, _ = ParseKB(value)
		case key == "max-sectors-kb":
			a.MaxSectorsKB, _ = ParseKB(value)
		case key == "array" && !ok:
			a.UUID, err = md.ParseUUID(value)
			ok = true
		case key == "clone":
			var u md.UUID
			u, err = md.ParseUUID(value)
			a.Clones = append(a.Clones, u)
		case key == "boot-wait":
			a.BootWait, _ = ParseBootWait(value)
		case strings.Contains(key, "array") || strings.Contains(key, "clone"):
			return a, false
		}
		if err != nil {
			return a, false
		}
	}
	return a, ok
}
