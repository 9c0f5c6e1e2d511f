package report

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// TestIgnoredSignals: what nohup has ignored is no interrupt.
func TestIgnoredSignals(t *testing.T) {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
	defer signal.Reset(syscall.SIGHUP, syscall.SIGINT)
	ctx, stop := Interruptible()
	defer stop()
	later := make(chan os.Signal, 1)
	signal.Notify(later, syscall.SIGUSR1)
	defer signal.Stop(later)
	kill := func(s syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	kill(syscall.SIGHUP)
	kill(syscall.SIGUSR1)
	if <-later; ctx.Err() != nil {
		t.Error("interrupted by an ignored signal")
	}
	kill(syscall.SIGINT) // which a shell ignores for what is in the background
	<-ctx.Done()
}
