package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFramesSurviveTheTrip(t *testing.T) {
	frames := []Frame{
		{Op: Hello, Text: "6.1.0-amd64"},
		{ID: 1, Op: Run, Argv: []string{"sh", "-c", "echo \"a\nb\""}, Env: []string{"A=b"}},
		{ID: 1, Op: Stdout, Body: []byte("{\"op\":\"exit\"}\n\x00\xff")},
		{ID: 1, Op: Exit, Code: 3, Signal: 9},
		{ID: 2, Op: Write, Path: "/a", Mode: 0o755, Append: true, Body: bytes.Repeat([]byte("\n"), 100<<10)},
	}
	var buf bytes.Buffer
	c := New(&buf)
	for _, f := range frames {
		if err := c.Send(f); err != nil {
			t.Fatalf("Send(%s) = %v; want nil", f.Op, err)
		}
	}
	for _, want := range frames {
		want.Size = len(want.Body)
		got, err := c.Receive()
		if err != nil {
			t.Fatalf("Receive() = %v; want %s", err, want.Op)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Receive() (-want +got):\n%s", diff)
		}
	}
	if _, err := c.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("Receive() at the end = %v; want EOF", err)
	}
}

func TestReceiveRefusesABrokenStream(t *testing.T) {
	for name, in := range map[string]string{
		"no JSON":        "login:\n",
		"cut in a line":  `{"op":"hello"`,
		"cut in a body":  `{"op":"data","size":5}` + "\nabc",
		"negative body":  `{"op":"data","size":-1}` + "\n",
		"too large body": `{"op":"data","size":99999999}` + "\n",
	} {
		if f, err := New(bytes.NewBufferString(in)).Receive(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: Receive(%q) = %+v, %v; want an error that is not EOF", name, in, f, err)
		}
	}
}

func TestSendRefusesAnOversizedBody(t *testing.T) {
	var buf bytes.Buffer
	if err := New(&buf).Send(Frame{Op: Data, Body: make([]byte, MaxBody+1)}); err == nil || buf.Len() != 0 {
		t.Errorf("Send(%d bytes) = %v, wrote %d; want an error and nothing written", MaxBody+1, err, buf.Len())
	}
}
