package boot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestSplash: what is said goes to plymouth too, the last line of it, if that runs; that it cannot be shown is no failure.
func TestSplash(t *testing.T) {
	for _, test := range []struct {
		name string
		runs bool
		want []string
	}{
		{"there is none", false, []string{"plymouth --ping"}},
		{"it runs", true, []string{"plymouth --ping", "plymouth display-message --text=then this"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, log := fake(t, "")
			var ran []string
			b.Run = func(_ context.Context, name string, args ...string) (string, error) {
				ran = append(ran, strings.Join(append([]string{name}, args...), " "))
				if test.runs && len(ran) == 1 {
					return "", nil
				}
				return "", errors.New("exit 1")
			}
			b.show(t.Context(), "first this\nthen this")
			if !slices.Equal(ran, test.want) {
				t.Errorf("ran %q; want %q", ran, test.want)
			}
			if !strings.Contains(log.String(), "first this") {
				t.Errorf("the consoles say %q", log)
			}
		})
	}
}

// TestSplashKeys: Enter at the splash screen ends a wait as it does at a console, each time, and what waits for it ends with the
// wait.
func TestSplashKeys(t *testing.T) {
	b, _ := fake(t, "")
	none, stop := b.keys(t.Context())
	if _, ok := <-none; ok {
		t.Error("a key was pressed where there is no splash screen")
	}
	stop()
	pressed := make(chan struct{})
	b.Run = func(ctx context.Context, _ string, args ...string) (string, error) {
		if args[0] != "watch-keystroke" {
			return "", nil
		}
		select {
		case <-pressed:
			return "", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	keys, stop := b.keys(t.Context())
	con := &consoles{keys: keys}
	if con.entered() {
		t.Error("entered() = true before a key was pressed")
	}
	for range 2 {
		pressed <- struct{}{}
		if _, ok := <-con.keys; !ok {
			t.Error("a key that was pressed is not told")
		}
	}
	stop()
	if _, ok := <-con.keys; ok || con.entered() {
		t.Error("a key is told after the end")
	}
	told := make(chan struct{}, 1)
	told <- struct{}{}
	if con.keys = told; !con.entered() || con.entered() {
		t.Error("entered() does not tell of a key once")
	}
}
