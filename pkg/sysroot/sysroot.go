// Package sysroot cuts pieces out of the root directory of a system: programs with the libraries that they need, and modules
// of a kernel with those that they depend on. What is put together of them has a merged /usr, whatever the system has.
package sysroot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Cutter puts pieces of a tree somewhere, each once. Paths are relative to a root; those that it puts things at are merged.
type Cutter struct {
	Tree string
	Copy func(from, to string) error // a file: from is its name for this process
	Link func(target, path string) error
	Done map[string]bool // what is there, by path in the tree
}

// Programs puts the programs of these names there.
func (c *Cutter) Programs(names ...string) error {
	for _, name := range names {
		if err := c.File("usr/sbin/"+name, "sbin/"+name, "usr/bin/"+name, "bin/"+name); err != nil {
			return err
		}
	}
	return nil
}

// File puts there the first of paths that the tree has: a symbolic link with what it leads to, an ELF file with what it
// needs.
func (c *Cutter) File(paths ...string) error {
	found, real, err := Find(c.Tree, paths...)
	if err != nil {
		return err
	}
	if c.Done == nil {
		c.Done = map[string]bool{}
	}
	if Merged(found) != Merged(real) && !c.Done[found] {
		c.Done[found] = true
		if err := c.Link("/"+Merged(real), Merged(found)); err != nil {
			return err
		}
	}
	if c.Done[real] {
		return nil
	}
	c.Done[real] = true
	from := filepath.Join(c.Tree, real)
	if err := c.Copy(from, Merged(real)); err != nil {
		return err
	}
	if isELF, err := hasPrefix(from, "\x7fELF"); err != nil || !isELF {
		return err
	}
	needs, err := libraries(c.Tree, real)
	if err != nil {
		return err
	}
	for _, lib := range needs {
		if err := c.File(lib); err != nil {
			return err
		}
	}
	return nil
}

// Find returns the path inside tree of the first of paths that exists, following a last symbolic link as if tree were
// the root.
func Find(tree string, paths ...string) (found, real string, err error) {
	for _, p := range paths {
		found = p
		for range 10 {
			info, err := os.Lstat(filepath.Join(tree, p))
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err != nil {
				return "", "", err
			}
			if info.Mode()&os.ModeSymlink == 0 {
				return found, p, nil
			}
			to, err := os.Readlink(filepath.Join(tree, p))
			if err != nil {
				return "", "", err
			}
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir("/"+p), to)
			}
			p = strings.TrimPrefix(filepath.Clean(to), "/")
		}
	}
	return "", "", fmt.Errorf("find %s in %s: %w", strings.Join(paths, " or "), tree, os.ErrNotExist)
}

// Merged is p on a system where /bin, /sbin and /lib are links into /usr, which a guest's root is and a tree need not be.
func Merged(p string) string {
	p = strings.TrimPrefix(filepath.Clean("/"+p), "/")
	for _, top := range []string{"bin", "sbin", "lib", "lib64"} {
		if p == top || strings.HasPrefix(p, top+"/") {
			return "usr/" + p
		}
	}
	return p
}

func hasPrefix(path, prefix string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	buf := make([]byte, len(prefix))
	if _, err := io.ReadFull(f, buf); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	return string(buf) == prefix, nil
}
