package limits

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"mdclone/pkg/sysfs"
)

func TestOurFile(t *testing.T) {
	for file, want := range map[string]bool{
		"/memfd:mdclone-probe (deleted)":       true,
		"/mnt/#12 (deleted)":                   true,
		"/#12 (deleted)":                       true,
		"":                                     false,
		"/memfd:mdclone-probe":                 false,
		"/memfd:other (deleted)":               false,
		"/tmp/memfd:mdclone-probe-2 (deleted)": false,
		"/var/disk.img":                        false,
		"/var/disk.img (deleted)":              false,
		"/var/#12":                             false,
		"/var/#x (deleted)":                    false,
		"/var/# (deleted)":                     false,
		"/var/12 (deleted)":                    false,
		"/var/#1/disk.img (deleted)":           false,
	} {
		if got := ourFile(file); got != want {
			t.Errorf("ourFile(%q) = %t; want %t", file, got, want)
		}
	}
}

func TestTakeLoop(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name    string
		numbers []int
		fails   map[int]error
		rest    []int
		err     error
	}{
		{"the first", []int{1, 2, 3}, nil, []int{2, 3}, nil},
		{"one is there now", []int{1, 2, 3}, map[int]error{1: unix.EEXIST}, []int{3}, nil},
		{"two are bound by others", []int{1, 2, 3}, map[int]error{1: unix.EBUSY, 2: unix.EBUSY}, []int{}, nil},
		{"all are", []int{1, 2}, map[int]error{1: unix.EBUSY, 2: unix.EEXIST}, nil, ErrNoLoops},
		{"none is left", nil, nil, nil, ErrNoLoops},
		{"another error", []int{1, 2}, map[int]error{1: broken}, []int{2}, broken},
	} {
		rest, err := takeLoop(test.numbers, func(n int) error {
			if test.fails[n] == nil {
				return nil
			}
			return fmt.Errorf("set up loop%d: %w", n, test.fails[n])
		})
		if diff := cmp.Diff(test.rest, rest); diff != "" || !errors.Is(err, test.err) {
			t.Errorf("%s: takeLoop() = %v, %v; want %v, %v", test.name, rest, err, test.rest, test.err)
		}
	}
}

// loops is a made-up sysfs with loop devices on files, "" for none, and a kernel that removes those that it would.
type loops struct {
	root    string
	open    map[int]bool
	removed []int
}

func newLoops(t *testing.T, files map[int]string, open ...int) *loops {
	t.Helper()
	l := &loops{root: t.TempDir(), open: map[int]bool{}}
	for n, file := range files {
		dir := filepath.Join(l.root, "block", loopName(n))
		if file != "" {
			dir = filepath.Join(dir, "loop")
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if file != "" {
			if err := os.WriteFile(filepath.Join(dir, "backing_file"), []byte(file+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range open {
		l.open[n] = true
	}
	return l
}

func (l *loops) remove(number int) error {
	if file, err := backingOf(sysfs.At(l.root), loopName(number)); err != nil || file != "" || l.open[number] {
		return errors.Join(err, unix.EBUSY)
	}
	l.removed = append(l.removed, number)
	return os.RemoveAll(filepath.Join(l.root, "block", loopName(number)))
}

func TestFreeLoops(t *testing.T) {
	all := func(but ...int) []int {
		var out []int
		for n := loopsFrom; n < loopsEnd; n++ {
			if len(but) > 0 && but[0] == n {
				but = but[1:]
			} else {
				out = append(out, n)
			}
		}
		return out
	}
	const memory, disk = "/memfd:mdclone-probe (deleted)", "/var/disk.img"
	for _, test := range []struct {
		name    string
		files   map[int]string
		open    []int
		free    []int
		removed []int
	}{
		{"none", nil, nil, all(), nil},
		{"others' numbers", map[int]string{0: "", 7: disk, loopsFrom - 1: "", loopsEnd: ""}, nil, all(), nil},
		{"one was left before it was bound", map[int]string{loopsFrom: ""}, nil, all(), []int{loopsFrom}},
		{"another program's", map[int]string{loopsFrom: disk, loopsFrom + 1: ""}, nil, all(loopsFrom), []int{loopsFrom + 1}},
		{"one that another program has open", map[int]string{loopsFrom + 1: ""}, []int{loopsFrom + 1}, all(loopsFrom + 1), nil},
		{"one of ours that is in use", map[int]string{loopsFrom + 2: memory}, nil, all(loopsFrom + 2), nil},
	} {
		l := newLoops(t, test.files, test.open...)
		free, err := freeLoops(sysfs.At(l.root), time.Now(), l.remove)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.free, free); diff != "" {
			t.Errorf("%s: freeLoops() (-want +got):\n%s", test.name, diff)
		}
		if diff := cmp.Diff(test.removed, l.removed); diff != "" {
			t.Errorf("%s: freeLoops() removes (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestRemoveLoop fails if a loop device that is not ours is touched or waited for.
func TestRemoveLoop(t *testing.T) {
	const number, long = loopsFrom, time.Hour
	for _, test := range []struct {
		name    string
		files   map[int]string
		fails   []error // the kernel's answers
		patient time.Duration
		want    error
	}{
		{"gone", nil, nil, long, nil},
		{"another program's", map[int]string{number: "/var/disk.img"}, nil, long, nil},
		{"unbound", map[int]string{number: ""}, []error{nil}, long, nil},
		{"gone meanwhile", map[int]string{number: ""}, []error{unix.ENODEV}, long, nil},
		{"open for a while", map[int]string{number: ""}, []error{unix.EBUSY, unix.EBUSY, nil}, long, nil},
		{"open for too long", map[int]string{number: ""}, []error{unix.EBUSY}, 0, unix.EBUSY},
		{"ours, in use for a while", map[int]string{number: "/mnt/#7 (deleted)"}, []error{unix.EBUSY, nil}, long, nil},
		{"refused", map[int]string{number: ""}, []error{unix.EPERM}, long, unix.EPERM},
	} {
		fails := test.fails
		err := removeLoop(sysfs.At(newLoops(t, test.files).root), number, time.Now().Add(test.patient), func(int) error {
			if len(fails) == 0 {
				return errors.New("asked once too often")
			}
			answer := fails[0]
			fails = fails[1:]
			return answer
		})
		if !errors.Is(err, test.want) || len(fails) > 0 {
			t.Errorf("%s: removeLoop() = %v, not asked %d times; want %v", test.name, err, len(fails), test.want)
		}
	}
	// it is bound by another program while it is waited for
	l := newLoops(t, map[int]string{number: ""})
	err := removeLoop(sysfs.At(l.root), number, time.Now().Add(long), func(int) error {
		dir := filepath.Join(l.root, "block", loopName(number), "loop")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		return errors.Join(os.WriteFile(filepath.Join(dir, "backing_file"), []byte("/var/disk.img\n"), 0o644), unix.EBUSY)
	})
	if err != nil {
		t.Errorf("taken by another program: removeLoop() = %v; want nil", err)
	}
}

func TestOurArray(t *testing.T) {
	const memory, disk = "/memfd:mdclone-probe (deleted)", "/var/disk.img"
	for _, test := range []struct {
		name    string
		files   map[int]string
		members []string
		want    bool
	}{
		{"no member yet", nil, nil, true},
		{"ours", map[int]string{loopsFrom: memory, loopsFrom + 2: "/mnt/#5 (deleted)"}, []string{"loop3840", "loop3842"}, true},
		{"one is not", map[int]string{loopsFrom: memory, loopsFrom + 1: disk}, []string{"loop3840", "loop3841"}, false},
		{"another number", map[int]string{7: memory, loopsEnd: memory}, []string{"loop7", "loop3856"}, false},
		{"unbound", map[int]string{loopsFrom: ""}, []string{"loop3840"}, false},
		{"a disk", nil, []string{"vda"}, false},
	} {
		l := newLoops(t, test.files)
		for _, dir := range append([]string{"md"}, test.members...) {
			if dir != "md" {
				dir = filepath.Join("slaves", dir)
			}
			if err := os.MkdirAll(filepath.Join(l.root, "block", scratchArray, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := ourArray(sysfs.At(l.root)); err != nil || got != test.want {
			t.Errorf("%s: ourArray() = %t, %v; want %t", test.name, got, err, test.want)
		}
	}
}
