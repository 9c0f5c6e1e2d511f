package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// key names a row: how much was changed, in MiB, and the way.
type key struct {
	mib int
	way string
}

// results is what was measured.
type results struct {
	suite, release string
	rounds         int
	samples        map[key][]sample
}

// median is that of one figure of all rounds.
func (r *results) median(k key, figure func(sample) float64) float64 {
	var all []float64
	for _, s := range r.samples[k] {
		all = append(all, figure(s))
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

func (r *results) seconds(k key) float64 {
	return r.median(k, func(s sample) float64 { return s.seconds })
}

// speedUp is how many times as fast as the article's procedure a way was.
func (r *results) speedUp(k key) float64 { return r.seconds(key{k.mib, article.name}) / r.seconds(k) }

// overhead is how many bytes were written to the disk for each that the bitmap named.
func (r *results) overhead(k key) float64 {
	return r.median(k, func(s sample) float64 { return s.written / s.dirty })
}

// rate is how fast the disk was written while it was copied to, as a share of the plain copy's rate; 0 is not known.
func (r *results) rate(k key) float64 {
	ofPlain := r.median(key{k.mib, plain.name}, func(s sample) float64 { return s.written / s.seconds })
	return r.median(k, func(s sample) float64 {
		switch {
		case k.way == plain.name:
			return s.written / s.seconds / ofPlain
		case s.parts.Sync == 0:
			return 0
		}
		return s.written / s.parts.Sync / ofPlain
	})
}

// goal is a figure that the project promises.
type goal struct {
	text   string
	got    float64
	bound  float64
	atMost bool // the bound is an upper one
}

func (g goal) met() bool { return g.got >= g.bound && !g.atMost || g.got <= g.bound && g.atMost }

func (r *results) goals() []goal {
	few, many := changes[0], changes[len(changes)-1]
	var overhead float64
	rate := r.rate(key{many, online.name})
	for _, w := range []way{online, offline} {
		for _, mib := range changes {
			overhead = max(overhead, r.overhead(key{mib, w.name}))
		}
		rate = min(rate, r.rate(key{many, w.name}))
	}
	return []goal{
		{fmt.Sprintf("running system, %d MiB: times as fast as the article's procedure", few), r.speedUp(key{few, online.name}), 10, false},
		{fmt.Sprintf("rescue shell, %d MiB: times as fast as the article's procedure", few), r.speedUp(key{few, offline.name}), 30, false},
		{"bytes written for each changed one", overhead, 1.05, true},
		{fmt.Sprintf("copying %d MiB: rate as a share of the plain copy's", many), rate, 0.9, false},
	}
}

// print prints the table and the goals.
func (r *results) print(w io.Writer) error {
	fmt.Fprintf(w, "A mirror of %d MiB, Linux %s (%s), medians of %d\n\n", diskSize, r.release, r.suite, r.rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "changed\tway\tseconds\tsync\tsettle\tverify\tdetach\twritten/changed\trate/plain\tspeed-up\t")
	for _, mib := range changes {
		for _, w := range ways {
			k := key{mib, w.name}
			fmt.Fprintf(t, "%d MiB\t%s\t%.2f\t", mib, w.name, r.seconds(k))
			for _, part := range []func(sample) float64{
				func(s sample) float64 { return s.parts.Sync },
				func(s sample) float64 { return s.parts.Settle },
				func(s sample) float64 { return s.parts.Verify },
				func(s sample) float64 { return s.parts.Detach },
			} {
				fmt.Fprintf(t, "%s\t", known("%.2f", r.median(k, part)))
			}
			fmt.Fprintf(t, "%.2f\t%s\t%.1f\t\n", r.overhead(k), known("%.2f", r.rate(k)), r.speedUp(k))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, g := range r.goals() {
		at, verdict := "at least", "missed"
		if g.atMost {
			at = "at most"
		}
		if g.met() {
			verdict = "met"
		}
		fmt.Fprintf(w, "%-6s  %s: %.2f, wanted %s %g\n", verdict, g.text, g.got, at, g.bound)
	}
	return nil
}

// known formats a figure, of which 0 is not known.
func known(format string, figure float64) string {
	if figure == 0 {
		return "-"
	}
	return fmt.Sprintf(format, figure)
}
