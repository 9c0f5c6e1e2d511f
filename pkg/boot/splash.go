package boot

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// splashAtMost bounds each call of the splash screen's program but that which waits for a key.
const splashAtMost = 2 * time.Second

// show says something on the consoles and on the splash screen, if there is one.
func (b *Boot) show(ctx context.Context, text string) {
	b.Log.Infof("%s", text)
	b.showSplash(ctx, text)
}

func (b *Boot) showSplash(ctx context.Context, text string) { _, _ = fmt.Fprintln(b.splash(ctx), text) }

// showOnce is show for what more than one look finds.
func (b *Boot) showOnce(ctx context.Context, format string, args ...any) {
	if text := fmt.Sprintf(format, args...); b.first(text) {
		b.show(ctx, text)
	}
}

// splash is plymouth's, if it runs.
func (b *Boot) splash(ctx context.Context) io.Writer {
	if s := (splashScreen{ctx, b}); s.runs() {
		return s
	}
	return io.Discard
}

type splashScreen struct {
	ctx context.Context
	b   *Boot
}

func (s splashScreen) runs() bool { return s.run("--ping") == nil }

func (s splashScreen) run(args ...string) error {
	ctx, cancel := context.WithTimeout(s.ctx, splashAtMost)
	defer cancel()
	_, err := s.b.Run(ctx, "plymouth", args...)
	return err
}

// Write shows the text's last line; that it is not shown is no failure of what is shown.
func (s splashScreen) Write(text []byte) (int, error) {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	_ = s.run("display-message", "--text="+lines[len(lines)-1])
	return len(text), nil
}

// enter is the key, as plymouth's commands take it.
const enter = "--keys=\n"

// keys has one value for each Enter at the splash screen, which keeps the keyboard from the consoles. It is closed after stop, and at
// once where there is no such screen (on_enter in src/main.c and on_key_answer in src/client/plymouth.c).
func (b *Boot) keys(ctx context.Context) (pressed <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	keys, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(keys)
		s := splashScreen{ctx, b}
		for s.runs() {
			_ = s.run("ignore-keystroke", enter) // of a process that was left behind
			if _, err := b.Run(ctx, "plymouth", "watch-keystroke", enter); err != nil {
				return
			}
			select {
			case keys <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return keys, func() {
		_ = splashScreen{context.WithoutCancel(ctx), b}.run("ignore-keystroke", enter) // else the next Enter is still for this one
		cancel()
		<-ended
	}
}
