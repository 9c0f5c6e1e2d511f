package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/jessevdk/go-flags"

	"mdclone/pkg/report"
)

// app is what all commands share. Its function fields are there for tests.
type app struct {
	stdout, stderr io.Writer
	log            report.Log
	euid           func() int
	self           func() (string, error)                        // file name of the running program
	command        func(root, name string, args ...string) error // runs a program of the machine below root
	udevRuns       func() bool                                   // is there a udev daemon to be told about new rules
	document       *document                                     // what a command had to say as JSON
}

func newApp(stdout, stderr io.Writer) *app {
	a := &app{stdout: stdout, stderr: stderr, log: report.Log{W: stderr}, euid: os.Geteuid, self: executable}
	a.command = func(root, name string, args ...string) error { return runIn(stderr, root, name, args...) }
	a.udevRuns = func() bool {
		_, err := os.Stat("/run/udev/control")
		return err == nil
	}
	return a
}

// executable is os.Executable, which needs /proc, with a second try for a bare chroot.
func executable() (string, error) {
	self, err := os.Executable()
	if err == nil {
		return self, nil
	}
	if self, lookErr := exec.LookPath(os.Args[0]); lookErr == nil {
		return filepath.Abs(self)
	}
	return "", err
}

// runIn runs a program inside root; all that it prints goes to output.
func runIn(output io.Writer, root, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Dir = "/"
	// hooks and update-initramfs need sbin; a TMPDIR may not exist inside root
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PATH=") && (root == "/" || !strings.HasPrefix(v, "TMPDIR=")) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	if root != "/" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	}
	return cmd.Run()
}

// options are those of every command.
type options struct {
	Root string `long:"root" value-name:"DIR" default:"/" description:"the root folder of the machine to work on"`
	JSON bool   `long:"json" description:"print one JSON object on stdout"`
}

// updateOption is for commands that make the boot images anew.
type updateOption struct {
	Update string `long:"update-initramfs" choice:"auto" choice:"never" default:"auto" description:"auto: make the boot images anew and check them; never: leave them alone"`
}

// main runs one command.
func (a *app) main(args []string) report.Code {
	var said bytes.Buffer
	wantJSON := slices.Contains(args, "--json")
	if wantJSON {
		a.log.W = io.MultiWriter(a.stderr, &said)
	}
	parser, err := a.parser()
	if err != nil {
		a.log.Fail(err)
		return report.Failed
	}
	code := report.Parse(parser, args, a.stdout, a.log)
	doc := a.document
	if doc == nil && code != report.Done { // the command did not come to run
		text := strings.TrimPrefix(strings.SplitN(said.String(), "\n", 2)[0], "mdclone: error: ")
		doc = &document{Result: code.Result(), Reasons: []report.Reason{{Code: "usage", Text: text}}}
	}
	if wantJSON && doc != nil {
		if err := doc.json(a.stdout); err != nil {
			a.log.Fail(err)
			return report.Failed
		}
	}
	return code
}

// parser lists the commands.
func (a *app) parser() (*flags.Parser, error) {
	var global struct {
		Version func() error `long:"version" description:"print the version"`
	}
	global.Version = func() error { // ErrHelp is what go-flags calls "print this and be done"
		return &flags.Error{Type: flags.ErrHelp, Message: "mdclone-gen " + version + "\n"}
	}
	parser := flags.NewNamedParser("mdclone-gen", flags.HelpFlag|flags.PassDoubleDash)
	parser.LongDescription = longDescription
	if _, err := parser.AddGroup("Global Options", "", &global); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		name, short, long string
		data              any
	}{
		{"install", "put mdclone into the machine and its boot images", installDescription, &installCommand{app: a}},
		{"uninstall", "take it out again", uninstallDescription, &uninstallCommand{app: a}},
		{"verify", "is what is in the boot images what is configured?", verifyDescription, &verifyCommand{app: a}},
	} {
		if _, err := parser.AddCommand(c.name, c.short, c.long, c.data); err != nil {
			return nil, err
		}
	}
	return parser, nil
}

const longDescription = `Puts mdclone into a machine and its boot images (initramfs-tools), tells whether what is in the images is what is configured in /etc/mdclone, and takes it out again. See "mdclone-gen COMMAND --help".

EXIT STATUS
0 done, or nothing to do; 1 failed, or the images are not as configured; 2 wrong arguments or configuration`
