package vm

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"mdclone/vmtest/wire"
)

// ends are the two ends of a connection, which end with the test.
func ends(t *testing.T) (net.Conn, *os.File) {
	t.Helper()
	mine, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(mine.Close(), theirs.Close()); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return mine, theirs
}

// guest is the agent's end of a connection; what it receives comes from frames.
func guest(t *testing.T) (v *VM, agent *wire.Conn, hangUp func()) {
	t.Helper()
	mine, theirs := ends(t)
	return &VM{agent: newClient(mine)}, wire.New(theirs), func() {
		if err := theirs.Close(); err != nil {
			t.Error(err)
		}
	}
}

// answer receives a request and answers it with frames, under its ID.
func answer(t *testing.T, agent *wire.Conn, frames ...wire.Frame) {
	f, err := agent.Receive()
	if err != nil {
		t.Errorf("the agent got no request: %v", err)
	}
	for _, a := range frames {
		a.ID = f.ID
		if err := agent.Send(a); err != nil {
			t.Error(err)
		}
	}
}

func TestRun(t *testing.T) {
	v, agent, _ := guest(t)
	go answer(t, agent, wire.Frame{Op: wire.Started, Code: 77}, wire.Frame{Op: wire.Stderr, Body: []byte("e")},
		wire.Frame{Op: wire.Stdout, Body: []byte("a")}, wire.Frame{Op: wire.Stdout, Body: []byte("b")}, wire.Frame{Op: wire.Exit, Code: 3})
	r, err := v.Run(t.Context(), "program", "x")
	if err != nil || r.Stdout != "ab" || r.Stderr != "e" || r.Code != 3 {
		t.Errorf("Run = %+v, %v; want ab, e and 3", r, err)
	}
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "program x: exit status 3") {
		t.Errorf("Err() = %v; want program x: exit status 3", err)
	}
	go answer(t, agent, wire.Frame{Op: wire.Failed, Text: "no such program"})
	if _, err := v.Run(t.Context(), "none"); err == nil || !strings.Contains(err.Error(), "no such program") {
		t.Errorf("Run(none) = %v; want the agent's reason", err)
	}
	go answer(t, agent, wire.Frame{Op: wire.Stdout, Body: []byte("too early")})
	if _, err := v.Run(t.Context(), "early"); err == nil {
		t.Error("Run with output before its start = nil; want an error")
	}
}

func TestRunEndsWithTheGuest(t *testing.T) {
	v, agent, hangUp := guest(t)
	go func() {
		answer(t, agent, wire.Frame{Op: wire.Started, Code: 77})
		hangUp()
	}()
	if r, err := v.Run(t.Context(), "program"); err == nil {
		t.Errorf("Run in a guest that ended = %+v, nil; want an error", r)
	}
	if r, err := v.Run(t.Context(), "program"); err == nil {
		t.Errorf("Run after the guest's end = %+v, nil; want an error", r)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	v, agent, _ := guest(t)
	go answer(t, agent, wire.Frame{Op: wire.Started, Code: 77}, wire.Frame{Op: wire.Stdout, Body: []byte("so far")})
	p, err := v.Spawn(t.Context(), Command{Argv: []string{"program"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitStdout(t.Context(), "so far"); err != nil || p.PID != 77 {
		t.Errorf("AwaitStdout = %v, process %d; want nil, 77", err, p.PID)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "so far") {
		t.Errorf("Wait = %v; want %v and the output so far", err, context.Canceled)
	}
}

func TestReadFile(t *testing.T) {
	v, agent, _ := guest(t)
	part := bytes.Repeat([]byte("x"), wire.Chunk)
	go answer(t, agent, wire.Frame{Op: wire.Data, Body: part}, wire.Frame{Op: wire.Data, Body: []byte("end")}, wire.Frame{Op: wire.Done})
	got, err := v.ReadFile(t.Context(), "/a")
	if err != nil || len(got) != wire.Chunk+3 || !bytes.HasSuffix(got, []byte("xend")) {
		t.Errorf("ReadFile = %d bytes, %v; want both parts, %d", len(got), err, wire.Chunk+3)
	}
	go answer(t, agent, wire.Frame{Op: wire.Data, Body: part}, wire.Frame{Op: wire.Failed, Text: "input/output error"})
	if got, err := v.ReadFile(t.Context(), "/a"); err == nil || got != nil {
		t.Errorf("ReadFile that fails halfway = %d bytes, %v; want none and an error", len(got), err)
	}
}

func TestMonitor(t *testing.T) {
	mine, theirs := ends(t)
	q := newQMP(mine)
	say := func(lines ...string) {
		for _, line := range lines {
			if _, err := theirs.WriteString(line + "\n"); err != nil {
				t.Error(err)
			}
		}
	}
	// reply says lines once a command has come.
	reply := func(lines ...string) {
		if _, err := theirs.Read(make([]byte, 1000)); err != nil {
			t.Error(err)
		}
		say(lines...)
	}
	say(`{"QMP": {"version": {}}}`)
	go reply(`{"event": "RESET", "data": {"n": 1}}`, `{"return": {"x": 5}, "id": 1}`)
	if got, err := q.do(t.Context(), "query", map[string]any{"a": 1}); string(got) != `{"x": 5}` || err != nil {
		t.Errorf("do = %s, %v; want {\"x\": 5}", got, err)
	}
	go reply(`{"error": {"class": "GenericError", "desc": "no such disk"}, "id": 2}`)
	if _, err := q.do(t.Context(), "device_del", nil); err == nil || !strings.Contains(err.Error(), "device_del: GenericError: no such disk") {
		t.Errorf("do = %v; want QEMU's reason", err)
	}
	reset := func(e Event) bool { return e.Name == "RESET" }
	if e, err := q.await(t.Context(), 0, reset); err != nil || string(e.Data) != `{"n": 1}` {
		t.Errorf("await = %s, %v; want the event that came before", e.Data, err)
	}
	go say(`{"event": "STOP"}`, `{"event": "RESET", "data": {"n": 2}}`)
	if e, err := q.await(t.Context(), q.count(), reset); err != nil || string(e.Data) != `{"n": 2}` {
		t.Errorf("await = %s, %v; want the next event", e.Data, err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := q.await(t.Context(), 0, func(Event) bool { return false }); err == nil {
		t.Error("await after QEMU's end = nil; want an error")
	}
	if _, err := q.do(t.Context(), "query", nil); err == nil {
		t.Error("do after QEMU's end = nil; want an error")
	}
}
