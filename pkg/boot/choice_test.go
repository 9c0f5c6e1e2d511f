package boot

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// members are drives as they are found, of an array of that number.
func members(array byte, drives ...Drive) (found []md.Found) {
	for _, d := range drives {
		s := *d.Super
		s.Array[0] = array
		found = append(found, md.Found{Name: d.Name, Member: &md.Member{Super: &s}})
	}
	return found
}

// confOf is an array of that number with those of its drives as clones.
func confOf(name string, array byte, clones string) config.Array {
	conf := config.Array{Name: name, UUID: md.UUID{array}}
	for _, c := range strings.Split(clones, "") {
		conf.Clones = append(conf.Clones, md.UUID{ids[c]})
	}
	return conf
}

// TestSpent: a clone that has been joined since its boot was chosen is not made again, whatever became of it; everything else
// is left to who makes it.
func TestSpent(t *testing.T) {
	p, q := on("p", 100, "01-"), on("q", 100, "01-")
	pIn, qIn := on("p", 100, "012"), on("q", 100, "012")
	away := []Drive{p, q}
	wasIn := []Drive{pIn, qIn, on("c", 100, "012")}
	for name, test := range map[string]struct {
		then, now []Drive
		spent     bool
	}{
		"away, not here":                          {away, away, false},
		"away, plugged in":                        {away, []Drive{on("p", 120, "01-"), on("q", 120, "01-"), on("c", 50, "012")}, false},
		"away, plugged in already then":           {append(away, on("c", 50, "012")), []Drive{on("p", 120, "01-"), q, on("c", 50, "012")}, false},
		"away, it left a moment before":           {append(away, on("c", 98, "012")), []Drive{on("p", 100, "01-"), q, on("c", 98, "012")}, false},
		"away, a refused cycle did not touch it":  {away, []Drive{on("p", 190, "01-"), on("q", 190, "01-"), on("c", 50, "012")}, false},
		"away, a cycle was done":                  {away, []Drive{on("p", 130, "01-"), on("q", 130, "01-"), on("c", 125, "012")}, true},
		"away, a cycle was done, a primary died":  {away, []Drive{on("p", 110, "01-"), on("q", 130, "-1-"), on("c", 125, "012")}, true},
		"away, a cycle was cut in the sync":       {away, []Drive{on("p", 125, "012"), on("q", 125, "012"), on("c", 125, "012~")}, true},
		"away, a cycle was cut after the sync":    {away, []Drive{on("p", 126, "012"), on("q", 126, "012"), on("c", 126, "012")}, true},
		"away, the join itself was cut":           {away, []Drive{on("p", 124, "01-"), on("q", 124, "01-"), on("c", 125, "012~")}, true},
		"away, joined at once":                    {away, []Drive{on("p", 101, "012"), on("q", 101, "012"), on("c", 101, "012~")}, true},
		"away, booted alone":                      {away, []Drive{on("p", 120, "01-"), on("q", 120, "01-"), on("c", 400, "--2")}, false},
		"away, booted alone before":               {append(away, on("c", 400, "--2")), []Drive{on("p", 120, "01-"), q, on("c", 401, "--2")}, false},
		"away, went on with a primary elsewhere":  {away, []Drive{on("p", 120, "01-"), on("c", 400, "012")}, false},
		"away, its own disks are not here":        {away, []Drive{on("c", 125, "012")}, false},
		"away, two drives that call themselves c": {away, []Drive{on("p", 130, "01-"), on("c", 125, "012"), on("c", 125, "012")}, false},
		"in, and still":                           {wasIn, []Drive{on("p", 150, "012"), on("q", 150, "012"), on("c", 150, "012")}, false},
		"in, and an event less":                   {wasIn, []Drive{on("p", 99, "012"), on("q", 99, "012"), on("c", 99, "012")}, false},
		"in, and unplugged":                       {wasIn, []Drive{on("p", 150, "012"), on("q", 150, "012")}, false},
		"in, a cycle was done":                    {wasIn, []Drive{on("p", 160, "01-"), on("q", 160, "01-"), on("c", 155, "012")}, true},
		"in, a cycle was cut in the sync":         {wasIn, []Drive{on("p", 155, "012"), on("q", 155, "012"), on("c", 155, "012~")}, true},
		"in, a boot did not see it":               {wasIn, []Drive{on("p", 160, "01-"), on("q", 160, "01-"), on("c", 150, "012")}, true},
		"in, booted alone":                        {wasIn, []Drive{on("p", 160, "01-"), on("q", 160, "01-"), on("c", 400, "--2")}, false},
		// nothing tells these from a first boot, but that it cannot go on for ever
		"in, a cycle was cut after the sync": {wasIn, []Drive{on("p", 155, "012"), on("q", 155, "012"), on("c", 155, "012")}, false},
		"in, not in sync, and cut there": {
			[]Drive{pIn, qIn, on("c", 100, "012~")}, []Drive{on("p", 150, "012"), on("q", 150, "012"), on("c", 150, "012~")}, false,
		},
		"in, not in sync, a cycle was done": {
			[]Drive{pIn, qIn, on("c", 100, "012~")}, []Drive{on("p", 160, "01-"), on("q", 160, "01-"), on("c", 155, "012")}, true,
		},
		"in but not to be read": {[]Drive{pIn, qIn}, []Drive{on("p", 160, "012"), on("q", 160, "012"), on("c", 160, "012")}, false},
		"the array was not here then": {
			nil, []Drive{on("p", 130, "01-"), on("q", 130, "01-"), on("c", 125, "012")}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			confs := []config.Array{confOf("root", 9, "c")}
			choice := NewChoice(confs, members(9, test.then...), 5)
			got := choice.sift(confs, members(9, test.now...))
			here := false
			for _, d := range test.now {
				here = here || d.Name == "c"
			}
			if (len(got.spent) == 1) != test.spent || (got.here == 1) != (here && !test.spent) || (len(got.meant) == 0) != test.spent {
				t.Errorf("chosen %+v: %+v; want it spent: %v", choice, got, test.spent)
			}
			if old := (Choice{}).sift(confs, members(9, test.now...)); len(old.spent) > 0 || len(old.meant) != 1 || (old.here == 1) != here {
				t.Errorf("of no choice: %+v; want it made", old)
			}
		})
	}
}

// TestSift: each array and each clone is judged by itself.
func TestSift(t *testing.T) {
	c, d := md.UUID{ids["c"]}, md.UUID{ids["d"]}
	two := []config.Array{confOf("boot", 8, "c"), confOf("root", 9, "d")}
	clones := []config.Array{confOf("root", 9, "cd")}
	then := members(8, on("p", 100, "0---"))
	both := func(a, b uint64) []md.Found {
		return append(members(8, on("p", 200, "0---"), on("c", a, "01-3")), members(9, on("p", 200, "0---"), on("d", b, "01-3"))...)
	}
	for name, test := range map[string]struct {
		confs     []config.Array
		then, now []md.Found
		spent     string // arrays or drives among the reasons, in order
		meant     []md.UUID
		here      int
		missing   string // names of arrays
	}{
		"two arrays, none done":     {two, append(then, members(9, on("p", 100, "0---"))...), both(50, 50), "", []md.UUID{c, d}, 2, ""},
		"two arrays, one done":      {two, append(then, members(9, on("p", 100, "0---"))...), both(150, 50), "boot at /dev/c", []md.UUID{d}, 1, ""},
		"two arrays, the other":     {two, append(then, members(9, on("p", 100, "0---"))...), both(50, 150), "root at /dev/d", []md.UUID{c}, 1, ""},
		"two arrays, both done":     {two, append(then, members(9, on("p", 100, "0---"))...), both(150, 150), "boot at /dev/c,root at /dev/d", nil, 0, ""},
		"two arrays, one not known": {two, then, both(150, 150), "boot at /dev/c", []md.UUID{d}, 1, ""},
		"one done, the other's clone is not here": {
			two, append(then, members(9, on("p", 100, "0---"))...),
			append(members(8, on("p", 200, "0---"), on("c", 150, "01-3")), members(9, on("p", 200, "0---"))...),
			"boot at /dev/c",
			[]md.UUID{d},
			0,
			"root",
		},
		"none of them here": {two, then, nil, "", []md.UUID{c, d}, 0, "boot,root"},
		"two clones, one done": {
			clones, members(9, on("p", 100, "0---")), members(9, on("p", 200, "0---"), on("c", 150, "012-"), on("d", 50, "0123")),
			"root at /dev/c",
			[]md.UUID{d},
			1,
			"",
		},
		"two clones, one done, the other not here": {
			clones, members(9, on("p", 100, "0---")), members(9, on("p", 200, "0---"), on("c", 150, "012-")), "root at /dev/c", nil, 0, "",
		},
		"two clones, both done": {
			clones, members(9, on("p", 100, "0---")), members(9, on("p", 200, "0---"), on("c", 150, "0123"), on("d", 150, "0123")),
			"root at /dev/c,root at /dev/d",
			nil,
			0,
			"",
		},
		"two clones, one was in, both are made": {
			clones, members(9, on("p", 100, "012-"), on("q", 100, "012-"), on("c", 100, "012-"), on("d", 40, "0123")),
			members(9, on("p", 200, "012-"), on("q", 200, "012-"), on("c", 200, "012-"), on("d", 40, "0123")),
			"",
			[]md.UUID{c, d},
			1,
			"",
		},
		"no clones are configured": {[]config.Array{{Name: "none", UUID: md.UUID{9}}}, nil, nil, "", nil, 0, ""},
		"a clone of another array": {clones, nil, members(8, on("c", 50, "012-")), "", []md.UUID{c, d}, 0, "root"},
	} {
		t.Run(name, func(t *testing.T) {
			got := NewChoice(test.confs, test.then, 5).sift(test.confs, test.now)
			var spent []string
			for _, r := range got.spent {
				text, _, _ := strings.Cut(strings.TrimPrefix(r.Text, "the clone of "), " was ")
				spent = append(spent, text)
				if r.Code != "spent" {
					t.Errorf("the reason is %+v", r)
				}
			}
			if strings.Join(spent, ",") != test.spent || got.here != test.here || strings.Join(got.missing, ",") != test.missing {
				t.Errorf("%+v; want spent %q, here %d, missing %q", got, test.spent, test.here, test.missing)
			}
			if diff := cmp.Diff(test.meant, got.meant); diff != "" {
				t.Errorf("meant (-want +got):\n%s", diff)
			}
		})
	}
}

// TestChoice: only what belongs to the choice of this boot counts.
func TestChoice(t *testing.T) {
	confs := []config.Array{confOf("root", 9, "c")}
	text, err := json.Marshal(NewChoice(confs, members(9, on("p", 100, "01-"), on("q", 100, "01-")), 1_800_000_000))
	if err != nil {
		t.Fatal(err)
	}
	done := members(9, on("p", 130, "01-"), on("q", 130, "01-"), on("c", 125, "012"))
	for name, test := range map[string]struct {
		cmdline, file string
		spent, bad    bool
	}{
		"of this boot":         {"mdclone=backup mdclone.until=1800000000", string(text), true, false},
		"of an earlier choice": {"mdclone=backup mdclone.until=1800000001", string(text), false, false},
		"chosen by hand":       {"mdclone=backup mdclone.until=", string(text), false, false},
		"on the command line":  {"mdclone=backup", string(text), false, false},
		"from before":          {"mdclone=backup mdclone.until=1800000000", "", false, false},
		"without clones":       {"mdclone=backup mdclone.until=1800000000", `{"until":1800000000}`, false, false},
		"damaged":              {"mdclone=backup mdclone.until=1800000000", string(text[:40]), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := fake(t, test.cmdline)
			if b.params, err = readParams(b.Root); err != nil {
				t.Fatal(err)
			}
			if path := filepath.Join(b.Root, config.ChoiceFile); test.file != "" {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, err := b.choice()
			if got := c.sift(confs, done); (len(got.spent) > 0) != test.spent || (err != nil) != test.bad {
				t.Errorf("%+v, %v; want it spent: %v, an error: %v", got, err, test.spent, test.bad)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	b := &Boot{params: params{verify: config.VerifyChanged}}
	meant := []md.UUID{{1}, {2}}
	if got := strings.Join(b.options(sifting{meant: meant}), " "); got != "--verify changed" {
		t.Errorf("nothing is spent: %q; want no clone named", got)
	}
	want := "--verify changed --only " + meant[0].String() + " --only " + meant[1].String()
	if got := strings.Join(b.options(sifting{spent: []report.Reason{{}}, meant: meant}), " "); got != want {
		t.Errorf("one is spent: %q; want %q", got, want)
	}
}
