package main

import (
	"strings"
	"testing"

	"mdclone/pkg/clone"
)

// sampleResults are three rounds, of which the middle one counts.
func sampleResults() *results {
	r := &results{options: options{suite: "suite", rounds: 3}, release: "1.2.3", samples: map[key][]sample{}}
	for _, factor := range []float64{3, 1, 2} {
		for _, mib := range changes {
			dirty := float64(mib << 20)
			r.add(article, mib, sample{seconds: 25 * factor, dirty: dirty, written: dirty})
			r.add(plain, mib, sample{seconds: 5 * factor, parts: clone.Seconds{Sync: 5 * factor}, dirty: dirty, written: 1000 << 20})
			r.add(online, mib, sample{seconds: 2 * factor, parts: clone.Seconds{Sync: 1 * factor, Settle: 1 * factor}, dirty: dirty, written: 1.25 * dirty})
			r.add(offline, mib, sample{seconds: factor / 2, parts: clone.Seconds{Sync: factor / 4, Verify: factor / 4}, dirty: dirty, written: dirty})
		}
		// the host is slower in each round that has a larger factor, and what a boot takes more is told within the round
		r.boots = append(r.boots, []sample{
			{seconds: 4 * factor},
			{seconds: 4.5 * factor},
			{seconds: 7 * factor, parts: clone.Seconds{Sync: factor / 2, Verify: factor / 4}, written: 128 << 20},
		})
	}
	return r
}

func TestGoals(t *testing.T) {
	want := []struct {
		got float64
		met bool
	}{{12.5, true}, {50, true}, {1.25, false}, {2.5, true}, {8, true}, {1, true}, {4.5, false}}
	if got := len(sampleResults().goals()); got != len(want) {
		t.Fatalf("%d goals; want %d", got, len(want))
	}
	for i, g := range sampleResults().goals() {
		if g.got != want[i].got || g.met() != want[i].met {
			t.Errorf("%s: %v, met %v; want %v, met %v", g.text, g.got, g.met(), want[i].got, want[i].met)
		}
	}
}

func TestWrite(t *testing.T) {
	var b strings.Builder
	if err := sampleResults().write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"16 MiB article's procedure 50.00 - - - - 1.00 - 1.0\n",
		"400 MiB plain copy of the disk 10.00 10.00 - - - 2.50 1.00 5.0\n",
		"400 MiB mdclone, running system 4.00 2.00 2.00 - - 1.25 2.50 12.5\n",
		"16 MiB mdclone, rescue shell 1.00 0.50 - 0.50 (50%) - 1.00 0.32 50.0\n",
		"clone away 8.00 - - - - -\n",
		"clone plugged in 9.00 1.00 - - 1.00 -\n",
		"clone first 14.00 6.00 1.00 0.50 4.50 128.00\n",
		"missed seconds by which a boot takes longer, clone first, beside sync and comparison: 4.50, wanted at most 3\n",
		"missed bytes written to the clone for each that was marked changed: 1.25, wanted at most 1.05\n",
	} {
		got := ""
		for line := range strings.Lines(b.String()) {
			got += strings.Join(strings.Fields(line), " ") + "\n"
		}
		if !strings.Contains(got, want) {
			t.Errorf("write lacks %q:\n%s", want, b.String())
		}
	}
}

// An even number of rounds has two middle ones.
func TestMedian(t *testing.T) {
	r := &results{samples: map[key][]sample{}}
	for _, s := range []float64{9, 1, 2, 4} {
		r.add(plain, 16, sample{seconds: s})
	}
	if got := r.seconds(plain, 16); got != 3 {
		t.Errorf("seconds = %v; want 3", got)
	}
}
