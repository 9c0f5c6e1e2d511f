package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"mdclone/pkg/report"
)

// machine is the file system of the machine to work on. Paths in it are relative to its root, as in "usr/sbin/mdclone-gen".
type machine struct{ root string }

// newMachine takes the argument of --root.
func newMachine(root string) (machine, error) {
	if root == "" { // a variable that is not set, say
		return machine{}, report.Fail(report.Usage, "root", "--root wants a folder")
	}
	at, err := filepath.Abs(root)
	if err == nil {
		at, err = filepath.EvalSymlinks(at)
	}
	if err != nil {
		return machine{}, report.Fail(report.Usage, "root", "--root %s: %w", root, err)
	}
	info, err := os.Stat(at)
	if err != nil {
		return machine{}, report.Fail(report.Usage, "root", "--root %s: %w", root, err)
	}
	if !info.IsDir() {
		return machine{}, report.Fail(report.Usage, "root", "--root %s: not a folder", root)
	}
	return machine{root: at}, nil
}

// change is newMachine for a caller who is going to change it.
func (a *app) change(o options, update string) (machine, error) {
	m, err := newMachine(o.Root)
	if err != nil {
		return machine{}, err
	}
	if a.euid() == 0 || m.root != "/" && update == "never" {
		return m, nil
	}
	what := "changing this machine"
	if m.root != "/" {
		what = "making the boot images of " + m.root
	}
	return m, report.Fail(report.Usage, "not-root", "%s takes root", what).Hint("run it with sudo")
}

// path is the name by which the running system knows a file of the machine.
func (m machine) path(name string) string { return filepath.Join(m.root, name) }

// exists tells whether something is there, symbolic links followed.
func (m machine) exists(name string) bool {
	_, err := os.Stat(m.path(name))
	return err == nil
}

// inside refuses a folder that a symbolic link takes out of the machine: an absolute link means something else in a chroot.
func (m machine) inside(folder string) error {
	at := m.path(folder)
	real, err := filepath.EvalSymlinks(at)
	if err != nil {
		return err
	}
	if m.root != "/" && real != m.root && !strings.HasPrefix(real, m.root+"/") {
		return fmt.Errorf("%s leads out of %s, to %s", at, m.root, real)
	}
	return nil
}

// list are the paths of what is in a folder of the machine and has a name that match takes, sorted; none if there is no folder.
// A pattern would take what is in the root's own name for a part of it, and says nothing of a folder that cannot be read.
func (m machine) list(folder string, match func(name string) bool) ([]string, error) {
	entries, err := os.ReadDir(m.path(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := m.inside(folder); err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if match(e.Name()) {
			found = append(found, filepath.Join(folder, e.Name()))
		}
	}
	return found, nil
}

// mkdirs makes folder and those above it, and returns which of them were not there, outermost first.
func (m machine) mkdirs(folder string) ([]string, error) {
	var made []string
	parts := strings.Split(folder, "/")
	for i := range parts {
		at := strings.Join(parts[:i+1], "/")
		err := os.Mkdir(m.path(at), 0o755)
		switch {
		case errors.Is(err, fs.ErrExist):
		case err != nil:
			return made, err
		default:
			made = append(made, at)
			if err := os.Chmod(m.path(at), 0o755); err != nil { // whatever the umask
				return made, err
			}
		}
		if err := m.inside(at); err != nil {
			return made, err
		}
	}
	return made, nil
}

// write replaces a file, whole or not at all; its folder is there.
func (m machine) write(name string, data []byte, mode fs.FileMode) error {
	return m.replace(name, data, renameio.WithStaticPermissions(mode))
}

// replace is write with what renameio is to do about permissions.
func (m machine) replace(name string, data []byte, options ...renameio.Option) error {
	path := m.path(name)
	f, err := renameio.NewPendingFile(path, append(options, renameio.WithTempDir(filepath.Dir(path)))...)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if _, err = f.Write(data); err == nil {
		err = f.CloseAtomicallyReplace()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), f.Cleanup())
	}
	return nil
}
