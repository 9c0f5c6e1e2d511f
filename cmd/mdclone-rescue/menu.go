package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// choice is one entry of the menu.
type choice struct {
	key, word, what string
	do              func(*menu) error
}

func choices() []choice {
	return []choice{
		{"1", "clone", "clone now: bring the clone up to date and detach it", (*menu).clone},
		{"2", "status", "status of arrays and clones", (*menu).status},
		{"3", "verify", "verify: bring the clone up to date, and compare all of it with the array", (*menu).verify},
		{"4", "shell", "a shell, for the same by hand: mdclone-early backup, status, verify; help", (*menu).shell},
		{"5", "reboot", "reboot", func(*menu) error { return powerTool("reboot")(standard(), nil) }},
		{"6", "poweroff", "power off", func(*menu) error { return powerTool("poweroff")(standard(), nil) }},
	}
}

func standard() streams { return streams{os.Stdin, os.Stdout, os.Stderr} }

// pick finds the choice that a line means.
func pick(line string) (choice, bool) {
	line = strings.ToLower(strings.TrimSpace(line))
	for _, c := range choices() {
		if line == c.key || line == c.word {
			return c, true
		}
	}
	return choice{}, false
}

// menu is what is shown on one console.
type menu struct {
	streams
	log report.Log
}

// showMenu is the menu on the terminal that args name, until that is gone.
func showMenu(s streams, args []string) error {
	// Ctrl-C is for what was started from here
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP)
	release, err := md.Release()
	if err != nil {
		return err
	}
	m := &menu{s, report.Log{W: s.err}}
	for {
		fmt.Fprintf(m.out, "\nmdclone rescue, Linux %s, on %s\n\n", release, strings.Join(args, " "))
		for _, c := range choices() {
			fmt.Fprintf(m.out, "  %s  %s\n", c.key, c.what)
		}
		fmt.Fprint(m.out, "\nWhat shall be done? ")
		line, err := readLine(m.in)
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		c, ok := pick(line)
		if !ok {
			fmt.Fprintf(m.out, "%q is none of the choices\n", strings.TrimSpace(line))
			continue
		}
		if err := c.do(m); err != nil {
			m.log.Fail(err)
		}
	}
}

// readLine reads no more than one line: what comes after it is for whatever is started.
func readLine(r io.Reader) (string, error) {
	var line strings.Builder
	var b [1]byte
	for {
		n, err := r.Read(b[:])
		if n == 1 {
			if b[0] == '\n' {
				return line.String(), nil
			}
			line.WriteByte(b[0])
		}
		if err != nil {
			return line.String(), err
		}
	}
}

// cloneWait is how long the clone is waited for, if it is not plugged in.
const cloneWait = "2m"

// unrecorded is what a person should know for later.
const unrecorded = `This cannot be recorded in the machine, whose file systems are not started: its next backup says that the clone
was touched elsewhere, and wants --verify full, once.
`

func (m *menu) clone() error  { return m.backup() }
func (m *menu) verify() error { return m.backup("--verify", "full") }

// backup makes the clone. Disks may have been plugged in since the start.
func (m *menu) backup(args ...string) error {
	lacking, err := gather(m.log, false)
	if err != nil {
		return err
	}
	if len(lacking) > 0 {
		fmt.Fprintf(m.out, "array %s lacks one of its disks, which misses what is written now and must be put back in afterwards.\n"+
			"Type 1 to go on: ", strings.Join(lacking, ", "))
		line, err := readLine(m.in)
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) != "1" { // the keyboard may have another layout than the kernel thinks
			fmt.Fprintln(m.out, "no clone was made; plug it in, or look why it is not seen (dmesg)")
			return nil
		}
	}
	fmt.Fprintln(m.out, "the clone is waited for, if it is not plugged in; Ctrl-C ends this, and leaves the array in good order")
	err = m.run("mdclone-early", append([]string{"backup", "--offline", "--wait", cloneWait}, args...)...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		fmt.Fprintf(m.out, "no clone was made, or not of all arrays (%s)\n", report.Code(exit.ExitCode()).Result())
		return nil
	case err != nil:
		return err
	}
	fmt.Fprint(m.out, unrecorded)
	return nil
}

func (m *menu) status() error {
	_, err := gather(m.log, false)
	return errors.Join(err, ended(m.run("mdclone-early", "status")))
}

func (m *menu) shell() error {
	fmt.Fprintln(m.out, "exit goes back to the menu; help lists what there is")
	return ended(m.run("sh"))
}

// ended is err but for an exit status that the program has explained itself.
func ended(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// run runs a program on the menu's terminal.
func (m *menu) run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = m.in, m.out, m.err
	return cmd.Run()
}
