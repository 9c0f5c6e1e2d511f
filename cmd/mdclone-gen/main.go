// Mdclone-gen puts mdclone into a machine and its boot images, tells whether what is in the images is what is configured,
// takes it out again, and lets the next boot make the clone.
//
// It reads /etc/mdclone/NAME.conf and writes /usr/lib/udev/rules.d/63-mdclone.rules, the hook of initramfs-tools or the
// module of dracut, a script for GRUB's menu, both programs, and /var/lib/mdclone/installed, the list of what it wrote. It
// makes rescue images too.
package main

import (
	"context"
	"io"
	"os"

	"mdclone/pkg/report"
)

// version is set by the linker: -X main.version=...
var version = "unknown"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := report.Interruptible()
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends it at once
	a := newApp(stdin, stdout, stderr)
	a.done = ctx.Done()
	return int(a.main(args))
}
