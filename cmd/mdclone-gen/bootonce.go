package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

const bootOnceDescription = `Lets the next boot, and only that, bring the clones up to date in the initramfs, before anything runs, and then go on as always. The boot waits up to a minute for a clone drive. Nothing is done where the boot images are not as configured (see verify). With GRUB the entry mdclone-backup is chosen, which mdclone-gen install has put into the menu; where GRUB cannot write its environment (on RAID and LVM) the choice is forgotten by the running system; should it not come to that, a clone that has joined its array since the choice is not made again. It ends by itself after an hour in any case. The entry can also be chosen by hand, in the menu.

On a terminal it asks whether to reboot now. --undo takes the choice back, of each boot loader, and touches none that somebody else has made.

EXAMPLES
mdclone-gen boot-once backup
mdclone-gen boot-once backup --reboot
mdclone-gen boot-once backup --undo

EXIT STATUS
0 done, or nothing to undo; 1 failed, or there is no boot loader that it knows; 2 wrong arguments, not run as root, or nothing is configured; 3 somebody else has chosen the next boot, or another mdclone-gen works on the machine; nothing was changed`

type bootOnceCommand struct {
	options
	Undo   bool `long:"undo" description:"take the choice back"`
	Reboot bool `long:"reboot" description:"reboot at once, without asking"`
	Args   struct {
		What string `positional-arg-name:"backup" description:"what the next boot is to do"`
	} `positional-args:"yes" required:"yes"`
	app *app
}

// choice is how the next boot was chosen.
type choice struct {
	Loader    loader `json:"loader"`
	Entry     string `json:"entry"`
	Until     int64  `json:"until"`      // Unix time by the hardware clock
	ClearedBy string `json:"cleared_by"` // "loader", when it boots, or "system", once it runs

	kept string // why not by the loader
}

// undoWaits is less than the unit may take.
const undoWaits = time.Minute

// Execute implements flags.Commander.
func (c *bootOnceCommand) Execute(args []string) error {
	var doc document
	return c.app.finish(&doc, c.run(args, &doc))
}

func (c *bootOnceCommand) run(args []string, doc *document) error {
	m, err := c.accept(args)
	if err != nil {
		return err
	}
	patience := time.Duration(0)
	if c.Undo { // the unit that does it at boot tries but once
		patience = undoWaits
	}
	unlock, err := m.lockWithin(patience)
	if err != nil {
		return err
	}
	doc.Root = m.root
	err = c.act(m, doc)
	if unlock(); err != nil || c.Undo {
		return err
	}
	return c.reboot(m)
}

// act makes the choice, or takes it back.
func (c *bootOnceCommand) act(m machine, doc *document) (err error) {
	if c.Undo {
		if doc.Undone, err = c.app.undo(m); err != nil {
			return err
		}
		text := "the next boot is a normal one again"
		if len(doc.Undone) == 0 {
			text = "the next boot is a normal one; there was nothing to undo"
		}
		c.say(text)
		return nil
	}
	arrays, err := c.ready(m, doc)
	if err != nil {
		return err
	}
	if doc.Next, err = c.app.choose(m); err != nil {
		return err
	}
	c.say(announcement(arrays, *doc.Next)...)
	return nil
}

// accept checks the arguments.
func (c *bootOnceCommand) accept(args []string) (machine, error) {
	if err := report.NoMore(args); err != nil {
		return machine{}, err
	}
	switch c.Args.What {
	case "backup":
	case "rollback":
		return machine{}, report.Fail(report.Usage, "not-there-yet", "boot-once rollback is not there yet; boot-once backup is")
	default:
		return machine{}, report.Fail(report.Usage, "usage", "boot-once %s: want backup", c.Args.What)
	}
	m, err := newMachine(c.Root)
	switch {
	case err != nil:
		return m, err
	case c.app.euid() != 0:
		return m, report.Fail(report.Usage, "not-root", "choosing what is booted next takes root").Hint("run it with sudo")
	case c.Reboot && c.Undo:
		return m, report.Fail(report.Usage, "usage", "--undo and --reboot do not go together")
	case c.Reboot && m.root != "/":
		return m, report.Fail(report.Usage, "usage", "--reboot is for the running machine, not for %s", m.root)
	}
	return m, nil
}

// ready checks that a boot would make a clone at all.
func (c *bootOnceCommand) ready(m machine, doc *document) ([]config.Array, error) {
	arrays, err := m.arrays()
	if err != nil {
		return nil, err
	}
	clones := 0
	for _, a := range arrays {
		clones += len(a.Clones)
	}
	if clones == 0 {
		return nil, report.Fail(report.Usage, "no-clone", "no clone is configured in %s", m.path(config.Dir)).
			Hint("make one first: mdclone-early adopt")
	}
	images, err := c.app.bootImages(m, nil)
	if err != nil {
		return nil, err
	}
	var found document // as it should be, it is none of what this command has to say
	if err := c.app.verifyImages(m, arrays, images, &found, "run mdclone-gen install"); err != nil {
		doc.Reasons, doc.Images, doc.good = found.Reasons, found.Images, "as configured"
		return nil, err
	}
	return arrays, nil
}

// say prints lines for a person.
func (c *bootOnceCommand) say(lines ...string) {
	if c.app.json {
		return
	}
	for _, line := range lines {
		fmt.Fprintln(c.app.stdout, line)
	}
}

// announcement is what will happen.
func announcement(arrays []config.Array, next choice) []string {
	lines := []string{"the next boot makes the clone before anything runs, and then goes on as always:"}
	for _, a := range arrays {
		if len(a.Clones) > 0 {
			lines = append(lines, fmt.Sprintf("  %s: array %s, %s", a.Name, a.UUID, drives(a.Clones)))
		}
	}
	lines = append(lines, "plug the clone drive in before you reboot; the boot waits up to a minute for it, and goes on without it")
	if next.kept == "" {
		lines = append(lines, fmt.Sprintf("%s forgets the choice when it boots; unused, it ends by itself after an hour", next.Loader))
	} else {
		lines = append(lines, fmt.Sprintf("GRUB cannot write its environment here (%s), and may say so: the running system clears the choice after "+
			"the boot, and it ends by itself after an hour", next.kept))
	}
	return append(lines, "mdclone-gen boot-once backup --undo takes it back")
}

func drives(clones []md.UUID) string {
	names := make([]string, 0, len(clones))
	for _, u := range clones {
		names = append(names, u.String())
	}
	if len(names) == 1 {
		return "clone " + names[0]
	}
	return "clones " + strings.Join(names, ", ") + ", those that are plugged in"
}

// reboot does that if it is asked to, or somebody wants it.
func (c *bootOnceCommand) reboot(m machine) error {
	if !c.Reboot && (c.app.json || m.root != "/" || !c.app.terminal()) {
		return nil
	}
	if !c.Reboot {
		fmt.Fprint(c.app.stderr, "mdclone: reboot now? [y/N] ")
		answer, err := c.app.answer()
		if err != nil {
			return err
		}
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			return nil
		}
	}
	if err := c.app.command(m.root, "/sbin/reboot"); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	return nil
}

// answer reads a line, or ends with a signal.
func (a *app) answer() (string, error) {
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(a.stdin).ReadString('\n')
		read <- line{text, err}
	}()
	select {
	case <-a.done:
		return "", a.stopped()
	case got := <-read:
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			return "", fmt.Errorf("read the answer: %w", got.err)
		}
		return got.text, nil
	}
}

// loader is the boot loader that starts the machine.
func (a *app) loader(m machine) loader {
	info, err := os.ReadFile(m.path(loaderInfo))
	if err != nil { // not started by EFI, or by a loader that does not say its name
		info = nil
	}
	return whichLoader(loaderFacts{
		info: efiString(info), grub: m.hasMenu() && m.exists(grubEditenv), installed: a.hasSystemdBoot(m),
	})
}

// choose makes the next boot one that makes the clone.
func (a *app) choose(m machine) (*choice, error) {
	next := &choice{Loader: a.loader(m), Entry: entryID, Until: until(a.now(), a.rtc()), ClearedBy: "loader"}
	var err error
	switch next.Loader {
	case grub:
		next.kept, err = a.chooseGrub(m, next.Until)
	case systemdBoot:
		err = a.chooseSystemdBoot(m, next.Until)
	case noLoader:
		err = report.Fail(report.Failed, "no-loader", "there is neither GRUB (%s) nor systemd-boot in %s", m.path(grubMenu), m.root).
			Hint("by hand: add mdclone=backup to the kernel's command line in the boot loader, for one boot")
	}
	if err != nil {
		return nil, err
	}
	if m.usesKexec() {
		a.log.Warnf("a reboot of this machine starts the next kernel by kexec, past the boot loader and what it was told: turn it off and on, "+
			"or set LOAD_KEXEC=false in %s", m.path(kexecConf))
	}
	if next.kept != "" {
		next.ClearedBy = "system"
	}
	return next, nil
}

// kexecConf is where kexec-tools is told whether a reboot goes its way (/etc/init.d/kexec-load, kexec-tools 2.0.25).
const kexecConf = "etc/default/kexec"

func (m machine) usesKexec() bool {
	text, err := os.ReadFile(m.path(kexecConf))
	return err == nil && m.exists("sbin/kexec") && slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return strings.Trim(strings.TrimPrefix(strings.TrimSpace(line), "LOAD_KEXEC="), `"'`) == "true"
	})
}

// undo takes the choice back, wherever it was made, and returns what there was of it. One loader that fails does not keep the
// other from forgetting it.
func (a *app) undo(m machine) ([]string, error) {
	undone, err := a.undoGrub(m)
	more, moreErr := a.undoSystemdBoot(m)
	return append(undone, more...), errors.Join(err, moreErr)
}
