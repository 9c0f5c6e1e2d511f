package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysroot"
)

// loadingMark, before a module's name, is the mark that it is being loaded: where it is there at the start, that was in vain.
const loadingMark = "loading-"

// loader loads modules with their parameters, which the kernel leaves to whoever loads them, each after those that it needs.
type loader struct {
	needs, params map[string]string
	seen          map[string]bool
	probe         func(name, params string) error
}

func (l loader) load(name string) error {
	if l.seen[name] {
		return nil
	}
	l.seen[name] = true
	for _, needed := range strings.Fields(l.needs[name]) {
		_ = l.load(needed) // without it the module itself fails
	}
	return l.probe(name, l.params[name])
}

// markedProbe loads a module, but not one in which an earlier try was left behind.
func markedProbe(run string) func(name, params string) error {
	return func(name, params string) error {
		mark := filepath.Join(run, loadingMark+name)
		f, err := os.OpenFile(mark, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return errors.Join(probe(name, params), f.Close(), os.Remove(mark))
	}
}

// parseNeeds reads modules.dep: what each module needs, by name (depmod(8)).
func parseNeeds(text string) map[string]string {
	needs := map[string]string{}
	for line := range strings.Lines(text) {
		module, rest, _ := strings.Cut(line, ":")
		var names []string
		for _, path := range strings.Fields(rest) {
			names = append(names, sysroot.ModuleName(path))
		}
		needs[sysroot.ModuleName(module)] = strings.Join(names, " ")
	}
	return needs
}

// parseParams adds the parameters of modules that are on the kernel's command line to those of options: MODULE.PARAMETER=VALUE,
// where VALUE may be quoted.
func parseParams(options, cmdline string) map[string]string {
	params := map[string]string{
		// keyboards whose own drivers are not in the image are keyboards all the same (drivers/hid/hid-generic.c, Linux 6.12)
		"hid": "ignore_special_drivers=1",
	}
	add := func(module, text string) {
		module = sysroot.ModuleName(module)
		params[module] = strings.TrimSpace(params[module] + " " + text)
	}
	for line := range strings.Lines(options) {
		module, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		add(module, text)
	}
	for _, word := range config.KernelParams(cmdline) {
		key, value, valued := strings.Cut(word, "=")
		module, param, ok := strings.Cut(key, ".")
		if !ok || strings.HasPrefix(key, `"`) {
			continue
		}
		if valued {
			param += "=" + value
		}
		add(module, param)
	}
	return params
}

// loadListed loads the listed modules. A driver whose hardware is not here may refuse, which is no error.
func loadListed(root string) error {
	release, err := md.Release()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "usr/lib/modules", release)
	if _, err := os.Stat(dir); err != nil {
		return report.Fail(report.Failed, "wrong-kernel", "this rescue image has no modules for Linux %s, which runs here", release).
			Hint("start it with the kernel that it was made for, or make one for this kernel: mdclone-gen rescue --kernel %s", release)
	}
	run := filepath.Join(root, config.RunDir)
	errs := []error{os.MkdirAll(run, 0o755)}
	read := func(path string) string {
		text, err := os.ReadFile(path)
		errs = append(errs, err)
		return string(text)
	}
	l := loader{
		needs:  parseNeeds(read(filepath.Join(dir, "modules.dep"))),
		params: parseParams(read(filepath.Join(root, config.OptionsFile)), read(filepath.Join(root, "proc/cmdline"))),
		seen:   map[string]bool{}, probe: markedProbe(run),
	}
	// where that driver is built in
	err = os.WriteFile(filepath.Join(root, "sys/module/hid/parameters/ignore_special_drivers"), []byte("1"), 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, name := range strings.Fields(read(filepath.Join(root, config.ModulesFile))) {
		if err := l.load(name); err != nil && essential(name) {
			errs = append(errs, fmt.Errorf("load module %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// essential says without which modules nothing works.
func essential(name string) bool { return name == "md_mod" || name == "raid1" }
