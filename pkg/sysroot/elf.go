package sysroot

import (
	"debug/elf"
	"fmt"
	"path/filepath"
	"strings"
)

// libraryDirs is where the dynamic linker looks after a file's own run path (ld.so(8)): Debian's folder for the processor,
// then the others'.
func libraryDirs(machine elf.Machine) []string {
	var dirs []string
	for of, name := range map[elf.Machine]string{
		elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu", elf.EM_386: "i386-linux-gnu",
		elf.EM_ARM: "arm-linux-gnueabihf", elf.EM_RISCV: "riscv64-linux-gnu",
	} {
		if of == machine {
			dirs = append(dirs, "usr/lib/"+name, "lib/"+name)
		}
	}
	return append(dirs, "usr/lib", "lib", "usr/lib64", "lib64")
}

// libraries returns the paths in tree of what the ELF file at path needs directly: its libraries and its interpreter.
func libraries(tree, path string) ([]string, error) {
	f, err := elf.Open(filepath.Join(tree, path))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read the libraries of %s: %w", path, err)
	}
	dirs, err := runPath(f, path)
	if err != nil {
		return nil, err
	}
	dirs = append(dirs, libraryDirs(f.Machine)...)
	var found []string
	for _, name := range names {
		candidates := make([]string, 0, len(dirs))
		for _, dir := range dirs {
			candidates = append(candidates, filepath.Join(dir, name))
		}
		lib, _, err := Find(tree, candidates...)
		if err != nil {
			return nil, fmt.Errorf("library of %s: %w", path, err)
		}
		found = append(found, lib)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name := make([]byte, p.Filesz)
		if _, err := p.ReadAt(name, 0); err != nil {
			return nil, fmt.Errorf("read the interpreter of %s: %w", path, err)
		}
		ld := strings.Trim(string(name), "\x00/")
		if ld, _, err = Find(tree, ld, "usr/"+ld); err != nil {
			return nil, fmt.Errorf("interpreter of %s: %w", path, err)
		}
		found = append(found, ld)
	}
	return found, nil
}

// runPath is the directories, relative to the tree, that f itself names.
func runPath(f *elf.File, path string) ([]string, error) {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, err := f.DynString(tag)
		if err != nil {
			return nil, fmt.Errorf("read the run path of %s: %w", path, err)
		}
		for _, value := range values {
			for _, dir := range strings.Split(value, ":") {
				dir = strings.ReplaceAll(dir, "$ORIGIN", "/"+filepath.Dir(path))
				dirs = append(dirs, strings.TrimPrefix(filepath.Clean(dir), "/"))
			}
		}
	}
	return dirs, nil
}
