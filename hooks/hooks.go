// Package hooks holds what mdclone puts into the generators of boot images.
package hooks

import (
	_ "embed"
)

// InitramfsToolsPath is where initramfs-tools looks for a package's hook, below the root of the machine. It takes files
// that are executable and named with letters, digits, dot, dash and underscore only (initramfs-tools(7)).
const InitramfsToolsPath = "usr/share/initramfs-tools/hooks/mdclone"

//go:embed initramfs-tools/mdclone
var initramfsTools []byte

// InitramfsTools is the hook for initramfs-tools 0.142 and later.
func InitramfsTools() []byte { return append([]byte(nil), initramfsTools...) }
