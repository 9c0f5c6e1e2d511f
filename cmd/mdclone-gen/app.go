package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jessevdk/go-flags"
	"golang.org/x/sys/unix"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// app is what all commands share. Its function fields are there for tests.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	log            report.Log
	euid           func() int
	self           func() (string, error)                                  // file name of the running program
	command        func(root, name string, args ...string) error           // runs a program of the machine below root
	output         func(root, name string, args ...string) (string, error) // likewise, for what it prints on stdout
	udevRuns       func() bool                                             // is there a udev daemon to be told about new rules
	terminal       func() bool                                             // is there somebody to ask
	now            func() time.Time
	rtc            func() time.Time           // the hardware clock taken for UTC, zero without one
	members        func() ([]md.Found, error) // of arrays, on this machine's disks
	starter        func(md.Found) (starter, error)
	loaded         func() string   // /proc/modules
	mounts         func() string   // /proc/self/mountinfo
	done           <-chan struct{} // closed by a signal that ends the run
	json           bool            // --json
	document       *document       // what a command had to say as JSON
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	a := &app{
		stdin: stdin, stdout: stdout, stderr: stderr, log: report.Log{W: stderr}, euid: os.Geteuid, self: executable,
		now: time.Now, rtc: hardwareClock, members: scanMembers, starter: starterOf, loaded: loadedModules, mounts: mountinfo,
	}
	a.command = func(root, name string, args ...string) error {
		if err := a.stopped(); err != nil {
			return err
		}
		return runIn(stderr, stderr, root, name, args...)
	}
	a.output = func(root, name string, args ...string) (string, error) {
		if err := a.stopped(); err != nil {
			return "", err
		}
		var out strings.Builder
		err := runIn(&out, stderr, root, name, args...)
		return out.String(), err
	}
	a.terminal = func() bool { return isTerminal(stdin) && isTerminal(stderr) }
	a.udevRuns = func() bool {
		_, err := os.Stat("/run/udev/control")
		return err == nil
	}
	return a
}

// stopped is the error of a run that a signal has ended; nil if there was none. It is asked between steps: each is done or not
// begun, and a program that runs is waited for, which a terminal's signal has reached too.
func (a *app) stopped() error {
	select {
	case <-a.done:
		return report.Fail(report.Interrupted, "interrupted", "interrupted").Hint("run the same command again")
	default:
		return nil
	}
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

// isTerminal tells whether a stream of this process is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// hardwareClock reads the clock that the kernel will take for UTC when it boots (CONFIG_RTC_HCTOSYS_DEVICE).
func hardwareClock() time.Time {
	text, err := os.ReadFile("/sys/class/rtc/rtc0/since_epoch")
	if err != nil {
		return time.Time{}
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// runIn runs a program inside root.
func runIn(stdout, stderr io.Writer, root, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Dir = "/"
	cmd.Env = environment(root, os.Environ())
	if root != "/" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	}
	return cmd.Run()
}

// environment is that of a program inside root. Hooks and generators need sbin, a TMPDIR may not exist there, and what systemd's
// tools print is read.
func environment(root string, from []string) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_COLORS=0", "SYSTEMD_URLIFY=0"}
	for _, v := range from {
		switch name, _, _ := strings.Cut(v, "="); {
		case name == "PATH", name == "SYSTEMD_COLORS", name == "SYSTEMD_URLIFY", name == "TMPDIR" && root != "/":
		default:
			env = append(env, v)
		}
	}
	return env
}

// options are those of every command.
type options struct {
	Root string `long:"root" value-name:"DIR" default:"/" description:"the root folder of the machine to work on"`
}

// updateOption is for commands that make the boot images anew.
type updateOption struct {
	Update string `long:"update-initramfs" choice:"auto" choice:"never" default:"auto" description:"auto: make the boot images anew and check them; never: leave them alone"`
}

// main runs one command.
func (a *app) main(args []string) report.Code {
	parser, err := a.parser()
	if err != nil {
		a.log.Fail(err)
		return report.Failed
	}
	err = report.Parse(parser, args, a.stdout, a.log)
	code, doc := report.CodeOf(err), a.document
	if doc == nil && err != nil { // the command did not come to run
		doc = &document{Result: code.Result(), Reasons: report.ReasonsOf(err)}
	}
	if report.WantsJSON(args) && doc != nil {
		if err := doc.json(a.stdout); err != nil {
			a.log.Fail(err)
			return report.Failed
		}
	}
	return code
}

// parser lists the commands.
func (a *app) parser() (*flags.Parser, error) {
	global := struct {
		report.VersionOption
		JSON func() `long:"json" description:"print one JSON object on stdout"`
	}{report.NewVersionOption("mdclone-gen", version), func() { a.json = true }}
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
		{"rescue", "make an image that starts nothing above the arrays, with a menu", rescueDescription, &rescueCommand{app: a}},
		{"boot-once", "let the next boot, and only that, make the clone before anything runs", bootOnceDescription, &bootOnceCommand{app: a}},
	} {
		if _, err := parser.AddCommand(c.name, c.short, c.long, c.data); err != nil {
			return nil, err
		}
	}
	return parser, nil
}

const longDescription = `Puts mdclone into a machine and its boot images (made with initramfs-tools or dracut), tells whether what is in the images is what is configured in /etc/mdclone, and takes it out again. With boot-once the next boot makes the clone before anything runs; rescue makes a rescue image that can. See "mdclone-gen COMMAND --help".

EXIT STATUS
0 done, or nothing to do; 1 failed, or the images are not as configured; 2 wrong arguments or configuration; 3 refused, nothing was changed; 130 interrupted, run it again`
