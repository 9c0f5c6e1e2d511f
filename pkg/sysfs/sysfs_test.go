package sysfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func tree(t *testing.T, files map[string]string) FS {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return At(root)
}

func TestRead(t *testing.T) {
	f := tree(t, map[string]string{"a/b": "clean\n", "empty": "", "long": strings.Repeat("x", pageSize+1), "page": strings.Repeat("x", pageSize)})
	if got, err := f.Read("a", "b"); got != "clean" || err != nil {
		t.Errorf("Read(a, b) = %q, %v; want clean", got, err)
	}
	if got, err := f.Read("empty"); got != "" || err != nil {
		t.Errorf("Read(empty) = %q, %v; want nothing", got, err)
	}
	if got, err := f.Read("page"); len(got) != pageSize || err != nil {
		t.Errorf("Read(page) = %d bytes, %v; want all of them", len(got), err)
	}
	if _, err := f.Read("long"); err == nil {
		t.Error("Read(long) cut in silence")
	}
	if _, err := f.Read("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read(none) = %v; want it to be missing", err)
	}
}

func TestUint(t *testing.T) {
	f := tree(t, map[string]string{"plain": "1280\n", "system": "200000 (system)\n", "word": "none\n", "minus": "-1\n"})
	for name, want := range map[string]uint64{"plain": 1280, "system": 200000} {
		if got, err := f.Uint(name); got != want || err != nil {
			t.Errorf("Uint(%s) = %d, %v; want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"word", "minus"} {
		if got, err := f.Uint(name); err == nil {
			t.Errorf("Uint(%s) = %d; want an error", name, got)
		}
	}
}

func TestWriteNeverCreates(t *testing.T) {
	f := tree(t, nil)
	if err := f.Write("1", "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Write(missing) = %v; want it to be missing", err)
	}
	if f.Exists("missing") {
		t.Error("Write made a file")
	}
}

func TestSetUintSeesWhatWasKept(t *testing.T) {
	f := tree(t, map[string]string{"limit": "9999"})
	if err := f.SetUint(1234, "limit"); err != nil {
		t.Errorf("SetUint(1234) = %v", err)
	}
	// a file keeps the rest of a longer value, as a kernel keeps its own: 12 written over 1234 reads 1234
	var kept *KeptError
	if err := f.SetUint(12, "limit"); !errors.As(err, &kept) || kept.Wanted != 12 || kept.Got != 1234 {
		t.Errorf("SetUint(12) = %v; want that 1234 was kept", err)
	}
}

func TestListOfNothing(t *testing.T) {
	f := tree(t, map[string]string{"d/b": "", "d/a": ""})
	if got, err := f.List("d"); strings.Join(got, " ") != "a b" || err != nil {
		t.Errorf("List(d) = %v, %v", got, err)
	}
	if got, err := f.List("none"); len(got) != 0 || err != nil {
		t.Errorf("List(none) = %v, %v; want nothing", got, err)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	f := tree(t, map[string]string{"state": "clean"})
	w, err := f.Watch("state")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Wait(ctx, time.Hour) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Wait() = %v; want the context's end", err)
	}
	if err := w.Wait(context.Background(), time.Millisecond); err != nil {
		t.Errorf("Wait() = %v; want it to end by its time", err)
	}
}

func TestWatchOfWhatIsNotThere(t *testing.T) {
	if _, err := tree(t, nil).Watch("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Watch(none) = %v; want it to be missing", err)
	}
}

func TestAgain(t *testing.T) {
	tries := 0
	got, err := Again(func() (int, error) {
		if tries++; tries < 3 {
			return 0, unix.EINTR
		}
		return 7, unix.EBUSY
	})
	if got != 7 || !errors.Is(err, unix.EBUSY) || tries != 3 {
		t.Errorf("Again() = %d, %v after %d tries; want 7, EBUSY, 3", got, err, tries)
	}
}

// TestWakeBy: when a wait is over, whoever closes the descriptor must not find that a byte is still to be written to it.
func TestWakeBy(t *testing.T) {
	for range 1000 {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		undo := wakeBy(ctx, pipe[1])
		cancel()
		undo()
		if n, err := unix.Read(pipe[0], make([]byte, 8)); n != 1 || err != nil {
			t.Fatalf("after it, the pipe has %d bytes (%v); want the one", n, err)
		}
		_, _ = unix.Close(pipe[0]), unix.Close(pipe[1])
	}
}
