package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

// bounds are those of a cycle.
type bounds struct {
	whole   time.Duration // a comparison of everything takes hours on large disks
	stalled time.Duration // nothing at all happens in it
	gone    time.Duration // its end is waited for
	orphan  time.Duration // likewise, where nobody asked for it: the process that looks after it has died
}

// usual bounds allow killAfter for the end, and more for a process that cannot be killed.
var usual = bounds{whole: 12 * time.Hour, stalled: 2 * time.Minute, gone: killAfter + time.Minute, orphan: killAfter}

const (
	// killAfter is how long a cycle that is asked to end may take to leave the array in good order.
	killAfter = 2 * time.Minute
	// countEach is how often a wait says how long it still is.
	countEach = 10 * time.Second
)

// cycleBegun is the mark that the clone is being made: that is tried once.
const cycleBegun = "cycle-begun"

// offline carries out mdclone=backup, before anything is started on the arrays, which the udev rule holds. It never
// fails: the boot goes on, and the outcome says what there was.
func (b *Boot) offline(ctx context.Context, events *sysfs.Uevents, con *consoles) {
	b.Log.W = io.MultiWriter(con, &logFile{path: b.file(outcomeLog)})
	if b.Log.Kmsg != nil {
		b.Log.Kmsg = debugLevel{b.Log.Kmsg} // else whoever boots without "quiet" reads everything twice
	}
	before := b.historyBytes()
	o := b.cycle(ctx, events, con)
	o.remembered = b.historyBytes() > before
	if err := b.conclude(ctx, o); err != nil {
		b.Log.Fail(err)
	}
}

// conclude says and keeps what came of it.
func (b *Boot) conclude(ctx context.Context, o outcome) error {
	o.At, o.Asked = time.Now().UTC(), "backup"
	b.show(ctx, o.text())
	return b.keep(o)
}

func (b *Boot) cycle(ctx context.Context, events *sysfs.Uevents, con *consoles) outcome {
	if text := b.params.expired(time.Now()); text != "" {
		return why(report.Done, "expired", "%s", text)
	}
	if device, err := b.sleeper(); err != nil {
		return why(report.Failed, "hibernation", "it cannot be told whether a system sleeps on a disk: %v", err)
	} else if device != "" {
		return why(report.Refused, "hibernation", "a system sleeps on %s (hibernation); it must be woken first", device)
	}
	confs, err := config.Load(b.Root)
	if err != nil {
		return why(report.Usage, "configuration", "%v", err)
	}
	todo, o, ok := b.awaitClones(ctx, confs, events, con)
	if !ok {
		o.passOver(todo.spent)
		return o
	}
	err = b.dropAll() // what holds the clone so that nothing else takes it would be in the way
	undo := func() error { return nil }
	if err == nil {
		undo, err = b.noResume(ctx)
	}
	if err != nil {
		_, again := b.step(ctx, true, false) // holds it
		return why(report.Failed, "prepare", "%v", errors.Join(err, undo(), again))
	}
	if err := b.mark(cycleBegun, ""); err != nil {
		b.failed(err)
	}
	b.show(ctx, "making the clone; do not unplug it; Enter ends that and boots")
	frozen := b.readOnly()
	o = b.supervise(ctx, con, todo)
	if !o.changed() {
		err = undo()
	}
	if o.stuck { // whatever else looks at its disks might not end either
		b.thaw(frozen)
	} else { // the clones that are here are to stay out of the arrays, whatever comes
		_, e := b.step(ctx, true, false)
		err = errors.Join(err, e)
	}
	if err != nil {
		b.failed(err)
	}
	return o
}

// readOnly lists the arrays to which nothing can be written.
func (b *Boot) readOnly() []md.Array {
	arrays, err := md.Arrays(b.FS)
	if err != nil { // then none is known to have been so before
		return nil
	}
	return slices.DeleteFunc(arrays, func(a md.Array) bool {
		state, err := a.Read("array_state")
		return err != nil || state != "readonly"
	})
}

// thaw makes arrays writable again that a backup has left read-only which cannot be killed, for its guard waits for its
// end. before are those that were read-only before it.
func (b *Boot) thaw(before []md.Array) {
	for _, a := range b.readOnly() {
		if slices.ContainsFunc(before, func(x md.Array) bool { return x.Name == a.Name }) {
			continue
		}
		if err := setState(a, "active"); err != nil { // the backup may hold md's lock on it
			b.failed(fmt.Errorf("make %s writable again: %w", a.Name, err))
		}
	}
}

// awaitClones waits until each array that has clones has one of them here, for as long as is configured. ok says that
// there is something to do.
func (b *Boot) awaitClones(ctx context.Context, confs []config.Array, events *sysfs.Uevents, con *consoles) (todo sifting, o outcome, ok bool) {
	choice, err := b.choice()
	if err != nil { // then time ends the choice
		b.failed(err)
	}
	end, next := time.Now().Add(b.params.cloneWait), time.Time{}
	for {
		// those that come are to stay out until then, and the primaries of another array may be late
		if _, err := b.step(ctx, true, false); err != nil {
			b.failed(err)
		}
		found, _, err := b.scanner().Scan()
		if err != nil {
			return todo, why(report.Failed, "scan", "%v", err), false
		}
		todo = choice.sift(confs, found)
		missing, left := strings.Join(todo.missing, ", "), time.Until(end)
		switch {
		case missing == "" && todo.here > 0:
			return todo, outcome{}, true
		case missing == "" && len(todo.spent) > 0:
			return todo, outcome{Result: report.Done.Result(), Code: report.Done}, false
		case missing == "":
			return todo, why(report.Usage, "no-clone", "no clone is configured"), false
		case left <= 0 && todo.here > 0:
			b.Log.Infof("going on without the clone of %s", missing)
			return todo, outcome{}, true
		case left <= 0:
			return todo, why(report.NoDrive, "no-drive", "the clone of %s was not plugged in", missing), false
		}
		if now := time.Now(); !now.Before(next) {
			b.show(ctx, fmt.Sprintf("waiting for the clone of %s, %d s left; Enter ends that and boots", missing,
				int(left.Round(time.Second).Seconds())))
			next = now.Add(countEach)
		}
		if err := events.Wait(ctx, min(lookAgain, left)); err != nil {
			return todo, why(report.Failed, "wait", "%v", err), false
		}
		if con.entered() {
			return todo, why(report.Interrupted, "skipped", "it was skipped at the console"), false
		}
	}
}

// options are those of the backup.
func (b *Boot) options(todo sifting) (options []string) {
	if b.params.verify != "" {
		options = append(options, "--verify", string(b.params.verify))
	}
	if len(todo.spent) > 0 {
		for _, u := range todo.meant {
			options = append(options, "--only", u.String())
		}
	}
	return options
}

// supervise runs the cycle in a process of its own, and ends it where a person wants that or nothing happens any more.
func (b *Boot) supervise(ctx context.Context, con *consoles, todo sifting) outcome {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	heard := &counter{w: io.MultiWriter(b.Log.W, b.splash(ctx))}
	ended := make(chan outcome, 1)
	go func() {
		var account bytes.Buffer
		code, err := b.Backup(ctx, b.options(todo), &account, heard)
		if err != nil {
			ended <- why(report.Failed, "backup", "%v", err)
			return
		}
		ended <- accounted(code, account.Bytes())
	}()
	last, since, end := "", time.Now(), time.Now().Add(b.bounds.whole)
	var cause error
	for {
		select {
		case o := <-ended:
			if cause != nil && o.Code != report.Done {
				o.Reasons = append([]report.Reason{{Code: "ended", Text: cause.Error()}}, o.Reasons...)
			}
			o.passOver(todo.spent)
			return o
		case <-time.After(lookAgain): // the consoles and the disks do not announce anything
		}
		if cause != nil {
			if time.Since(since) > b.bounds.gone {
				o := why(report.Failed, "stuck", "%v, and the backup did not end for %s", cause, b.bounds.gone)
				o.stuck = true
				return o
			}
			continue
		}
		if now := b.activity(heard); now != last {
			last, since = now, time.Now()
		}
		switch {
		case con.entered():
			cause = errors.New("it was ended at the console")
		case time.Since(since) > b.bounds.stalled:
			cause = fmt.Errorf("nothing happened for %s", b.bounds.stalled)
		case time.Now().After(end):
			cause = fmt.Errorf("it was not done after %s", b.bounds.whole)
		}
		if cause != nil {
			b.show(ctx, cause.Error()+"; the array is put in good order first")
			stop(cause)
			since = time.Now()
		}
	}
}

// counter counts what is written through it.
type counter struct {
	w io.Writer
	n atomic.Int64
}

// Write implements io.Writer.
func (c *counter) Write(text []byte) (int, error) {
	c.n.Add(int64(len(text)))
	return c.w.Write(text)
}

// backup is mdclone-early backup. Ended by ctx, or with this process, it leaves the array in good order first.
func backup(ctx context.Context, options []string, account, said io.Writer) (report.Code, error) {
	args := append([]string{"backup", "--offline", "--json", "--no-kernel-log"}, options...)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr = account, said
	runtime.LockOSThread() // the signal comes at the end of the thread
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	cmd.WaitDelay = killAfter
	err := cmd.Run()
	if s := cmd.ProcessState; s != nil && s.Exited() {
		return report.Code(s.ExitCode()), nil
	}
	return report.Failed, err
}

// activity changes while something happens: it is said, or the disks are read or written.
func (b *Boot) activity(heard *counter) string {
	var all strings.Builder
	fmt.Fprintln(&all, heard.n.Load())
	names, err := b.FS.List("class/block")
	if err != nil {
		return all.String()
	}
	for _, n := range names {
		if text, err := b.FS.Read("class/block", n, "stat"); err == nil {
			// what is done and how much; the times go on by themselves while a request is stuck (Documentation/block/stat.rst)
			for i, field := range strings.Fields(text) {
				if i == 0 || i == 2 || i == 4 || i == 6 {
					fmt.Fprintln(&all, field)
				}
			}
		}
	}
	return all.String()
}

// logFile is appended to. What cannot be written there has been shown all the same.
type logFile struct{ path string }

// Write never fails.
func (l *logFile) Write(text []byte) (int, error) {
	_ = appendTo(l.path, string(text))
	return len(text), nil
}

// debugLevel gives lines of the kernel's log the level that consoles do not show.
type debugLevel struct{ w io.Writer }

// Write replaces the level at the line's beginning.
func (d debugLevel) Write(line []byte) (int, error) {
	if _, rest, ok := bytes.Cut(line, []byte(">")); ok {
		if _, err := d.w.Write(append([]byte("<7>"), rest...)); err != nil {
			return 0, err
		}
		return len(line), nil
	}
	return d.w.Write(line)
}
