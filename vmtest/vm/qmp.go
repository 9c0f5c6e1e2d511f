package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Event is one of QEMU's events.
type Event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// qmp is the monitor's client.
type qmp struct {
	w       io.Writer
	mu      sync.Mutex // guards the rest, and w
	nextID  uint64
	pending map[uint64]chan reply
	events  []Event
	more    chan struct{} // closed at the next event, and at the end
	err     error         // why nothing more comes
}

type reply struct {
	ID     uint64          `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event
}

func newQMP(rw io.ReadWriter) *qmp {
	q := &qmp{w: rw, pending: map[uint64]chan reply{}, more: make(chan struct{})}
	go q.receive(rw)
	return q
}

func (q *qmp) receive(r io.Reader) {
	for in := json.NewDecoder(r); ; {
		var m reply
		if err := in.Decode(&m); err != nil {
			q.mu.Lock()
			q.err = fmt.Errorf("monitor: %w", err)
			for _, answer := range q.pending {
				close(answer)
			}
			q.pending = nil
			close(q.more)
			q.mu.Unlock()
			return
		}
		q.mu.Lock()
		if m.Name != "" {
			q.events = append(q.events, m.Event)
			close(q.more)
			q.more = make(chan struct{})
		} else if answer := q.pending[m.ID]; answer != nil {
			delete(q.pending, m.ID)
			answer <- m
		}
		q.mu.Unlock()
	}
}

// do runs one monitor command.
func (q *qmp) do(ctx context.Context, command string, args any) (json.RawMessage, error) {
	answer := make(chan reply, 1)
	q.mu.Lock()
	if q.err != nil {
		q.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", command, q.err)
	}
	q.nextID++
	request := map[string]any{"execute": command, "id": q.nextID}
	if args != nil {
		request["arguments"] = args
	}
	text, err := json.Marshal(request)
	if err == nil {
		q.pending[q.nextID] = answer
		_, err = q.w.Write(append(text, '\n'))
	}
	q.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	select {
	case m, ok := <-answer:
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: %w", command, errors.Join(q.err, io.ErrUnexpectedEOF))
		case m.Error != nil:
			return nil, fmt.Errorf("%s: %s: %s", command, m.Error.Class, m.Error.Desc)
		}
		return m.Return, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", command, ctx.Err())
	}
}

// count is how many events there were.
func (q *qmp) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events)
}

// await waits for an event that match accepts, among those from number from on.
func (q *qmp) await(ctx context.Context, from int, match func(Event) bool) (Event, error) {
	for {
		q.mu.Lock()
		events, more, err := q.events, q.more, q.err
		q.mu.Unlock()
		for ; from < len(events); from++ {
			if match(events[from]) {
				return events[from], nil
			}
		}
		if err != nil {
			return Event{}, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}
