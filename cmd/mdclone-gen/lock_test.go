package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLock: while one works on a machine, others refuse to.
func TestLock(t *testing.T) {
	t.Parallel()
	f := newFake(t).withGrub().withRescue()
	f.run(0, "install")
	unlock, err := machine{root: f.root}.lock()
	if err != nil {
		t.Fatal(err)
	}
	before := f.tree()
	f.ran = nil
	commands := [][]string{
		{"install"}, {"uninstall"}, {"boot-once", "backup"}, {"rescue", "--output", f.path("x.img"), "--kernel", kernel},
	}
	for _, args := range commands {
		f.run(3, args...)
		f.says(&f.stderr, "error: another mdclone-gen works on "+f.root+"; nothing was changed")
	}
	if diff := cmp.Diff(before, f.tree()); diff != "" || len(f.ran) > 0 {
		t.Errorf("ran %q, changed (-before +after):\n%s", f.ran, diff)
	}
	f.run(0, "verify") // only reads
	unlock()
	for _, args := range commands {
		f.run(0, args...)
		f.run(0, "install")
	}
}

// TestUndoWaits: at boot it is tried but once.
func TestUndoWaits(t *testing.T) {
	t.Parallel()
	f := newFake(t).withGrub()
	f.run(0, "install")
	unlock, err := machine{root: f.root}.lock()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.run(0, "boot-once", "backup", "--undo")
	}()
	select {
	case <-ended:
		t.Error("it does not wait for the other one")
	case <-time.After(300 * time.Millisecond):
	}
	unlock()
	<-ended
}
