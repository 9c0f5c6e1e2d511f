package boot

import (
	"strings"
	"testing"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/sysfs"
)

func TestDecideGathering(t *testing.T) {
	p, q := on("p", 100, "01-"), on("q", 100, "01-")   // the clone left in good order
	pl, ql := on("p", 100, "012"), on("q", 100, "012") // the array ended with the clone attached
	stale, attached := on("c", 50, "012"), on("c", 100, "012")
	for name, test := range map[string]struct {
		drives []Drive
		state  string
		now    bool // nothing is waited for
		old    bool // the kernel, for one of them
		want   Action
		of     string // what it is assembled of
		why    string
		lacks  bool // one of its disks
	}{
		"nothing here, yet":                {want: Wait, why: "no disk"},
		"nothing here":                     {now: true, why: "none of its disks"},
		"it runs":                          {drives: []Drive{p, q}, state: "clean"},
		"it runs without one of them":      {drives: []Drive{p}, state: "clean", lacks: true},
		"it was put together, half":        {drives: []Drive{p, q}, state: "inactive", why: "does not run"},
		"its own disks":                    {drives: []Drive{p, q}, want: Start, of: "p q"},
		"a stale clone beside them":        {drives: []Drive{stale, p, q}, want: Start, of: "p q"},
		"attached at the end":              {drives: []Drive{pl, attached, ql}, want: Start, of: "p q"},
		"diverged":                         {drives: []Drive{on("c", 400, "--2"), p, q}, want: Start, of: "p q"},
		"one is missing, yet":              {drives: []Drive{p, stale}, want: Wait, why: "not all"},
		"one is missing":                   {drives: []Drive{p, stale}, now: true, want: Start, of: "p", why: "not all", lacks: true},
		"one is missing, no clone":         {drives: []Drive{p}, now: true, want: Start, of: "p", lacks: true},
		"one failed before":                {drives: []Drive{on("p", 100, "0--"), on("q", 60, "01-")}, want: Start, of: "p", why: "left out: q"},
		"the clone alone, yet":             {drives: []Drive{stale}, want: Wait, why: "only its clone"},
		"the clone alone":                  {drives: []Drive{stale}, now: true, why: "only its clone"},
		"the diverged clone alone":         {drives: []Drive{on("c", 400, "--2")}, now: true, why: "only its clone"},
		"ahead":                            {drives: []Drive{pl, ql, on("c", 150, "--2")}, why: "newest copy"},
		"an unknown clone that was booted": {drives: []Drive{on("p", 100, "01--"), on("q", 100, "01--"), on("d", 400, "---3")}, why: "without each other"},
		"split":                            {drives: []Drive{on("p", 150, "0--"), on("q", 160, "-1-")}, now: true, why: "without each other"},
		"one is being rebuilt":             {drives: []Drive{p, on("q", 100, "01-~")}, now: true, why: "being rebuilt"},
		"a rollback was cut":               {drives: []Drive{on("p", 150, "012~"), on("q", 150, "012~"), on("c", 150, "012")}, why: "copied back"},
		"newer than what is here":          {drives: []Drive{on("p", 100, "01-"), on("c", 150, "-12")}, now: true, why: "left the array before"},
		"a primary without a slot":         {drives: []Drive{on("p", 100, "-12")}, now: true, why: "whole copy"},
		"the kernel is too old":            {drives: []Drive{p, q}, old: true, why: "6.19"},
		"too old, for a clone is enough":   {drives: []Drive{p, q, stale}, old: true, why: "6.19"},
	} {
		t.Run(name, func(t *testing.T) {
			f := Facts{Conf: config.Array{Name: "root", UUID: md.UUID{1}, Clones: []md.UUID{{ids["c"]}}}, Waits: true, Late: test.now}
			f.State, f.In, f.Drives = test.state, map[string]bool{}, test.drives
			for _, d := range test.drives {
				f.In[d.Name] = test.state != ""
			}
			var found []md.Found
			for i, d := range test.drives {
				s := *d.Super
				s.Array = md.UUID{1}
				if test.old && i == len(test.drives)-1 {
					s.LogicalBlock = 512
				}
				found = append(found, md.Found{Name: d.Name, Member: &md.Member{Super: &s}})
			}
			g := DecideGathering(f, found, "6.12.57+deb13-amd64")
			var of []string
			for _, m := range g.Members {
				of = append(of, m.Name)
			}
			if g.Do != test.want || strings.Join(of, " ") != test.of || !strings.Contains(g.Why, test.why) {
				t.Errorf("DecideGathering() = %v of %v, %q; want %v of %q, %q", g.Do, of, g.Why, test.want, test.of, test.why)
			}
			if g.Lacks != test.lacks {
				t.Errorf("Lacks = %v; want %v", g.Lacks, test.lacks)
			}
			if g.Do == Nothing && g.Why == "" && test.state != "clean" {
				t.Error("it does not say why not")
			}
		})
	}
}

func TestFreeName(t *testing.T) {
	b, _ := fake(t, "")
	b.FS = sysfs.At(t.TempDir())
	for called, want := range map[string]string{
		"machine:0": "md0", "machine:127": "md127", "7": "md7", "machine:root": "md0", "": "md0", "x:-1": "md0",
	} {
		if got := b.freeName(called); got != want {
			t.Errorf("freeName(%q) = %s; want %s", called, got, want)
		}
	}
}
