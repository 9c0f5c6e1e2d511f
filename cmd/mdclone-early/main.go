// Command mdclone-early makes clones: it pins an array's limits at boot, judges a returning drive, and runs the whole
// cycle of a clone, in the running system, in a rescue shell or in the initramfs.
//
// It reads /etc/mdclone/*.conf; it keeps /run/mdclone, /var/lib/mdclone (ledger, history) and, for adopt, runs mdadm and
// blkid. In an initramfs that holds /etc/mdclone/initramfs its messages go to the kernel log too. "boot STAGE" is internal:
// the udev rules and the scripts in the initramfs call it. With the kernel parameter mdclone=off it does nothing, nor do
// the rules; mdclone.wait=SECONDS takes the place of boot-wait in the configuration. mdclone=backup makes the clone before
// anything on the array is started, until mdclone.until (in seconds since 1970), with mdclone.verify=none|changed|full, and
// waits mdclone.clone-wait=SECONDS for the drive.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jessevdk/go-flags"

	"mdclone/pkg/boot"
	"mdclone/pkg/clone"
	"mdclone/pkg/report"
)

// version is set when the program is linked.
var version = "0.1.0-dev"

func main() {
	os.Exit(int(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)))
}

// program is what the commands share.
type program struct {
	ctx    context.Context
	env    *clone.Env
	stdout io.Writer
	said   bool // the one JSON object is printed
	report.VersionOption
	JSON bool `long:"json" description:"print one JSON object on stdout"`
}

func run(args []string, stdin io.Reader, stdout io.Writer, stderr *os.File) report.Code {
	log := report.Log{W: stderr}
	if len(args) > 0 && args[0] == clone.GuardCommand {
		err := clone.Guard(args[1:], stdin, stdout)
		log.Fail(err)
		return report.CodeOf(err)
	}
	if len(args) > 0 && args[0] == boot.Command {
		log.Kmsg = report.OpenKmsg()
		b := boot.New(log)
		b.Stdout = stdout
		err := b.Do(context.Background(), args[1:])
		if args[len(args)-1] == boot.Report {
			err = errors.Join(err, clone.NewEnv(log, nil).TakeOver())
		}
		log.Fail(err)
		return report.CodeOf(err)
	}
	// a reader that goes away must not kill a run that has an array read-only
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := report.Interruptible()
	defer stop()
	p := &program{ctx: ctx, stdout: stdout, VersionOption: report.NewVersionOption("mdclone-early", version)}
	p.env = clone.NewEnv(log, report.NewProgress(stderr))
	if p.env.EarlyBoot() {
		p.env.Log.Kmsg = report.OpenKmsg()
	}
	parser, err := p.parser()
	if err != nil {
		log.Fail(err)
		return report.Failed
	}
	err = report.Parse(parser, args, stdout, p.env.Log)
	code := report.CodeOf(err)
	if err != nil && !p.said && report.WantsJSON(args) {
		p.JSON = true
		if e := p.print(failure{code.Result(), report.ReasonsOf(err)}, ""); e != nil {
			p.env.Log.Fail(e) // the code says what err was
		}
	}
	return code
}

const about = `mdclone-early keeps a bootable, bit-for-bit clone of a machine's disk: a member of its md RAID1 that is usually
unplugged. ARRAY is /dev/mdX, mdX, an md UUID or a NAME in /etc/mdclone; left out, it means every array configured there.

EXAMPLES
  mdclone-early adopt /dev/md0 /dev/sdc  once: makes /dev/sdc a clone
  mdclone-early backup                   plug it in, run this, unplug it
  mdclone-early backup --wait 10m        the same, plugged in meanwhile
  mdclone-early backup md0 --clone /dev/sdc  on a live system, nothing configured
  mdclone-early status                   and what the next one will copy
  mdclone-early check /dev/sdc           may this drive join now?

EXIT STATUS
  0    done, or nothing to do
  1    failed
  2    wrong arguments or configuration
  3    refused because unsafe; nothing was changed
  4    the clone drive is not there
  5    the mirror differs
  130  interrupted; the array is safe, and a rerun resumes`

// flow makes one line of each paragraph, which go-flags then breaks to the terminal's width; lists stay as they are.
func flow(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if !strings.Contains(p, "\n  ") {
			paragraphs[i] = strings.ReplaceAll(p, "\n", " ")
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

func (p *program) parser() (*flags.Parser, error) {
	parser := flags.NewNamedParser("mdclone-early", flags.HelpFlag|flags.PassDoubleDash)
	parser.LongDescription = flow(about)
	_, err := parser.AddGroup("Options", "", p)
	for _, c := range []struct {
		name, short, long string
		command           any
	}{
		{"pin", "hold the array's request size down to what the clone takes", pinHelp, &pinCommand{program: p}},
		{"check", "may this drive join now?", checkHelp, &checkCommand{program: p}},
		{"adopt", "make a drive a clone of an array", adoptHelp, &adoptCommand{program: p}},
		{"backup", "bring the clone up to date and detach it", backupHelp, newBackupCommand(p)},
		{"attach", "let the clone in, sync it, and leave it in", attachHelp, newAttachCommand(p)},
		{"detach", "take the clone out in good order", detachHelp, newDetachCommand(p)},
		{"probe", "test the running kernel for requests that are lost when a limit falls", probeHelp, &probeCommand{program: p}},
		{"verify", "compare a clone that is in the array", verifyHelp, &verifyCommand{cycleOptions: cycleOptions{program: p}}},
		{"status", "show arrays, limits and clones", statusHelp, &statusCommand{program: p}},
	} {
		if err == nil {
			_, err = parser.AddCommand(c.name, c.short, flow(c.long), c.command)
		}
	}
	return parser, err
}

// begin is what every command that a person types does first: put back what a run that was killed left changed, and take
// over what another system of this machine recorded.
func (p *program) begin() {
	p.restore()
	p.warn(p.env.TakeOver())
}

func (p *program) restore() { p.warn(p.env.Restore()) }

// warn says what failed and is no reason not to do what is asked for.
func (p *program) warn(err error) {
	if err != nil && !errors.Is(err, fs.ErrPermission) { // a user who may only look
		p.env.Log.Warnf("%v", err)
	}
}

// print writes v as one JSON object, or text without --json.
func (p *program) print(v any, text string) error {
	if !p.JSON {
		lines := strings.Split(text, "\n")
		for i, l := range lines {
			lines[i] = report.Printable(l)
		}
		_, err := io.WriteString(p.stdout, strings.Join(lines, "\n"))
		return err
	}
	out, err := json.Marshal(v)
	if err != nil {
		return err
	}
	p.said = true
	_, err = fmt.Fprintf(p.stdout, "%s\n", out)
	return err
}

// failure is the JSON of a command that ended before it had anything else to say.
type failure struct {
	Result  string          `json:"result"`
	Reasons []report.Reason `json:"reasons"`
}
