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

func TestCrashedByEmulator(t *testing.T) {
	t.Parallel()
	for console, want := range map[string]bool{
		"": false,
		"[    1.8] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n[    1.8] CPU: 1 UID: 0 PID: 1 Comm: swapper/0 Not tainted":   true,
		"[    2.7] Oops: int3: 0000 [#2] PREEMPT SMP NOPTI\n[    2.7] CPU: 0 UID: 0 PID: 9 Comm: kworker/0:0 Not tainted": true,
		"[    2.1] Initramfs unpacking failed: ZSTD-compressed data is corrupt":                                           true,
		"[   31.8] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n[   31.8] CPU: 1 UID: 0 PID: 77 Comm: mdadm Not tainted":      false,
		"[    1.8] Oops: general protection fault: 0000 [#1]\n[    1.8] CPU: 1 UID: 0 PID: 1 Comm: swapper/0 Not tainted": false,
	} {
		if got := crashedByEmulator(console); got != want {
			t.Errorf("crashedByEmulator(%q) = %v; want %v", console, got, want)
		}
	}
}
