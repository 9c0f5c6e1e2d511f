package vm

import (
	"context"
	"errors"
	"io"
	"testing"
)

func TestTranscriptAwait(t *testing.T) {
	var console transcript
	found := make(chan error, 1)
	console.add([]byte("pass"))
	go func() { found <- console.await(t.Context(), "password") }()
	console.add([]byte("word: "))
	if err := <-found; err != nil {
		t.Errorf("await(password) = %v; want nil", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := console.await(ctx, "login"); !errors.Is(err, context.Canceled) {
		t.Errorf("await(login) = %v; want %v", err, context.Canceled)
	}
	go console.close()
	if err := console.await(t.Context(), "login"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("await(login) at the end = %v; want %v", err, io.ErrUnexpectedEOF)
	}
	if got, want := console.String(), "password: "; got != want {
		t.Errorf("String() = %q; want %q", got, want)
	}
}
