// Package udevrules holds mdclone's udev rules: one file is a template that mdclone-gen fills in, the other is as it is.
package udevrules

import _ "embed"

// Name is the rule file's. It sorts after 63-md-raid-arrays.rules and before dracut's 64-lvm.rules.
const Name = "63-mdclone.rules"

// Path is where the rule file is, below the root of the machine and below that of a boot image.
const Path = "usr/lib/udev/rules.d/" + Name

// StartPath is where the rule file is that starts arrays, below the root of the machine and below that of a boot image.
// It sorts after 64-md-raid-assembly.rules.
const StartPath = "usr/lib/udev/rules.d/65-mdclone.rules"

//go:embed 65-mdclone.rules
var start []byte

// Start is that file.
func Start() []byte { return append([]byte(nil), start...) }

//go:embed 63-mdclone.rules.in
var template string

// Template is the rule file as a text/template, with Sources (a text), HasClones and Arrays (of config.Array).
func Template() string { return template }
