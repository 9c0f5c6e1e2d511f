package config

import (
	"strings"
	"unicode"
)

// KernelParams are the parameters on the kernel's command line. Blanks within double quotes are part of one
// (Documentation/admin-guide/kernel-parameters.rst).
func KernelParams(cmdline string) []string {
	quoted := false
	return strings.FieldsFunc(cmdline, func(r rune) bool {
		quoted = quoted != (r == '"')
		return !quoted && unicode.IsSpace(r)
	})
}
