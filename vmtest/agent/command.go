package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/vmtest/wire"
)

// outputGrace is how long the output of a command that has ended is still read: a daemon that it left behind may hold
// the pipe for ever.
const outputGrace = 10 * time.Second

// commands are those that run, by request. A request may be signalled from the moment its Run frame was handled.
type commands struct {
	mu  sync.Mutex // guards pid
	pid map[uint64]int
}

func newCommands() *commands { return &commands{pid: map[uint64]int{}} }

func (c *commands) add(id uint64, pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pid[id] = pid
}

func (c *commands) remove(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pid, id)
}

// signal sends sig to the process group of the command id, as a terminal would.
func (c *commands) signal(id uint64, sig unix.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	pid, ok := c.pid[id]
	if !ok {
		return errors.New("it has ended")
	}
	return unix.Kill(-pid, sig)
}

// run starts a command, in a process group of its own, and tells the host how it goes.
func (s *server) run(req wire.Frame) {
	if len(req.Argv) == 0 {
		s.done(req.ID, "", errors.New("run: no program named"))
		return
	}
	cmd := exec.Command(req.Argv[0], req.Argv[1:]...)
	cmd.Env = append(os.Environ(), req.Env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = outputGrace
	started := make(chan struct{})
	cmd.Stdout = output{s, req.ID, wire.Stdout, started}
	cmd.Stderr = output{s, req.ID, wire.Stderr, started}
	if len(req.Body) > 0 {
		cmd.Stdin = bytes.NewReader(req.Body)
	}
	if err := cmd.Start(); err != nil {
		s.done(req.ID, "", fmt.Errorf("run: %w", err))
		return
	}
	s.commands.add(req.ID, cmd.Process.Pid)
	s.send(wire.Frame{ID: req.ID, Op: wire.Started, Code: cmd.Process.Pid})
	close(started)
	go func() {
		err := cmd.Wait()
		s.commands.remove(req.ID)
		var exit *exec.ExitError
		// A command may end without reading its input, and a daemon may keep its output: both are in order.
		if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) && !errors.Is(err, unix.EPIPE) {
			s.done(req.ID, "", fmt.Errorf("run %s: %w", req.Argv[0], err))
			return
		}
		end := wire.Frame{ID: req.ID, Op: wire.Exit, Code: cmd.ProcessState.ExitCode()}
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			end.Signal = int(status.Signal())
		}
		s.send(end)
	}()
}

// output carries what a command prints to the host.
type output struct {
	s  *server
	id uint64
	op wire.Op

	started <-chan struct{} // closed when the host knows that the command runs: nothing is told before that
}

func (o output) Write(p []byte) (int, error) {
	<-o.started
	if err := o.s.conn.Send(wire.Frame{ID: o.id, Op: o.op, Body: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}
