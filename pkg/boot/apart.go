package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mdclone/pkg/report"
)

// Who waits in the kernel for a disk that does not answer cannot be ended, not even by SIGKILL, and neither can a process
// one of whose threads does. So a stage that the boot waits for runs in a process of its own, which can be left behind.

const (
	// stuckAtMost is how long one and the same wait in the kernel may take that nothing ends. A drive that spins up takes
	// some ten seconds, a request that the kernel gives up 30.
	stuckAtMost = 40 * time.Second
	// tries is how often a stage is begun: what one try waits for, the next one passes over (md.Scanner).
	tries = 3
	// killedAtMost is how long a program that was killed may take to end.
	killedAtMost = 5 * time.Second
)

// apart carries out b.stage in a process of its own.
func (b *Boot) apart(ctx context.Context) error {
	ended, err := b.Apart(ctx, Command, stageApart, b.stage)
	if b.stage == stageStart || b.stage == stageRuns { // beside these others go on
		return err
	}
	if !ended && b.asked() && !exists(b.file(outcomeFile)) {
		err = errors.Join(err, b.conclude(ctx, why(report.Failed, "stuck", "%v", err)))
	}
	if !ended || err != nil { // else it has done so itself
		err = errors.Join(err, b.release(ctx))
	}
	return err
}

// Apart runs this program with args. What waits for a disk that does not answer is left behind, and begun once more a few times;
// ended is false if that was of no use. Else err has its exit code alone, as it has said why.
func (b *Boot) Apart(ctx context.Context, args ...string) (ended bool, err error) {
	name := args[len(args)-1]
	for try := 1; ; try++ {
		ended, err := b.process(ctx, args)
		if ended {
			return true, err
		}
		if err != nil || try == tries {
			return false, errors.Join(fmt.Errorf("%s waits for a disk that does not answer; it is left behind", name), err)
		}
		b.Log.Warnf("%s waits for a disk that does not answer; it is left behind, and begun once more", name)
	}
}

// process is one try, a process that ends with this one. ended is false if it was left behind.
func (b *Boot) process(ctx context.Context, args []string) (ended bool, err error) {
	cmd := exec.CommandContext(ctx, b.Self, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, b.Stdout, os.Stderr
	runtime.LockOSThread() // the signal comes at the end of the thread
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	end, err := launch(cmd)
	if err != nil {
		return true, err
	}
	for stuck := (waits{}); ; {
		select {
		case err := <-end:
			if code := cmd.ProcessState.ExitCode(); code > 0 {
				err = &report.Error{Exit: report.Code(code)}
			}
			return true, err
		case <-time.After(time.Second): // how a thread waits is not announced
		}
		if stuck.look(threads(b.Root, cmd.Process.Pid), time.Now()) < stuckAtMost {
			continue
		}
		if err := cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) { // else it has ended this moment
			return false, errors.Join(err, b.breakLock(cmd.Process.Pid))
		}
	}
}

// breakLock lets other stages go on without a process that was killed. What it holds is let go of only when the disk answers, and
// it does nothing more then. The lock of another one is left alone.
func (b *Boot) breakLock(owner int) error {
	text, err := os.ReadFile(b.file(lockOwner))
	if err != nil || string(text) != strconv.Itoa(owner) { // or nobody has locked anything yet
		return nil
	}
	return os.Remove(b.file(lockFile))
}

// launch starts a program, and tells of its end.
func launch(cmd *exec.Cmd) (<-chan error, error) {
	end := make(chan error, 1)
	err := cmd.Start()
	if err == nil {
		go func() { end <- cmd.Wait() }()
	}
	return end, err
}

// wait is one that nothing ends.
type wait struct {
	number string // how often the thread has waited: the same twice is the same wait
	since  time.Time
}

// waits are those of a process, by thread.
type waits map[string]wait

// look takes in which threads wait now, with the numbers of their waits, and returns how long one of them has.
func (w waits) look(now map[string]string, at time.Time) (longest time.Duration) {
	for id, was := range w {
		if now[id] != was.number {
			delete(w, id)
		}
	}
	for id, number := range now {
		if _, known := w[id]; !known {
			w[id] = wait{number, at}
		}
		longest = max(longest, at.Sub(w[id].since))
	}
	return longest
}

// threads lists those of a process that are in such a wait, state D, with the wait's number (proc(5), /proc/pid/status).
func threads(root string, pid int) map[string]string {
	tasks := filepath.Join(root, "proc", strconv.Itoa(pid), "task")
	entries, err := os.ReadDir(tasks)
	if err != nil { // it is gone
		return nil
	}
	stuck := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(tasks, e.Name(), "status"))
		_, state, _ := strings.Cut(string(text), "\nState:\t")
		_, number, _ := strings.Cut(state, "\nvoluntary_ctxt_switches:\t")
		if err == nil && strings.HasPrefix(state, "D") {
			stuck[e.Name()], _, _ = strings.Cut(number, "\n")
		}
	}
	return stuck
}

// run runs a program, and leaves it behind if it does not end with ctx.
func run(ctx context.Context, name string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	end, err := launch(cmd)
	if err != nil {
		return "", err
	}
	for over, late := ctx.Done(), (<-chan time.Time)(nil); ; {
		select {
		case err := <-end:
			return strings.TrimSpace(out.String()), err
		case <-over:
			over, late = nil, time.After(killedAtMost)
		case <-late:
			return "", fmt.Errorf("%s does not end: %w", name, ctx.Err())
		}
	}
}
