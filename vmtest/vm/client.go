package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"mdclone/vmtest/wire"
)

// client speaks to the agent.
type client struct {
	conn    *wire.Conn
	hello   chan struct{} // closed when the agent is up
	release string        // of the kernel; valid after hello
	mu      sync.Mutex    // guards the rest
	nextID  uint64
	pending map[uint64]*call
	err     error // why nothing more comes
}

// call is a request that is not answered yet.
type call struct {
	frames chan wire.Frame // closed at the end of the connection
	quit   chan struct{}   // closed when nobody reads frames any more
}

func newClient(rw io.ReadWriter) *client {
	c := &client{conn: wire.New(rw), hello: make(chan struct{}), pending: map[uint64]*call{}}
	go c.receive()
	return c
}

func (c *client) receive() {
	for {
		f, err := c.conn.Receive()
		if err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.err = fmt.Errorf("agent: %w", err)
			for _, call := range c.pending {
				close(call.frames)
			}
			c.pending = nil
			return
		}
		if f.Op == wire.Hello {
			if c.release == "" {
				c.release = f.Text
				close(c.hello)
			}
			continue
		}
		c.mu.Lock()
		call := c.pending[f.ID]
		c.mu.Unlock()
		if call == nil {
			continue // given up meanwhile
		}
		select {
		case call.frames <- f:
		case <-call.quit:
		}
	}
}

// start sends a request. Its frames must be read to the last one or end called.
func (c *client) start(f wire.Frame) (id uint64, in *call, err error) {
	in = &call{frames: make(chan wire.Frame, 16), quit: make(chan struct{})}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return 0, nil, fmt.Errorf("%s: %w", f.Op, c.err)
	}
	c.nextID++
	f.ID = c.nextID
	c.pending[f.ID] = in
	c.mu.Unlock()
	if err := c.conn.Send(f); err != nil {
		c.end(f.ID)
		return 0, nil, fmt.Errorf("agent: %w", err)
	}
	return f.ID, in, nil
}

// end forgets a request.
func (c *client) end(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if call := c.pending[id]; call != nil {
		close(call.quit)
		delete(c.pending, id)
	}
}

// next is the next frame of a request. Failed comes as an error.
func (c *client) next(ctx context.Context, in *call) (wire.Frame, error) {
	select {
	case f, ok := <-in.frames:
		if !ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			return f, c.err
		}
		if f.Op == wire.Failed {
			return f, errors.New(f.Text)
		}
		return f, nil
	case <-ctx.Done():
		return wire.Frame{}, ctx.Err()
	}
}

// do sends a request that is answered by any number of Data frames, which go to data, and Done, which it returns.
func (c *client) do(ctx context.Context, f wire.Frame, data io.Writer) (wire.Frame, error) {
	id, in, err := c.start(f)
	if err != nil {
		return wire.Frame{}, err
	}
	defer c.end(id)
	for {
		answer, err := c.next(ctx, in)
		if err != nil || answer.Op == wire.Done {
			return answer, err
		}
		if answer.Op != wire.Data || data == nil {
			return answer, fmt.Errorf("%s: unexpected answer %q", f.Op, answer.Op)
		}
		if _, err := data.Write(answer.Body); err != nil {
			return answer, err
		}
	}
}
