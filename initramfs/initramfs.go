// Package initramfs holds what runs inside the initramfs, besides the binary.
package initramfs

import (
	_ "embed"
)

// toolsDir is where initramfs-tools looks for a package's scripts, below the root of the machine. mkinitramfs copies all
// of them into the image, where the folder is scripts.
const toolsDir = "usr/share/initramfs-tools/"

//go:embed mdclone
var script []byte

// Script is run by initramfs-tools at each of the places that Scripts lists.
func Script() []byte { return append([]byte(nil), script...) }

// Scripts lists where the script is: by its path below the root of the machine, that below the root of an image.
func Scripts() map[string]string {
	paths := map[string]string{}
	// initramfs-tools takes no other characters in a script's name
	for _, script := range []string{"init-premount/mdclone", "local-block/mdclone", "local-block/mdclone_after", "init-bottom/mdclone"} {
		inImage := "scripts/" + script
		paths[toolsDir+inImage] = inImage
	}
	return paths
}
