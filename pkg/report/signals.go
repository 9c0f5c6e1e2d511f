package report

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Interruptible is a context that ends with an interrupt: SIGINT, SIGTERM, or SIGHUP where nohup has not ignored that. A shell
// ignores SIGINT for what it starts in the background, which whoever sends one does not mean.
func Interruptible() (context.Context, context.CancelFunc) {
	heeded := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		heeded = append(heeded, syscall.SIGHUP)
	}
	return signal.NotifyContext(context.Background(), heeded...)
}
