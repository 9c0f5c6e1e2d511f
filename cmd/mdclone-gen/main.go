// Mdclone-gen puts mdclone into a machine and its boot images, tells whether what is in the images is what is configured,
// and takes it out again.
//
// It reads /etc/mdclone/NAME.conf and writes /usr/lib/udev/rules.d/63-mdclone.rules, the hook of initramfs-tools, both
// programs, and /var/lib/mdclone/installed, the list of what it wrote.
package main

import (
	"io"
	"os"
)

// version is set by the linker: -X main.version=...
var version = "unknown"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, _ io.Reader, stdout, stderr io.Writer) int {
	return int(newApp(stdout, stderr).main(args))
}
