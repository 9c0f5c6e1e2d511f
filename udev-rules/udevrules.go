// Package udevrules holds the template of mdclone's udev rules; mdclone-gen fills it in.
package udevrules

import _ "embed"

// Name is the rule file's. It sorts after 63-md-raid-arrays.rules and before dracut's 64-lvm.rules.
const Name = "63-mdclone.rules"

// Path is where the rule file is, below the root of the machine and below that of a boot image.
const Path = "usr/lib/udev/rules.d/" + Name

//go:embed 63-mdclone.rules.in
var template string

// Template is the rule file as a text/template, with Sources (a text), HasClones and Arrays (of config.Array).
func Template() string { return template }
