// Mdclone-rescue is /init of the rescue image that mdclone-gen makes, and its shell and tools: one program by many names.
//
// As /init it loads the modules that are listed in /etc/mdclone/modules, assembles the arrays configured in /etc/mdclone
// from their own disks, holds their limits down (mdclone-early pin), and shows a menu on each console. It starts nothing
// above the arrays. Called by the name of a tool, or with it as the first argument, it is that tool.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"mvdan.cc/sh/v3/interp"

	"mdclone/pkg/report"
)

// version is set by the linker: -X main.version=...
var version = "unknown"

// own is the program's name where it is called by none of its others.
const own = "mdclone-rescue"

func main() { os.Exit(run(os.Args, os.Getpid(), streams{os.Stdin, os.Stdout, os.Stderr})) }

// streams are what a tool reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run is the program called with args; pid is this process's number.
func run(args []string, pid int, s streams) int {
	if pid == 1 {
		initialize(report.Log{W: s.err, Kmsg: report.OpenKmsg()})
	}
	name := filepath.Base(args[0])
	args = args[1:]
	if name == own && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	if name == "--version" {
		fmt.Fprintln(s.out, own, version)
		return 0
	}
	do := tools()[name]
	if do == nil {
		do = parts()[name]
	}
	if do == nil {
		fmt.Fprintf(s.err, "mdclone: error: %q is no tool of %s\n", name, own)
		return int(report.Usage)
	}
	return status(name, do(s, args), s)
}

// status says what went wrong, and is the exit status for it.
func status(name string, err error, s streams) int {
	var exit interp.ExitStatus
	var e *report.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &e):
		report.Log{W: s.err}.Fail(err)
		return int(e.Exit)
	}
	fmt.Fprintf(s.err, "%s: %v\n", name, err)
	return 1
}
