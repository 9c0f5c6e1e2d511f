package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mdclone/vmtest/wire"
)

// start runs a server and returns the host's end of the connection to it.
func start(t *testing.T) *wire.Conn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	here, there := os.NewFile(uintptr(fds[0]), "host"), os.NewFile(uintptr(fds[1]), "guest")
	ended := make(chan error)
	go func() {
		s := &server{conn: wire.New(there), log: os.Stderr, commands: newCommands()}
		ended <- s.loop()
	}()
	t.Cleanup(func() {
		if err := here.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v; want nil", err)
		}
		if err := there.Close(); err != nil {
			t.Error(err)
		}
	})
	return wire.New(here)
}

func send(t *testing.T, c *wire.Conn, f wire.Frame) {
	t.Helper()
	if err := c.Send(f); err != nil {
		t.Fatal(err)
	}
}

// until receives frames up to one of ops.
func until(t *testing.T, c *wire.Conn, ops ...wire.Op) []wire.Frame {
	t.Helper()
	var all []wire.Frame
	for {
		f, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
		if slices.Contains(ops, f.Op) {
			return all
		}
	}
}

func TestRunTellsTheStartBeforeTheOutput(t *testing.T) {
	c := start(t)
	for id := range uint64(50) {
		send(t, c, wire.Frame{ID: id, Op: wire.Run, Argv: []string{"/bin/sh", "-c", "printf $A; cat"}, Env: []string{"A=b"}, Body: []byte("c")})
		frames := until(t, c, wire.Exit, wire.Failed)
		var out bytes.Buffer
		for _, f := range frames[1 : len(frames)-1] {
			if f.Op != wire.Stdout || f.ID != id {
				t.Errorf("frame of %d: %+v; want stdout", id, f)
			}
			out.Write(f.Body)
		}
		if frames[0].Op != wire.Started || frames[0].Code <= 0 || out.String() != "bc" || frames[len(frames)-1].Code != 0 {
			t.Fatalf("run = %+v; want started, bc, exit 0", frames)
		}
	}
}

func TestRunTellsHowItEnded(t *testing.T) {
	c := start(t)
	send(t, c, wire.Frame{ID: 1, Op: wire.Run, Argv: []string{"/bin/sh", "-c", "echo no >&2; exit 7"}})
	frames := until(t, c, wire.Exit)
	if end := frames[len(frames)-1]; frames[1].Op != wire.Stderr || string(frames[1].Body) != "no\n" || end.Code != 7 || end.Signal != 0 {
		t.Errorf("run = %+v; want no on stderr and exit 7", frames)
	}
	send(t, c, wire.Frame{ID: 2, Op: wire.Run, Argv: []string{"/no/such/program"}})
	if f := until(t, c, wire.Failed, wire.Started)[0]; f.ID != 2 || !strings.Contains(f.Text, "/no/such/program") {
		t.Errorf("run of a missing program = %+v; want a failure that names it", f)
	}
	send(t, c, wire.Frame{ID: 3, Op: wire.Run})
	if f := until(t, c, wire.Failed, wire.Started)[0]; f.Op != wire.Failed {
		t.Errorf("run of nothing = %+v; want a failure", f)
	}
}

func TestSignalReachesTheProcessGroup(t *testing.T) {
	c := start(t)
	send(t, c, wire.Frame{ID: 1, Op: wire.Run, Argv: []string{"/bin/sh", "-c", "sleep 1000; true"}})
	send(t, c, wire.Frame{ID: 1, Op: wire.Signal, Code: int(unix.SIGTERM)})
	frames := until(t, c, wire.Exit)
	if end := frames[len(frames)-1]; end.Signal != int(unix.SIGTERM) {
		t.Errorf("end = %+v; want signal %d", end, unix.SIGTERM)
	}
}

func TestFiles(t *testing.T) {
	c := start(t)
	path := filepath.Join(t.TempDir(), "a", "b")
	part := bytes.Repeat([]byte("0123456789"), wire.Chunk/8)
	for i := range 2 {
		send(t, c, wire.Frame{ID: 1, Op: wire.Write, Path: path, Mode: 0o640, Append: i > 0, Body: part})
		until(t, c, wire.Done)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 || info.Size() != int64(2*len(part)) {
		t.Errorf("stat of what was written = %v, %v; want mode 640 and %d bytes", info, err, 2*len(part))
	}
	send(t, c, wire.Frame{ID: 2, Op: wire.Read, Path: path})
	var got []byte
	for _, f := range until(t, c, wire.Done, wire.Failed) {
		got = append(got, f.Body...)
	}
	if !bytes.Equal(got, append(part, part...)) {
		t.Errorf("read = %d bytes; want the %d that were written", len(got), 2*len(part))
	}
	for _, f := range []wire.Frame{
		{ID: 3, Op: wire.Read, Path: path + "/none"},
		{ID: 4, Op: wire.Write, Path: path + "/none"},
		{ID: 5, Op: "sing"},
	} {
		send(t, c, f)
		if answer := until(t, c, wire.Done, wire.Failed)[0]; answer.Op != wire.Failed || answer.ID != f.ID || answer.Text == "" {
			t.Errorf("%+v: answer %+v; want a failure with its reason", f, answer)
		}
	}
	send(t, c, wire.Frame{ID: 6, Op: wire.Ping})
	until(t, c, wire.Done)
}
