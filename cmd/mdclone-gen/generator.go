package main

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	"mdclone/hooks"
	"mdclone/initramfs"
	"mdclone/pkg/report"
)

// generator is what makes the machine's boot images: a package's name.
type generator string

const (
	noGenerator    generator = ""
	initramfsTools generator = "initramfs-tools"
	dracut         generator = "dracut"
)

const (
	updateInitramfs     = "usr/sbin/update-initramfs"
	hookFunctions       = "usr/share/initramfs-tools/hook-functions"
	dracutProgram       = "usr/bin/dracut"
	dracutFunctionsPath = "usr/lib/dracut/dracut-functions.sh"
)

// generator finds it out. Debian has one of the two, but parts of the other may be left, and an update-initramfs may be
// dracut's own (Debian 14).
func (m machine) generator() generator {
	text, err := os.ReadFile(m.path(updateInitramfs))
	switch {
	case err == nil && m.exists(hookFunctions) && !bytes.Contains(text, []byte("dracut")):
		return initramfsTools
	case m.exists(dracutProgram) && m.exists(dracutFunctionsPath):
		return dracut
	}
	return noGenerator
}

// needGenerator says what to do where there is none.
func (m machine) needGenerator() error {
	if m.generator() != noGenerator {
		return nil
	}
	return report.Fail(report.Failed, "no-generator", "neither initramfs-tools nor dracut is installed in %s", m.root).
		Hint("install one of these packages, with which the boot images are made").
		Hint("--update-initramfs=never writes the files for initramfs-tools without making boot images")
}

// files are what the generator takes into the images, or runs to do so. Without one they are those of initramfs-tools, which
// may still come.
func (g generator) files() []file {
	var files []file
	if g == dracut {
		module := hooks.Dracut()
		for _, name := range slices.Sorted(maps.Keys(module)) {
			mode := fs.FileMode(0o644)
			if isProgram(name) {
				mode = 0o755
			}
			files = append(files, file{path: name, data: module[name], mode: mode})
		}
		return files
	}
	files = append(files, file{path: hooks.InitramfsToolsPath, data: hooks.InitramfsTools(), mode: 0o755})
	for _, path := range slices.Sorted(maps.Keys(initramfs.Scripts())) {
		files = append(files, file{path: path, data: initramfs.Script(), mode: 0o755})
	}
	return files
}

// others are the paths of files that are another generator's.
func (g generator) others() []string {
	other := dracut
	if g == dracut {
		other = initramfsTools
	}
	var paths []string
	for _, f := range other.files() {
		paths = append(paths, f.path)
	}
	return paths
}

// scripts are those of files that go into an image under another name: by the path below the root of the machine, that below
// the root of the image.
func (g generator) scripts() map[string]string {
	if g == dracut {
		return hooks.DracutInImage()
	}
	return initramfs.Scripts()
}

// isProgram tells a program or script among what goes into an image from a file that is read.
func isProgram(name string) bool { return path.Ext(name) != ".conf" }

// recipe is how a person makes all boot images anew.
func (g generator) recipe() string {
	if g == dracut {
		return "dracut --force for each kernel"
	}
	return "update-initramfs -u -k all"
}
