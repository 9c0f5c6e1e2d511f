package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"mdclone/hooks"
	"mdclone/pkg/config"
	"mdclone/pkg/initrd"
	"mdclone/pkg/report"
	udevrules "mdclone/udev-rules"
)

const (
	earlyPath = "usr/sbin/mdclone-early"
	genPath   = "usr/sbin/mdclone-gen"
)

var rules = []string{udevrules.Path, udevrules.StartPath}

// modules are what the kernel needs to start the array.
func modules() []string { return []string{"md-mod", "raid1"} }

// expected is what every boot image must hold, and forRescue of it the rescue image.
type expected struct {
	sums     map[string][32]byte // by path: what must be byte for byte the same
	loaded   [32]byte            // of mdclone-early, what is loaded of it: the generator may strip it of the rest
	programs []string            // which of these must be executable
	ofKernel func(version, file string) []byte
	previous []report.Reason // what is wrong in the machine itself already
}

// expect reads what is configured and installed in the machine.
func (m machine) expect(arrays []config.Array) (expected, error) {
	e := expected{sums: map[string][32]byte{}, programs: []string{earlyPath}}
	e.ofKernel = func(version, file string) []byte {
		text, err := os.ReadFile(m.path("lib/modules/" + version + "/" + file))
		if err != nil { // then nothing is known of it
			return nil
		}
		return text
	}
	want, err := rule(arrays)
	if err != nil {
		return e, err
	}
	e.sums[udevrules.Path] = sha256.Sum256(want)
	names := []string{earlyPath, udevrules.Path, udevrules.StartPath}
	for _, a := range arrays {
		names = append(names, confPath(a.Name))
	}
	scripts := m.generator().scripts()
	for _, name := range append(names, slices.Sorted(maps.Keys(scripts))...) {
		data, err := os.ReadFile(m.path(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			e.previous = append(e.previous, report.Reason{Code: "not-installed", Text: m.path(name) + " is missing"})
		case err != nil:
			return e, err
		case name != udevrules.Path:
			inImage := name
			if other, ok := scripts[name]; ok {
				inImage = other
				if isProgram(other) {
					e.programs = append(e.programs, other)
				}
			}
			e.sums[inImage] = sha256.Sum256(data)
			if name == earlyPath {
				e.loaded, _ = loaded(data) // what is no program is compared as it is
			}
		case !bytes.Equal(data, want):
			e.previous = append(e.previous, report.Reason{
				Code: "rule-stale", Text: m.path(name) + " is not what /" + config.Dir + " says",
			})
		}
	}
	return e, nil
}

// forRescue is what the rescue image must hold: it has neither udev nor scripts, and its kernel is its own.
func (e expected) forRescue() expected {
	all := e.sums
	e.sums = map[string][32]byte{}
	for name, sum := range all {
		if name == earlyPath || path.Dir(name) == config.Dir {
			e.sums[name] = sum
		}
	}
	return e
}

// check compares one boot image with what it must hold, or a rescue image.
func (e expected) check(b bootImage) imageReport {
	image, err := b.read(func(p string) bool { return path.Base(p) == "modules.builtin" || p == earlyPath || p == rescueKernel })
	switch {
	case err != nil:
		return imageReport{Differences: unreadable(b.name, err), rescue: path.Base(b.name) == path.Base(rescueImage)}
	case exists(image, config.RescueProgram):
		return imageReport{Differences: append(e.forRescue().compareFiles(image), besideRescue(image, b.name)...), rescue: true}
	}
	return imageReport{Differences: e.compare(image, b.version)}
}

// compare lists what is wrong in an image; version is its kernel's if it does not tell itself.
func (e expected) compare(image *initrd.Image, version string) []report.Reason {
	found := e.compareFiles(image)
	for _, folder := range []string{"etc", "run"} { // these come before usr/lib (udev(7))
		for _, rule := range rules {
			if other := folder + "/udev/rules.d/" + path.Base(rule); exists(image, other) {
				found = append(found, report.Reason{
					Code: "overridden", Text: fmt.Sprintf("/%s takes the place of /%s", other, rule),
				})
			}
		}
	}
	return append(found, e.missingModules(image, version)...)
}

// compareFiles lists the files that are not as they must be, and those of the configuration that are too many.
func (e expected) compareFiles(image *initrd.Image) []report.Reason {
	var found []report.Reason
	say := func(code, format string, args ...any) {
		found = append(found, report.Reason{Code: code, Text: fmt.Sprintf(format, args...)})
	}
	for _, name := range slices.Sorted(maps.Keys(e.sums)) {
		switch got, ok := inImage(image, name); {
		case !ok:
			say("missing", "/%s is not in it", name)
		case !got.Mode.IsRegular() || got.SHA256 != e.sums[name] && (name != earlyPath || !e.loadsTheSame(got.Data)):
			say("stale", "/%s is another one than it should be", name)
		case slices.Contains(e.programs, name) && got.Mode&0o111 == 0:
			say("stale", "/%s is not executable", name)
		}
	}
	for _, name := range image.List(config.Dir) {
		conf := config.Dir + "/" + name
		if _, ok := e.sums[conf]; !ok && strings.HasSuffix(name, ".conf") {
			say("stale", "/%s is in it but is not configured", conf)
		}
	}
	if !exists(image, config.EarlyMark) {
		say("missing", "/%s is not in it", config.EarlyMark)
	}
	return found
}

// loadsTheSame tells whether a program is mdclone-early but for what is not loaded.
func (e expected) loadsTheSame(program []byte) bool {
	got, err := loaded(program)
	return err == nil && got == e.loaded
}

func exists(image *initrd.Image, name string) bool {
	_, ok := image.Lookup(name)
	return ok
}

// inImage finds a file; udev looks for rules in lib as well, which may or may not be a link to usr/lib.
func inImage(image *initrd.Image, name string) (initrd.Entry, bool) {
	got, ok := image.Lookup(name)
	if !ok && slices.Contains(rules, name) {
		return image.Lookup(strings.TrimPrefix(name, "usr/"))
	}
	return got, ok
}

// missingModules lists the modules that are neither in the image nor in the kernel.
func (e expected) missingModules(image *initrd.Image, version string) []report.Reason {
	have := map[string]bool{}
	versions := map[string]bool{}
	for name, entry := range image.Files() {
		rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "usr/"), "lib/modules/")
		if !ok {
			continue
		}
		v, _, below := strings.Cut(rest, "/")
		if versions[v] = true; below && entry.Mode.IsRegular() {
			have[v+"/"+moduleName(name)] = true
		}
		if path.Base(name) == "modules.builtin" {
			e.addBuiltin(have, v, entry.Data)
		}
	}
	if len(versions) == 0 && version != "" {
		versions[version] = true
	}
	var found []report.Reason
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		e.addBuiltin(have, v, e.ofKernel(v, "modules.builtin"))
		for _, module := range modules() {
			if !have[v+"/"+module] {
				found = append(found, report.Reason{
					Code: "missing", Text: fmt.Sprintf("module %s for kernel %s is not in it", module, v),
				})
			}
		}
		if missing := e.missingDrivers(have, v); len(missing) > 0 {
			found = append(found, report.Reason{Code: "missing", Text: fmt.Sprintf(
				"drivers of disks for kernel %s are not in it, and the clone may need them: %s", v, strings.Join(missing, ", "),
			)})
		}
	}
	if len(versions) == 0 {
		found = append(found, report.Reason{Code: "missing", Text: "there are no kernel modules in it"})
	}
	return found
}

// missingDrivers are those of the usual disks that the kernel has as modules and the image has not. modules.dep begins a line
// with the module's file and a colon (modules.dep(5)).
func (e expected) missingDrivers(have map[string]bool, version string) []string {
	kernel := map[string]bool{}
	for _, line := range strings.Split(string(e.ofKernel(version, "modules.dep")), "\n") {
		file, _, _ := strings.Cut(line, ":")
		kernel[moduleName(file)] = true
	}
	return slices.DeleteFunc(hooks.DiskModules(), func(name string) bool {
		name = moduleName(name + ".ko")
		return !kernel[name] || have[version+"/"+name]
	})
}

// addBuiltin notes what a modules.builtin file names: one "kernel/drivers/md/raid1.ko" a line (kbuild.rst, Linux 6.12).
func (e expected) addBuiltin(have map[string]bool, version string, text []byte) {
	for _, line := range strings.Fields(string(text)) {
		have[version+"/"+moduleName(line)] = true
	}
}

// moduleName is "md-mod" for ".../md_mod.ko.xz", and "" for what is not a module.
func moduleName(file string) string {
	name, suffix, ok := strings.Cut(filepath.Base(file), ".ko")
	if !ok || suffix != "" && !slices.Contains([]string{".gz", ".xz", ".zst"}, suffix) {
		return ""
	}
	return strings.ReplaceAll(name, "_", "-")
}

// whole tells whether a boot image can be read to its end.
func whole(b bootImage) imageReport {
	if _, err := b.read(nil); err != nil {
		return imageReport{Differences: unreadable(b.name, err)}
	}
	return imageReport{}
}

// leftovers lists what of mdclone is in a boot image: what it puts there, not what somebody else has named after it.
func leftovers(b bootImage) (found imageReport) {
	image, err := b.read(nil)
	if err != nil {
		return imageReport{Differences: unreadable(b.name, err)}
	}
	names := append([]string{earlyPath}, rules...)
	for _, g := range []generator{initramfsTools, dracut} {
		names = append(names, slices.Collect(maps.Values(g.scripts()))...)
	}
	names = slices.DeleteFunc(names, func(name string) bool { _, ok := inImage(image, name); return !ok })
	for _, name := range image.List(config.Dir) {
		names = append(names, config.Dir+"/"+name)
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		found.Differences = append(found.Differences, report.Reason{Code: "left", Text: "/" + name + " is still in it"})
	}
	return found
}
