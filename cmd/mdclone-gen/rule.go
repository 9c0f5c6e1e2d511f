package main

import (
	"bytes"
	"strings"
	"text/template"

	"mdclone/pkg/config"
	udevrules "mdclone/udev-rules"
)

// rule makes the udev rule file for arrays, in the order in which config.Load returns them. The same configuration always
// makes the same file, so that a file that differs is a stale one.
func rule(arrays []config.Array) ([]byte, error) {
	t, err := template.New(udevrules.Name).Parse(udevrules.Template())
	if err != nil {
		return nil, err
	}
	in := struct {
		Sources   string
		HasClones bool
		Arrays    []config.Array
	}{Arrays: arrays}
	var names []string
	for _, a := range arrays {
		names = append(names, "/"+confPath(a.Name))
		in.HasClones = in.HasClones || len(a.Clones) > 0
	}
	in.Sources = strings.Join(names, ", ")
	var out bytes.Buffer
	if err := t.Execute(&out, in); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// confPath is an array's configuration file, below the root.
func confPath(name string) string { return config.Dir + "/" + name + ".conf" }
