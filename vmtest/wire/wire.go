// Package wire is what the host and the agent in the guest say to each other: frames of one JSON line and, where the
// line announces it, that many raw bytes. Frames of several requests may be mixed; their ID tells them apart.
//
// The transport is a virtio-serial port, which loses nothing and keeps the order, so there is no acknowledgement.
package wire

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Port is the name of the virtio-serial port that the agent serves.
const Port = "mdclone.agent"

// Chunk is how much of a file or of an output one frame carries at most, in bytes.
const Chunk = 1 << 20

// MaxBody bounds the body of a frame, in bytes: more can only be a stream that lost its step.
const MaxBody = 4 * Chunk

// Op is what a frame asks for or tells.
type Op string

// What the host asks for.
const (
	Ping     Op = "ping"     // answered by Done
	Run      Op = "run"      // starts Argv with Body as its input; answered by Started, Stdout, Stderr, Exit
	Signal   Op = "signal"   // sends signal Code to the process group of the command ID; not answered
	Write    Op = "write"    // writes Body to Path, after what is there if Append; answered by Done
	Read     Op = "read"     // answered by Data and Done
	Appear   Op = "appear"   // waits for a disk with the serial Path; answered by Done, Text is its kernel name
	Vanish   Op = "vanish"   // waits until there is none; answered by Done
	PowerOff Op = "poweroff" // not answered: the machine goes off
)

// What the agent tells.
const (
	Hello   Op = "hello"   // the agent is up; Text is the kernel release
	Started Op = "started" // the command runs as process Code
	Stdout  Op = "stdout"  // Body is output of the command ID
	Stderr  Op = "stderr"  // likewise
	Exit    Op = "exit"    // the command ended with status Code, or by the signal Signal
	Data    Op = "data"    // Body is the next part of the file
	Done    Op = "done"    // the request succeeded
	Failed  Op = "failed"  // the request failed; Text says why
)

// Frame is one message.
type Frame struct {
	ID     uint64   `json:"id,omitempty"` // the request, chosen by the host; 0 for Hello
	Op     Op       `json:"op"`
	Argv   []string `json:"argv,omitempty"`
	Env    []string `json:"env,omitempty"`    // added to the agent's environment, KEY=VALUE
	Path   string   `json:"path,omitempty"`   // absolute; of Appear and Vanish, a serial
	Mode   uint32   `json:"mode,omitempty"`   // permission bits of a written file
	Append bool     `json:"append,omitempty"` // Write: do not truncate
	Code   int      `json:"code,omitempty"`   // exit status, process id or signal number
	Signal int      `json:"signal,omitempty"` // Exit: the signal that ended the command, 0 for none
	Text   string   `json:"text,omitempty"`
	Size   int      `json:"size,omitempty"` // length of Body in bytes; set by Send
	Body   []byte   `json:"-"`
}

// Conn sends and receives frames. Send may be called from several goroutines, Receive from one.
type Conn struct {
	r  *bufio.Reader
	mu sync.Mutex // guards w
	w  io.Writer
}

// New makes a Conn over rw.
func New(rw io.ReadWriter) *Conn {
	return &Conn{r: bufio.NewReaderSize(rw, 256<<10), w: rw}
}

// Send writes one frame.
func (c *Conn) Send(f Frame) error {
	f.Size = len(f.Body)
	if f.Size > MaxBody {
		return fmt.Errorf("send %s: %d bytes in one frame, at most %d", f.Op, f.Size, MaxBody)
	}
	line, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("send %s: %w", f.Op, err)
	}
	buf := make([]byte, 0, len(line)+1+f.Size)
	buf = append(append(append(buf, line...), '\n'), f.Body...)
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(buf) > 0 {
		n, err := c.w.Write(buf)
		if err != nil {
			return fmt.Errorf("send %s: %w", f.Op, err)
		}
		buf = buf[n:]
	}
	return nil
}

// Receive reads the next frame. It returns io.EOF at the end of the stream.
func (c *Conn) Receive() (Frame, error) {
	var f Frame
	line, err := c.r.ReadBytes('\n')
	if err != nil {
		if err == io.EOF && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return f, err
	}
	if err := json.Unmarshal(line, &f); err != nil {
		return f, fmt.Errorf("receive %.80q: %w", line, err)
	}
	if f.Size < 0 || f.Size > MaxBody {
		return f, fmt.Errorf("receive %s: a body of %d bytes", f.Op, f.Size)
	}
	if f.Size > 0 {
		f.Body = make([]byte, f.Size)
		if _, err := io.ReadFull(c.r, f.Body); err != nil {
			return f, fmt.Errorf("receive %s: body: %w", f.Op, err)
		}
	}
	return f, nil
}
