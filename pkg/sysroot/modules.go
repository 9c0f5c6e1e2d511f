package sysroot

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Modules are the modules of one kernel in a tree. Their names are as the kernel spells them: raid1, md_mod.
type Modules struct {
	Release string            // of the kernel, as uname -r prints it
	Dir     string            // theirs, absolute
	Path    map[string]string // by name, relative to Dir
	builtin map[string]bool
}

// Kernels lists the releases whose modules are in tree, sorted.
func Kernels(tree string) ([]string, error) {
	for _, dir := range []string{"usr/lib/modules", "lib/modules"} {
		entries, err := os.ReadDir(filepath.Join(tree, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if len(entries) == 0 {
			continue
		}
		releases := make([]string, 0, len(entries))
		for _, e := range entries {
			releases = append(releases, e.Name())
		}
		return releases, nil
	}
	return nil, nil
}

// ReadModules finds the modules of the kernel release in tree.
func ReadModules(tree, release string) (*Modules, error) {
	m := &Modules{Release: release, Path: map[string]string{}, builtin: map[string]bool{}}
	m.Dir = filepath.Join(tree, "usr/lib/modules", release)
	if _, err := os.Stat(m.Dir); errors.Is(err, os.ErrNotExist) {
		m.Dir = filepath.Join(tree, "lib/modules", release)
	}
	err := filepath.WalkDir(m.Dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(d.Name(), ".ko") {
			m.Path[ModuleName(path)] = strings.TrimPrefix(path, m.Dir+"/")
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find the modules of kernel %s: %w", release, err)
	}
	text, err := os.ReadFile(filepath.Join(m.Dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Fields(string(text)) {
		m.builtin[ModuleName(line)] = true
	}
	return m, nil
}

// ModuleName is the name, as the kernel spells it, of the module in the file path.
func ModuleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// read returns the uncompressed module name.
func (m *Modules) read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(m.Dir, m.Path[name]))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(m.Path[name]) {
	case ".xz":
		r, err = xz.NewReader(f)
	case ".zst":
		r, err = zstd.NewReader(f)
	}
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", m.Path[name], err)
	}
	image, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.Path[name], err)
	}
	return image, nil
}

// Visit calls f once for each of names and what they depend on, dependencies first, which are named in needs. Names that
// are built in, or seen, are passed over; one that this kernel does not have is an error if required.
func (m *Modules) Visit(names []string, required bool, seen map[string]bool,
	f func(name string, needs []string, image []byte) error,
) error {
	for _, name := range names {
		if seen[name] || m.builtin[name] {
			continue
		}
		if m.Path[name] == "" {
			if required {
				return fmt.Errorf("kernel %s has no module %s", m.Release, name)
			}
			continue
		}
		seen[name] = true
		image, err := m.read(name)
		if err != nil {
			return err
		}
		needs, err := depends(image)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		if err := m.Visit(needs, true, seen, f); err != nil {
			return err
		}
		if err := f(name, needs, image); err != nil {
			return err
		}
	}
	return nil
}

// Plain is where an uncompressed module belongs, relative to Dir.
func (m *Modules) Plain(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(m.Path[name], ".xz"), ".zst")
}

// depends reads the modules that image needs from its .modinfo section (include/linux/moduleparam.h, Linux 6.12).
func depends(image []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, line := range strings.Split(string(info), "\x00") {
		if list, ok := strings.CutPrefix(line, "depends="); ok {
			for _, name := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
				names = append(names, strings.ReplaceAll(name, "-", "_"))
			}
		}
	}
	return names, nil
}
