package vm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func testLab(t *testing.T) *Lab {
	return &Lab{cache: t.TempDir(), log: t.Logf}
}

func TestEntryIsBuiltOnce(t *testing.T) {
	l := testLab(t)
	var built atomic.Int32
	var wait sync.WaitGroup
	for range 4 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			dir, err := l.entry(t.Context(), "a", key("x"), func(dir string) error {
				built.Add(1)
				return os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
			})
			if err != nil {
				t.Errorf("entry = %v; want nil", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
				t.Error(err)
			}
		}()
	}
	wait.Wait()
	if built.Load() != 1 {
		t.Errorf("4 wanted the entry, it was built %d times; want 1", built.Load())
	}
}

func TestEntryThatFailedIsBuiltAgain(t *testing.T) {
	l := testLab(t)
	broken := errors.New("broken")
	_, err := l.entry(t.Context(), "a", key("x"), func(dir string) error {
		return errors.Join(broken, os.WriteFile(filepath.Join(dir, "old"), nil, 0o600))
	})
	if !errors.Is(err, broken) {
		t.Fatalf("entry = %v; want %v", err, broken)
	}
	dir, err := l.entry(t.Context(), "a", key("x"), func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "old")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the failed build left is in the entry: %v", err)
	}
}

func TestEntryKeepsTheLastUsed(t *testing.T) {
	l := testLab(t)
	var dirs []string
	use := func(i int) {
		t.Helper()
		dir, err := l.entry(t.Context(), "a", key(i), func(string) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if i == len(dirs) {
			dirs = append(dirs, dir)
		}
	}
	for i := range keep {
		use(i)
		old := time.Now().Add(time.Duration(i-100) * time.Hour)
		if err := os.Chtimes(dirs[i], old, old); err != nil {
			t.Fatal(err)
		}
	}
	use(0)
	use(keep)
	for i, dir := range dirs {
		_, err := os.Stat(dir)
		if gone := errors.Is(err, os.ErrNotExist); gone != (i == 1) {
			t.Errorf("entry %d: gone %v; want that only entry 1, used longest ago, is", i, gone)
		}
	}
}

func TestLockWaitsNoLongerThanItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lock(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("lock of a locked file = %v; want %v", err, context.Canceled)
	}
	unlock()
	unlock, err = lock(t.Context(), path)
	if err != nil {
		t.Fatalf("lock after unlock = %v; want nil", err)
	}
	unlock()
}
