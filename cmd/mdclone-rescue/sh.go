package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// endAtMost is how long a program may take after Ctrl-C: a backup puts the array in good order first.
const endAtMost = time.Hour

// shell is sh: interactive on a terminal, else it runs a script, or what -c says.
func shell(s streams, args []string) error {
	in, _ := s.in.(*os.File) // what programs are to read must be a file
	r, err := interp.New(interp.Interactive(true), interp.StdIO(in, s.out, s.err),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return interp.DefaultExecHandler(endAtMost) }))
	if err != nil {
		return err
	}
	switch {
	case len(args) > 1 && args[0] == "-c":
		return script(r, strings.NewReader(args[1]), "", args[2:])
	case len(args) > 0:
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		return script(r, f, args[0], args[1:])
	case in == nil || !isTerminal(in):
		return script(r, s.in, "", nil)
	}
	return interactive(r, s)
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func script(r *interp.Runner, in io.Reader, name string, args []string) error {
	if err := interp.Params(append([]string{"--"}, args...)...)(r); err != nil {
		return err
	}
	file, err := syntax.NewParser().Parse(in, name)
	if err != nil {
		return err
	}
	return r.Run(context.Background(), file)
}

// interactive reads statements until the end of the input, or exit. Ctrl-C ends what runs, not the shell.
func interactive(r *interp.Runner, s streams) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP)
	defer signal.Stop(signals)
	parser := syntax.NewParser()
	prompt := func() { fmt.Fprintf(s.out, "%s # ", r.Dir) }
	var last error
	exited := false
	for again := true; again; { // a line that cannot be parsed ends only itself
		prompt()
		err := parser.Interactive(lineByLine{s.in}, func(stmts []*syntax.Stmt) bool {
			if parser.Incomplete() {
				fmt.Fprint(s.out, "> ")
				return true
			}
			if exited, last = line(r, s, stmts); !exited {
				prompt()
			}
			return !exited
		})
		if again = err != nil && !exited; again {
			fmt.Fprintf(s.err, "sh: %v\n", err)
		}
	}
	return last
}

// lineByLine gives no more than a line at once: what comes after it is for what the line starts, or for the next line if this
// one cannot be parsed.
type lineByLine struct{ r io.Reader }

// Read implements io.Reader.
func (l lineByLine) Read(p []byte) (n int, err error) {
	for n < len(p) && err == nil && (n == 0 || p[n-1] != '\n') {
		var one int
		one, err = l.r.Read(p[n : n+1])
		n += one
	}
	return n, err
}

// line runs the statements of one line, until exit or Ctrl-C. What cannot be run at all ends the line, but not the shell.
func line(r *interp.Runner, s streams, stmts []*syntax.Stmt) (exited bool, last error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT)
	defer stop()
	for _, stmt := range stmts {
		last = r.Run(ctx, stmt)
		var exit interp.ExitStatus
		switch {
		case last == nil || errors.As(last, &exit):
			if r.Exited() {
				return true, last
			}
		case ctx.Err() != nil:
			fmt.Fprintln(s.out)
			return false, nil
		default:
			fmt.Fprintf(s.err, "sh: %v\n", last)
			return false, nil
		}
	}
	return false, last
}
