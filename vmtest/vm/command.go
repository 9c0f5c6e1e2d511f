package vm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"mdclone/vmtest/wire"
)

// Command is a command to run in the guest.
type Command struct {
	Argv  []string
	Env   []string // added to the agent's environment, KEY=VALUE
	Stdin []byte   // at most 4 MiB; none means /dev/null
}

// Result is how a command ended.
type Result struct {
	Argv           []string
	Stdout, Stderr string
	Code           int            // exit status, -1 after a signal
	Signal         syscall.Signal // that ended it, or 0
}

// Err is nil for exit status 0, and else says what the command did.
func (r Result) Err() error {
	if r.Code == 0 && r.Signal == 0 {
		return nil
	}
	how := fmt.Sprintf("exit status %d", r.Code)
	if r.Signal != 0 {
		how = "signal " + r.Signal.String()
	}
	return fmt.Errorf("%s: %s\nstdout: %s\nstderr: %s", strings.Join(r.Argv, " "), how,
		tail(r.Stdout, 8000), tail(r.Stderr, 8000))
}

// Process is a command that was started.
type Process struct {
	PID            int // in the guest
	vm             *VM
	id             uint64
	argv           []string
	stdout, stderr transcript
	done           chan struct{} // closed at the end
	result         Result        // valid after done
	err            error         // likewise: why there is no result
}

// Spawn starts a command. Its error is ErrLost where the guest does not answer within ctx, or did not before.
func (v *VM) Spawn(ctx context.Context, c Command) (*Process, error) {
	if v.lost.Load() {
		return nil, ErrLost
	}
	id, in, err := v.agent.start(wire.Frame{Op: wire.Run, Argv: c.Argv, Env: c.Env, Body: c.Stdin})
	if err != nil {
		return nil, err
	}
	f, err := v.agent.next(ctx, in)
	if err == nil && f.Op != wire.Started {
		err = fmt.Errorf("unexpected answer %q", f.Op)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		v.lost.Store(true)
		err = errors.Join(err, ErrLost)
	}
	if err != nil {
		v.agent.end(id)
		return nil, fmt.Errorf("start %s: %w", strings.Join(c.Argv, " "), err)
	}
	p := &Process{PID: f.Code, vm: v, id: id, argv: c.Argv, done: make(chan struct{})}
	go p.follow(in)
	return p, nil
}

// follow collects what the agent tells about the process until it ends, or the machine does.
func (p *Process) follow(in *call) {
	defer close(p.done)
	defer p.stdout.close()
	defer p.stderr.close()
	defer p.vm.agent.end(p.id)
	for {
		f, err := p.vm.agent.next(context.Background(), in)
		switch {
		case err != nil:
			p.err = fmt.Errorf("%s: %w", strings.Join(p.argv, " "), err)
			return
		case f.Op == wire.Stdout:
			p.stdout.add(f.Body)
		case f.Op == wire.Stderr:
			p.stderr.add(f.Body)
		case f.Op != wire.Exit:
			p.err = fmt.Errorf("%s: unexpected answer %q", strings.Join(p.argv, " "), f.Op)
			return
		default:
			p.result = Result{
				Argv: p.argv, Stdout: p.stdout.String(), Stderr: p.stderr.String(),
				Code: f.Code, Signal: syscall.Signal(f.Signal),
			}
			return
		}
	}
}

// Wait waits until the process has ended. The error says that it could not be followed, not how it ended.
func (p *Process) Wait(ctx context.Context) (Result, error) {
	select {
	case <-p.done:
		return p.result, p.err
	case <-ctx.Done():
		return Result{}, fmt.Errorf("wait for %s: %w\nstdout so far: %s\nstderr so far: %s", strings.Join(p.argv, " "),
			ctx.Err(), tail(p.stdout.String(), 8000), tail(p.stderr.String(), 8000))
	}
}

// Stdout is what it has printed so far, also when the machine has ended meanwhile.
func (p *Process) Stdout() string { return p.stdout.String() }

// Stderr is likewise.
func (p *Process) Stderr() string { return p.stderr.String() }

// Signal sends sig to the process and those that it started (its process group).
func (p *Process) Signal(sig syscall.Signal) error {
	return p.vm.agent.conn.Send(wire.Frame{ID: p.id, Op: wire.Signal, Code: int(sig)})
}

// AwaitStdout waits until text was printed on stdout.
func (p *Process) AwaitStdout(ctx context.Context, text string) error {
	return p.stdout.await(ctx, text)
}

// AwaitStderr waits until text was printed on stderr.
func (p *Process) AwaitStderr(ctx context.Context, text string) error {
	return p.stderr.await(ctx, text)
}

// Run runs a command to its end. A status that is not 0 is no error: see Result.Err.
func (v *VM) Run(ctx context.Context, argv ...string) (Result, error) {
	p, err := v.Spawn(ctx, Command{Argv: argv})
	if err != nil {
		return Result{}, err
	}
	return p.Wait(ctx)
}

// Sh runs a script with bash.
func (v *VM) Sh(ctx context.Context, script string) (Result, error) {
	return v.Run(ctx, "bash", "-c", script)
}
