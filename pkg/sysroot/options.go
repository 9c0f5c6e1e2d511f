package sysroot

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Options are the parameters that tree's modprobe.d gives to modules, by module, as the kernel reads them ("a=1 b=2").
// A file hides those of the same name in the folders that come after it (modprobe.d(5)).
func Options(tree string) (map[string]string, error) {
	files := map[string]string{}
	for _, dir := range []string{"etc/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d"} {
		found, err := os.ReadDir(filepath.Join(tree, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, f := range found {
			if name := f.Name(); files[name] == "" && strings.HasSuffix(name, ".conf") {
				files[name] = filepath.Join(tree, dir, name)
			}
		}
	}
	options := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text, err := os.ReadFile(files[name])
		if errors.Is(err, fs.ErrNotExist) { // a link to nowhere
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
			if words := strings.Fields(line); len(words) > 2 && words[0] == "options" {
				module := ModuleName(words[1])
				options[module] = strings.TrimSpace(options[module] + " " + strings.Join(words[2:], " "))
			}
		}
	}
	return options, nil
}
