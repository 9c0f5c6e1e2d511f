package vm

import (
	"bytes"
	"context"
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

// modules are the kernel modules of one kernel in a tree.
type modules struct {
	release string
	dir     string            // absolute
	path    map[string]string // by name, relative to dir
	builtin map[string]bool
}

// readModules finds the modules of the only kernel in tree.
func readModules(tree string) (*modules, error) {
	dirs, err := filepath.Glob(filepath.Join(tree, "usr/lib/modules/*"))
	if err == nil && len(dirs) == 0 {
		dirs, err = filepath.Glob(filepath.Join(tree, "lib/modules/*"))
	}
	if err != nil || len(dirs) != 1 {
		return nil, fmt.Errorf("find the modules in %s: %d kernels, want 1: %w", tree, len(dirs), errors.Join(err))
	}
	m := &modules{dir: dirs[0], release: filepath.Base(dirs[0]), path: map[string]string{}, builtin: map[string]bool{}}
	err = filepath.WalkDir(m.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(d.Name(), ".ko") {
			m.path[moduleName(path)] = strings.TrimPrefix(path, m.dir+"/")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(m.dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Fields(string(text)) {
		m.builtin[moduleName(line)] = true
	}
	return m, nil
}

// moduleName is the name, as the kernel spells it, of the module in the file path.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// read returns the uncompressed module name.
func (m *modules) read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(m.dir, m.path[name]))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(m.path[name]) {
	case ".xz":
		r, err = xz.NewReader(f)
	case ".zst":
		r, err = zstd.NewReader(f)
	}
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", m.path[name], err)
	}
	image, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.path[name], err)
	}
	return image, nil
}

// visit calls f once for each of names and what they depend on, dependencies first. Names that are built in are passed
// over; one that this kernel does not have is an error if required.
func (m *modules) visit(names []string, required bool, seen map[string]bool, f func(name string, image []byte) error) error {
	for _, name := range names {
		if seen[name] || m.builtin[name] {
			continue
		}
		if m.path[name] == "" {
			if required {
				return fmt.Errorf("kernel %s has no module %s", m.release, name)
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
		if err := m.visit(needs, true, seen, f); err != nil {
			return err
		}
		if err := f(name, image); err != nil {
			return err
		}
	}
	return nil
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

// copyIndex copies to stage what modprobe needs beside the modules, and makes the rest with depmod.
func (m *modules) copyIndex(ctx context.Context, stage string) error {
	for _, name := range []string{"modules.builtin", "modules.builtin.modinfo", "modules.order"} {
		if err := copyFile(filepath.Join(m.dir, name), filepath.Join(stage, "usr/lib/modules", m.release, name)); err != nil {
			return err
		}
	}
	_, err := output(ctx, "depmod", "-b", stage, m.release)
	return err
}
