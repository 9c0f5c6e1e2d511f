package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"mdclone/pkg/clone"
)

// key names a row of the table.
type key struct {
	way string
	mib int // how much was changed
}

// results are all that was measured.
type results struct {
	options
	release string
	samples map[key][]sample
	boots   [][]sample // of each round those of starts
}

func (r *results) add(w way, mib int, s sample) {
	k := key{w.name, mib}
	r.samples[k] = append(r.samples[k], s)
}

// median is the median of one figure over the rounds.
func (r *results) median(w way, mib int, figure func(sample) float64) float64 {
	var all []float64
	for _, s := range r.samples[key{w.name, mib}] {
		all = append(all, figure(s))
	}
	return median(all)
}

func median(all []float64) float64 {
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

func (r *results) seconds(w way, mib int) float64 {
	return r.median(w, mib, func(s sample) float64 { return s.seconds })
}

func (r *results) part(w way, mib int, part func(clone.Seconds) float64) float64 {
	return r.median(w, mib, func(s sample) float64 { return part(s.parts) })
}

// speedUp is how many times as fast as the article's procedure a way is.
func (r *results) speedUp(w way, mib int) float64 {
	return r.seconds(article, mib) / r.seconds(w, mib)
}

// overhead is how many bytes are written to the disk for each that the bitmap named.
func (r *results) overhead(w way, mib int) float64 {
	return r.median(w, mib, func(s sample) float64 { return s.written / s.dirty })
}

// rate is how fast a way copies, as a share of the plain copy's rate; 0 is not known.
func (r *results) rate(w way, mib int) float64 {
	rate := func(s sample) float64 {
		if s.parts.Sync == 0 {
			return 0
		}
		return s.written / s.parts.Sync
	}
	return r.median(w, mib, rate) / r.median(plain, mib, rate)
}

// boot is the median of one figure of a way to boot over the rounds, which may be told by the round's first boot too.
func (r *results) boot(i int, figure func(first, s sample) float64) float64 {
	var all []float64
	for _, round := range r.boots {
		all = append(all, figure(round[0], round[i]))
	}
	return median(all)
}

// The figures of a boot, in seconds. rest is what is left of the time that it takes more, without what the clone's sync
// and comparison take.
func took(_, s sample) float64     { return s.seconds }
func more(first, s sample) float64 { return s.seconds - first.seconds }
func rest(first, s sample) float64 { return more(first, s) - s.parts.Sync - s.parts.Verify }

// goal is a figure that the project wants to reach.
type goal struct {
	text      string
	got, want float64
	atMost    bool // want is an upper bound
}

func (g goal) met() bool {
	if g.atMost {
		return g.got <= g.want
	}
	return g.got >= g.want
}

func (g goal) String() string {
	verdict, bound := "missed", "at least"
	if g.met() {
		verdict = "met"
	}
	if g.atMost {
		bound = "at most"
	}
	return fmt.Sprintf("%-6s  %s: %.2f, wanted %s %g", verdict, g.text, g.got, bound, g.want)
}

func (r *results) goals() []goal {
	few, many := changes[0], changes[len(changes)-1]
	const faster, copying = "%d MiB, %s: times as fast as the article's procedure", "%d MiB, %s: rate of copying, of the plain copy's"
	var overhead float64
	for _, mib := range changes {
		overhead = max(overhead, r.overhead(online, mib), r.overhead(offline, mib))
	}
	goals := []goal{
		{text: fmt.Sprintf(faster, few, online.name), got: r.speedUp(online, few), want: 10},
		{text: fmt.Sprintf(faster, few, offline.name), got: r.speedUp(offline, few), want: 30},
		{text: "bytes written to the clone for each that was marked changed", got: overhead, want: 1.05, atMost: true},
		{text: fmt.Sprintf(copying, many, online.name), got: r.rate(online, many), want: 0.9},
		{text: fmt.Sprintf(copying, many, offline.name), got: r.rate(offline, many), want: 0.9},
	}
	if len(r.boots) == 0 {
		return goals
	}
	for i, w := range starts[1:] {
		g := goal{text: "seconds by which a boot takes longer, " + w.name, got: r.boot(i+1, rest), want: 2, atMost: true}
		if w.made {
			g.text, g.want = g.text+", beside sync and comparison", 3
		}
		goals = append(goals, g)
	}
	return goals
}

// print prints the table and the goals.
func (r *results) write(w io.Writer) error {
	speed := "as fast as the host can"
	if r.limit > 0 {
		speed = fmt.Sprintf("written at %d MiB/s at most", r.limit)
	}
	fmt.Fprintf(w, "%s, Linux %s; disks of %d MiB, clone and copy %s; medians of %d\n\n", r.suite, r.release, diskSize, speed, r.rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "changed\tway\tseconds\tsync\tsettle\tverify\tdetach\twritten/changed\trate/copy\tspeed-up\t")
	for _, mib := range changes {
		for _, w := range ways {
			fmt.Fprintf(t, "%d MiB\t%s\t%.2f\t%s\t%s\t%s\t%s\t%.2f\t%s\t%.1f\t\n", mib, w.name, r.seconds(w, mib),
				known(r.part(w, mib, func(s clone.Seconds) float64 { return s.Sync })),
				known(r.part(w, mib, func(s clone.Seconds) float64 { return s.Settle })),
				share(r.part(w, mib, func(s clone.Seconds) float64 { return s.Verify }), r.seconds(w, mib)),
				known(r.part(w, mib, func(s clone.Seconds) float64 { return s.Detach })),
				r.overhead(w, mib), known(r.rate(w, mib)), r.speedUp(w, mib))
		}
	}
	err := t.Flush()
	if len(r.boots) > 0 {
		err = errors.Join(err, r.writeBoots(w))
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, g := range r.goals() {
		fmt.Fprintln(w, g)
	}
	return nil
}

// writeBoots prints the table of boots.
func (r *results) writeBoots(w io.Writer) error {
	fmt.Fprintf(w, "\nseconds from the start of the initramfs until the root file system is mounted; medians of %d\n\n", len(r.boots))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "boot\tseconds\tmore\tsync\tverify\trest\tMiB copied\t")
	for i, way := range starts {
		part := func(of func(sample) float64) string {
			return known(r.boot(i, func(_, s sample) float64 { return of(s) }))
		}
		fmt.Fprintf(t, "%s\t%.2f\t%s\t%s\t%s\t%s\t%s\t\n", way.name, r.boot(i, took), known(r.boot(i, more)),
			part(func(s sample) float64 { return s.parts.Sync }), part(func(s sample) float64 { return s.parts.Verify }),
			known(r.boot(i, rest)), part(func(s sample) float64 { return s.written / (1 << 20) }))
	}
	return t.Flush()
}

// known formats a figure, of which 0 is not known.
func known(figure float64) string {
	if figure == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", figure)
}

// share formats a figure that is known, and what part of all it is.
func share(figure, all float64) string {
	if figure == 0 {
		return known(0)
	}
	return fmt.Sprintf("%s (%.0f%%)", known(figure), 100*figure/all)
}
