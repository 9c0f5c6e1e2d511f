package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/vmtest/wire"
)

// VM is a virtual machine that runs, or has run.
type VM struct {
	log     func(format string, args ...any)
	console transcript
	keys    io.Writer // the console's input
	monitor *qmp
	agent   *client
	conns   []net.Conn
	process *os.Process
	started time.Time
	lost    atomic.Bool   // the guest does not answer
	done    chan struct{} // closed when QEMU has ended
	err     error         // how it ended; valid after done
}

// launch starts QEMU with args.
func launch(args []string, log func(format string, args ...any)) (*VM, error) {
	v := &VM{log: log, done: make(chan struct{}), started: time.Now()}
	cmd := exec.Command("qemu-system-x86_64", args...)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stderr, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	for range 3 {
		mine, theirs, err := socketPair()
		if err != nil {
			return nil, errors.Join(err, v.closeConns())
		}
		defer theirs.Close()
		v.conns = append(v.conns, mine)
		cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	}
	log("%s", strings.Join(cmd.Args, " "))
	up := make(chan error)
	go func() {
		// The parent that Pdeathsig watches is the thread that forks: it must not end before QEMU does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		up <- err
		if err != nil {
			return
		}
		if err := cmd.Wait(); err != nil {
			v.err = fmt.Errorf("qemu: %w: %s", err, strings.TrimSpace(stderr.String()))
		}
		close(v.done)
	}()
	if err := <-up; err != nil {
		return nil, errors.Join(fmt.Errorf("start qemu: %w", err), v.closeConns())
	}
	v.process = cmd.Process
	console := v.conns[0]
	v.keys = console
	go func() {
		defer v.console.close()
		_, err := io.Copy(&v.console, console)
		if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
			log("console: %v", err)
		}
	}()
	v.monitor = newQMP(v.conns[1])
	v.agent = newClient(v.conns[2])
	return v, nil
}

// socketPair makes two connected sockets, one to use and one to hand to a child.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "host"), os.NewFile(uintptr(fds[1]), "guest")
	defer mine.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("socketpair: %w", err), theirs.Close())
	}
	return conn, theirs, nil
}

// Ready waits until the agent is up.
func (v *VM) Ready(ctx context.Context) error {
	select {
	case <-v.agent.hello:
		v.log("the agent is up after %.1f s: Linux %s", time.Since(v.started).Seconds(), v.agent.release)
		return nil
	case <-v.done:
		return fmt.Errorf("boot: %w", v.why(errors.New("the machine ended before its agent was up")))
	case <-ctx.Done():
		return fmt.Errorf("boot: wait for the agent: %w", v.why(ctx.Err()))
	}
}

// why adds to err how QEMU ended, if it did, and the end of the console.
func (v *VM) why(err error) error {
	select {
	case <-v.done:
		err = errors.Join(err, v.err)
	default:
	}
	return fmt.Errorf("%w\nconsole: %s", err, tail(v.Console(), 4000))
}

// Release is the kernel's release, as uname -r prints it.
func (v *VM) Release() string {
	<-v.agent.hello
	return v.agent.release
}

// Console is all that the machine has printed on its serial console.
func (v *VM) Console() string { return strings.ReplaceAll(v.console.String(), "\r", "") }

// AwaitConsole waits until text was printed on the serial console. It is for what has no other sign, such as a question
// in early boot; a verdict never rests on it.
func (v *VM) AwaitConsole(ctx context.Context, text string) error {
	return v.console.await(ctx, text)
}

// AwaitConsoleMatch waits until what the console has said matches.
func (v *VM) AwaitConsoleMatch(ctx context.Context, what *regexp.Regexp) error {
	return v.console.awaitMatch(ctx, what.String(), what.Match)
}

// Type types text at the serial console.
func (v *VM) Type(text string) error {
	if _, err := io.WriteString(v.keys, text); err != nil {
		return fmt.Errorf("type at the console: %w", err)
	}
	return nil
}

// QMP runs a command of QEMU's monitor.
func (v *VM) QMP(ctx context.Context, command string, args any) (json.RawMessage, error) {
	return v.monitor.do(ctx, command, args)
}

// Wait waits until the machine has ended.
func (v *VM) Wait(ctx context.Context) error {
	select {
	case <-v.done:
		return v.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of the machine: %w", v.why(ctx.Err()))
	}
}

// PowerOff shuts the machine down in good order and waits for its end.
func (v *VM) PowerOff(ctx context.Context) error {
	id, in, err := v.agent.start(wire.Frame{Op: wire.PowerOff})
	if err != nil {
		return fmt.Errorf("power off: %w", err)
	}
	defer v.agent.end(id)
	// Only a refusal is answered; otherwise the connection ends.
	if f, err := v.agent.next(ctx, in); f.Op == wire.Failed {
		return fmt.Errorf("power off: %w", err)
	}
	if err := v.Wait(ctx); err != nil {
		return fmt.Errorf("power off: %w", err)
	}
	return v.closeConns()
}

// Kill cuts the power: what the guest did not write is lost.
func (v *VM) Kill() error {
	if err := v.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cut the power: %w", err)
	}
	<-v.done
	return v.closeConns()
}

// Close ends the machine if it still runs. It may be called more than once.
func (v *VM) Close() error { return v.Kill() }

func (v *VM) closeConns() error {
	var errs []error
	for _, c := range v.conns {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
