package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
)

// transcript keeps all that was written to it, and lets readers wait for more. The zero transcript is ready.
type transcript struct {
	mu     sync.Mutex // guards the rest
	text   bytes.Buffer
	more   chan struct{} // closed at the next write
	closed bool
}

// Write adds p. It does not fail.
func (t *transcript) Write(p []byte) (int, error) {
	t.add(p)
	return len(p), nil
}

func (t *transcript) add(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(p)
	t.wake()
}

// close says that nothing more comes.
func (t *transcript) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.wake()
}

func (t *transcript) wake() {
	if t.more != nil {
		close(t.more)
		t.more = nil
	}
}

// String is all of it.
func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// await waits until text is there.
func (t *transcript) await(ctx context.Context, text string) error {
	return t.awaitMatch(ctx, text, func(all []byte) bool { return bytes.Contains(all, []byte(text)) })
}

// awaitMatch waits until what there is matches what, as is tells.
func (t *transcript) awaitMatch(ctx context.Context, what string, is func(all []byte) bool) error {
	for {
		t.mu.Lock()
		found, closed := is(t.text.Bytes()), t.closed
		if t.more == nil {
			t.more = make(chan struct{})
		}
		more := t.more
		t.mu.Unlock()
		switch {
		case found:
			return nil
		case closed:
			return fmt.Errorf("wait for %q: %w", what, io.ErrUnexpectedEOF)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("wait for %q: %w", what, ctx.Err())
		}
	}
}
