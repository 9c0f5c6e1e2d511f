package limits

import (
	"errors"
	"strings"
	"testing"
)

func TestTrialJudge(t *testing.T) {
	broken := errors.New("input/output error")
	fell := Trial{MemberKB: 16, ArrayBefore: 1280, ArrayAfter: 16, HolderKB: 1280}
	for _, test := range []struct {
		name   string
		change func(*Trial)
		want   Verdict
		text   string
	}{
		{"split and arrived", func(*Trial) {}, Passes, "were split"},
		{"the limit does not fall", func(t *Trial) { t.ArrayAfter = 1280 }, Passes, "does not lower"},
		{"dm's limit falls too", func(t *Trial) { t.HolderKB = 16 }, Passes, "reaches the device"},
		{"large ones fail", func(t *Trial) { t.Large = broken }, Fails, "16 KiB failed through a device with 1280 KiB"},
		{"a member is failed", func(t *Trial) { t.Faulty = []string{"loop1"} }, Fails, "loop1"},
		{"a member differs", func(t *Trial) { t.Differ = []string{"loop0", "loop1"} }, Fails, "loop0, loop1 does not hold"},
		{"small ones fail too", func(t *Trial) { t.Small, t.Large = broken, broken }, Unknown, "that each member takes"},
		{"they failed before", func(t *Trial) { t.Before, t.Large = broken, broken }, Unknown, "before the limit fell"},
		{"a member is failed by small ones", func(t *Trial) { t.Small, t.Faulty = broken, []string{"loop1"} }, Unknown, ""},
	} {
		trial := fell
		test.change(&trial)
		if got, text := trial.Judge(); got != test.want || !strings.Contains(text, test.text) {
			t.Errorf("%s: Judge() = %s, %q; want %s, %q", test.name, got, text, test.want, test.text)
		}
	}
}

// device is a disk in memory that refuses requests above a size, as the kernel with the bug does, or loses them.
type device struct {
	data  []byte
	most  int
	loses bool
}

func (d *device) over(b []byte) error {
	if len(b) > d.most && !d.loses {
		return errors.New("bio too big")
	}
	return nil
}

func (d *device) ReadAligned(b []byte, off int64) error {
	copy(b, d.data[off:])
	return d.over(b)
}

func (d *device) WriteAligned(b []byte, off int64) error {
	copy(d.data[off:], b[:min(len(b), d.most)])
	return d.over(b)
}

func TestSweep(t *testing.T) {
	for _, test := range []struct {
		name         string
		most         int
		loses        bool
		small, large bool // pass
	}{
		{"sound", largest, false, true, true},
		{"refuses large ones", 16 << 10, false, true, false},
		{"loses a part of large ones", 16 << 10, true, true, false},
		{"refuses only the largest", largest / 2, false, true, false},
		{"takes no more than 4 KiB", 4 << 10, false, false, false},
	} {
		d := &device{data: make([]byte, scratchSize), most: test.most, loses: test.loses}
		w := &writer{ctx: t.Context(), device: d, image: make([]byte, scratchSize)}
		small, large := w.sweep(4<<10, 16<<10), w.sweep(32<<10, largest)
		if (small == nil) != test.small || (large == nil) != test.large {
			t.Errorf("%s: %v, %v; want %t, %t", test.name, small, large, test.small, test.large)
		}
		if err := w.readAll(32<<10, largest); (err == nil) != test.large {
			t.Errorf("%s: reading ends with %v", test.name, err)
		}
	}
}
