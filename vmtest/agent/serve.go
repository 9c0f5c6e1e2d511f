package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"mdclone/vmtest/wire"
)

// serve answers requests until the host closes the port.
func serve(log io.Writer) error {
	port, err := openPort()
	if err != nil {
		return err
	}
	defer port.Close()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	s := &server{conn: wire.New(port), log: log, commands: newCommands()}
	s.send(wire.Frame{Op: wire.Hello, Text: unix.ByteSliceToString(uts.Release[:])})
	return s.loop()
}

// loop handles requests until the end of the connection.
func (s *server) loop() error {
	for {
		f, err := s.conn.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		s.handle(f)
	}
}

type server struct {
	conn     *wire.Conn
	log      io.Writer
	commands *commands
}

// send writes f. A failure is the host's end: Receive sees it too and ends the server.
func (s *server) send(f wire.Frame) {
	if err := s.conn.Send(f); err != nil {
		fmt.Fprintf(s.log, "agent: %v\n", err)
	}
}

// handle does or starts what f asks for. Run and Signal are handled before the next frame is read, so that a signal
// finds its command; what may take long goes on by itself.
func (s *server) handle(f wire.Frame) {
	switch f.Op {
	case wire.Run:
		s.run(f)
	case wire.Signal:
		if err := s.commands.signal(f.ID, unix.Signal(f.Code)); err != nil {
			fmt.Fprintf(s.log, "agent: signal %d to command %d: %v\n", f.Code, f.ID, err)
		}
	case wire.Ping:
		s.done(f.ID, "", nil)
	case wire.Write:
		go func() { s.done(f.ID, "", writeFile(f)) }() // an attribute in sysfs may block
	case wire.Read:
		go func() { s.done(f.ID, "", s.readFile(f)) }()
	case wire.Appear:
		go func() {
			name, err := waitDisk(f.Path, true)
			s.done(f.ID, name, err)
		}()
	case wire.Vanish:
		go func() {
			_, err := waitDisk(f.Path, false)
			s.done(f.ID, "", err)
		}()
	case wire.PowerOff:
		if err := powerOff(); err != nil {
			s.done(f.ID, "", err)
		}
	default:
		s.done(f.ID, "", fmt.Errorf("unknown request %q", f.Op))
	}
}

// done answers the request id: Done with text, or Failed.
func (s *server) done(id uint64, text string, err error) {
	f := wire.Frame{ID: id, Op: wire.Done, Text: text}
	if err != nil {
		f.Op, f.Text = wire.Failed, err.Error()
	}
	s.send(f)
}

func (s *server) readFile(req wire.Frame) error {
	file, err := os.Open(req.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	buf := make([]byte, wire.Chunk)
	for {
		n, err := io.ReadFull(file, buf)
		if n > 0 {
			s.send(wire.Frame{ID: req.ID, Op: wire.Data, Body: buf[:n]})
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// writeFile writes with one write(2), as an attribute in sysfs wants it.
func writeFile(req wire.Frame) error {
	if err := os.MkdirAll(filepath.Dir(req.Path), 0o755); err != nil {
		return err
	}
	if req.Mode&0o111 != 0 {
		// A process started meanwhile would have it open until its exec, and as long as that it could not be run (ETXTBSY).
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if req.Append {
		flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	}
	file, err := os.OpenFile(req.Path, flags, os.FileMode(req.Mode))
	if err != nil {
		return err
	}
	if _, err := file.Write(req.Body); err != nil {
		return errors.Join(err, file.Close())
	}
	return file.Close()
}

// powerOff ends the machine in good order: through systemd where it runs.
func powerOff() error {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		err := exec.Command("systemctl", "--no-block", "poweroff").Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Sys() == syscall.WaitStatus(unix.SIGTERM) {
			return nil // by the shutdown that it has asked for, with all that is this service's
		}
		return err
	}
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
