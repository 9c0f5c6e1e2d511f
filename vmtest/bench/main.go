// Command bench measures how long it takes to bring a second disk up to date, in one virtual machine and one run, so that
// the ratios mean something on any host: by the procedure that mdclone replaces, by a plain copy of the disk, and by
// mdclone beside a system that runs on the array and in a rescue shell. Then it boots a full machine, with the clone away,
// plugged in, and brought up to date first. It prints a table of each, and for each goal of the project whether it is met.
// docs/bench.md says how to read it.
//
// It ends with 1 if something could not be measured; a missed goal is a result. MDCLONE_CACHE and MDCLONE_ACCEL are those
// of the VM tests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds a round. It is many times what one takes.
const patience = 30 * time.Minute

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var o options
	flags.StringVar(&o.suite, "suite", "bookworm", "the Debian `release` whose kernel and mdadm are used")
	flags.IntVar(&o.limit, "limit", 0, "how fast clone and copy can be written, in `MiB/s`, as if they were slow drives; 0 is no limit")
	flags.IntVar(&o.rounds, "rounds", 1, "how often each cycle is measured; the table shows medians")
	flags.IntVar(&o.boots, "boots", 3, "how often each boot is measured; 0 leaves them out")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0 || o.limit < 0 || o.boots < 0 || o.rounds < 1:
		fmt.Fprintln(stderr, "bench: error: want no arguments, nothing negative, and at least one round")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.rounds+o.boots)*patience)
	defer cancel()

	start := time.Now()
	log := func(format string, args ...any) {
		fmt.Fprintf(stderr, "%4.0f s  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	r, err := bench(ctx, o, log)
	if err == nil {
		err = r.write(stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: error: %v\n", err)
		return 1
	}
	return 0
}
