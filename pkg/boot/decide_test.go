package boot

import (
	"strings"
	"testing"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// The array of the table: primaries p and q in slots 0 and 1, the clone c in slot 2, with device numbers of the same
// value; with two clones, d in slot 3.
var ids = map[string]byte{"p": 1, "q": 2, "c": 3, "d": 4}

// on is a drive's superblock: its events and its view of the array, "01-" for slots 0 and 1 active. A view that lacks the
// drive's own slot makes it a spare. "~" after the view says that its last sync was cut.
func on(name string, events uint64, view string) Drive {
	s := &md.Superblock{Events: events, RaidDisks: uint32(len(strings.TrimSuffix(view, "~")))}
	if strings.HasSuffix(view, "~") {
		s.Features = md.FeatureRecoveryOffset
	}
	s.DevNumber = uint32(ids[name] - 1)
	s.Device[0] = ids[name]
	for i := range int(s.RaidDisks) {
		role := uint16(md.RoleFaulty)
		if view[i] != '-' {
			role = uint16(i)
		}
		s.Roles = append(s.Roles, role)
	}
	return Drive{Name: name, Super: s}
}

// at is a drive that was written last at that time.
func at(updated uint64, d Drive) Drive {
	d.Super.Updated = updated
	return d
}

func TestDecide(t *testing.T) {
	p, q := on("p", 100, "01-"), on("q", 100, "01-")           // the clone left in good order
	pl, ql := on("p", 100, "012"), on("q", 100, "012")         // the array ended with the clone attached
	stale, attached := on("c", 50, "012"), on("c", 100, "012") //
	diverged := on("c", 400, "--2")                            //
	// beside the stage that waits, in time
	const start, late, never, holds, held, settled = "start stage", "late", "never", "start stage, holds", "held", "settled, late"
	for name, test := range map[string]struct {
		drives  []Drive
		in      string // kernel names of the members of the kernel's array
		state   string // "" is inactive if there are members
		when    string
		lifted  bool   // the clone c
		broken  bool   // likewise
		dead    bool   // the array does not start from its own disks
		stopped string // it was, with these in it
		clones  int    // configured; 0 means 1
		want    Action
		claim   string
	}{
		"nothing of it here":                      {want: Nothing},
		"primaries alone, mdadm has started it":   {drives: []Drive{p, q}, in: "pq", state: "clean", want: Nothing},
		"primaries alone, mdadm is at it":         {drives: []Drive{p, q}, in: "pq", want: Nothing},
		"a primary missing, no clone":             {drives: []Drive{p}, in: "p", want: Nothing},
		"stale, it runs":                          {drives: []Drive{p, q, stale}, in: "pq", state: "clean", want: Nothing, claim: "c"},
		"diverged, it runs":                       {drives: []Drive{diverged, p, q}, in: "pq", state: "clean", want: Nothing, claim: "c"},
		"the clone is in":                         {drives: []Drive{pl, ql, attached}, in: "pqc", state: "clean", want: Nothing},
		"stale, mdadm is at it":                   {drives: []Drive{p, q, stale}, in: "pq", want: Wait, claim: "c"},
		"stale, start stage":                      {drives: []Drive{p, q, stale}, in: "pq", when: start, want: Nothing},
		"attached at the end":                     {drives: []Drive{pl, ql, attached}, in: "pq", want: Start, claim: "c"},
		"attached at the end, start stage":        {drives: []Drive{pl, ql, attached}, in: "pq", when: start, want: Start},
		"attached, one event apart":               {drives: []Drive{on("p", 99, "012"), ql, attached}, in: "pq", want: Start, claim: "c"},
		"attached, cut in its sync":               {drives: []Drive{pl, ql, on("c", 100, "012~")}, in: "pq", want: Start, claim: "c"},
		"attached, cut in its sync, alone":        {drives: []Drive{on("c", 100, "012~")}, when: late, want: Nothing, claim: "c"},
		"an event of the clone":                   {drives: []Drive{diverged}, when: holds, want: Nothing, claim: "c"},
		"attached, then unplugged":                {drives: []Drive{pl, ql}, in: "pq", when: start, want: Start},
		"attached, then run alone without more":   {drives: []Drive{pl, ql, on("c", 90, "--2")}, in: "pq", want: Start, claim: "c"},
		"attached, a primary is not in yet":       {drives: []Drive{pl, ql, attached}, in: "p", when: start, want: Nothing},
		"attached, a primary is not here yet":     {drives: []Drive{pl, attached}, in: "p", want: Wait, claim: "c"},
		"attached, a primary never came":          {drives: []Drive{pl, attached}, in: "p", when: late, want: Degraded, claim: "c"},
		"attached, unplugged, a primary not here": {drives: []Drive{pl}, in: "p", when: start, want: Nothing},
		"two clones, one attached and unplugged": {
			drives: []Drive{on("p", 100, "01-3"), on("q", 100, "01-3"), on("c", 50, "0123")}, in: "pq", clones: 2, want: Start, claim: "c",
		},
		"a primary added after the clone is not here": {
			drives: []Drive{on("p", 100, "012")}, in: "p", when: start, want: Nothing,
		},
		"the clone's slot is not the last": {
			drives: []Drive{on("p", 100, "012"), {"r", &md.Superblock{Events: 100, RaidDisks: 3, DevNumber: 2, Roles: []uint16{0, 1, 2}, Device: md.UUID{9}}}},
			in:     "pr", when: start, want: Start,
		},
		"an old primary, beside a clone that was synced later and one that ran alone since": {
			drives: []Drive{at(1, on("q", 5, "01--")), at(2, on("d", 30, "0-23")), at(3, on("c", 40, "--2-"))}, in: "q", clones: 2, when: late,
			want: Lift, claim: "d",
		},
		"two clones away, a primary not here": {drives: []Drive{on("p", 100, "012-")}, in: "p", clones: 2, when: start, want: Nothing},
		"another drive in the clone's slot, not here": {
			drives: []Drive{
				{"p", &md.Superblock{Events: 100, RaidDisks: 3, Roles: []uint16{0, 1, md.RoleFaulty, 2}, Device: md.UUID{1}}},
				{"q", &md.Superblock{Events: 100, RaidDisks: 3, DevNumber: 1, Roles: []uint16{0, 1, md.RoleFaulty, 2}, Device: md.UUID{2}}},
				stale,
			}, in: "pq", want: Wait, claim: "c",
		},
		"a primary missing, stale":                  {drives: []Drive{p, stale}, in: "p", want: Wait, claim: "c"},
		"a primary never came, stale":               {drives: []Drive{p, stale}, in: "p", when: late, want: Degraded, claim: "c"},
		"a primary never came, diverged":            {drives: []Drive{p, diverged}, in: "p", when: late, want: Degraded, claim: "c"},
		"a primary that mdadm refused":              {drives: []Drive{p, stale}, when: late, want: Nothing, claim: "c"},
		"late, udev has not taken one yet":          {drives: []Drive{p, q, stale}, in: "p", when: late, want: Settle, claim: "c"},
		"late, udev has taken none yet":             {drives: []Drive{p, q, stale}, when: late, want: Settle, claim: "c"},
		"late, udev does not take one":              {drives: []Drive{p, q, stale}, in: "p", when: settled, want: Degraded, claim: "c"},
		"a primary missing, never":                  {drives: []Drive{p, stale}, in: "p", when: never, want: Nothing, claim: "c"},
		"not assembled here":                        {drives: []Drive{p, q, stale}, want: Nothing, claim: "c"},
		"not assembled here, diverged":              {drives: []Drive{p, q, diverged}, want: Nothing, claim: "c"},
		"not assembled yet, a clone is asked for":   {drives: []Drive{p, q, stale}, when: held, want: Wait, claim: "c"},
		"not assembled here, a primary is missing":  {drives: []Drive{p, stale}, want: Wait, claim: "c"},
		"not assembled yet, attached at the end":    {drives: []Drive{pl, ql, attached}, want: Wait, claim: "c"},
		"not assembled here, never":                 {drives: []Drive{p, q, stale}, when: never, want: Nothing, claim: "c"},
		"a failed primary is not waited for":        {drives: []Drive{on("q", 100, "-12"), attached}, in: "q", want: Start, claim: "c"},
		"alone":                                     {drives: []Drive{stale}, want: Wait, claim: "c"},
		"alone, late":                               {drives: []Drive{stale}, when: late, want: Lift},
		"alone, late, a lift was left behind":       {drives: []Drive{stale}, when: late, lifted: true, want: Lift},
		"alone, mdadm was quicker":                  {drives: []Drive{diverged}, in: "c", state: "clean", when: held, want: Stop},
		"alone, mdadm was quicker, late":            {drives: []Drive{diverged}, in: "c", state: "clean", when: held + late, want: Stop},
		"alone, mdadm was quicker, written to":      {drives: []Drive{diverged}, in: "c", state: "active", when: held, want: Nothing},
		"alone, mdadm was quicker, not held":        {drives: []Drive{diverged}, in: "c", state: "clean", want: Nothing},
		"mdadm was quicker, beside a primary":       {drives: []Drive{diverged, p}, in: "c", state: "clean", when: held, want: Stop},
		"lifted, held":                              {drives: []Drive{stale}, in: "c", state: "clean", when: held, lifted: true, want: Nothing},
		"alone, late, a lift was left behind in it": {drives: []Drive{stale}, in: "c", when: late, lifted: true, want: Lift},
		"alone, late, lifted in vain":               {drives: []Drive{stale}, when: late, lifted: true, broken: true, want: Nothing},
		"alone, lifted and running":                 {drives: []Drive{stale}, in: "c", state: "clean", lifted: true, want: Nothing},
		"alone, start stage":                        {drives: []Drive{stale}, when: start, want: Nothing},
		"attached, unplugged, a primary never came": {drives: []Drive{pl}, in: "p", when: late, want: Degraded},
		"attached, unplugged, a primary missing":    {drives: []Drive{pl}, in: "p", want: Nothing},
		"one primary":                               {drives: []Drive{on("p", 100, "0-")}, in: "p", want: Nothing},
		"one primary, attached, unplugged":          {drives: []Drive{on("p", 100, "01")}, in: "p", want: Nothing},
		"one primary, attached, unplugged, at once": {drives: []Drive{on("p", 100, "01")}, in: "p", when: start, want: Nothing},
		"one primary, attached, unplugged, late":    {drives: []Drive{on("p", 100, "01")}, in: "p", when: late, want: Degraded},
		"alone, never":                              {drives: []Drive{stale}, when: never, want: Nothing, claim: "c"},
		"alone, diverged":                           {drives: []Drive{diverged}, want: Wait, claim: "c"},
		"alone, diverged, late":                     {drives: []Drive{diverged}, when: late, want: Lift},
		"alone, a spare":                            {drives: []Drive{on("c", 50, "01-")}, when: late, want: Nothing, claim: "c"},
		"two clones alone, the fresher":             {drives: []Drive{on("d", 60, "0123"), on("c", 50, "0123")}, clones: 2, when: late, want: Lift, claim: "c"},
		"ahead, beside a clone that ran alone": {
			drives: []Drive{on("p", 100, "012-"), on("q", 100, "012-"), on("c", 104, "--2-"), on("d", 400, "---3")}, in: "pq", clones: 2,
			want: Lift, claim: "d",
		},
		"rollback cut, beside a clone that ran alone": {
			drives: []Drive{on("p", 100, "012-~"), on("q", 100, "012-~"), on("c", 100, "012-"), on("d", 400, "---3")}, in: "pq", clones: 2,
			want: Lift, claim: "d",
		},
		"rollback cut, beside a clone that ran alone, late": {
			drives: []Drive{on("p", 100, "012-~"), on("c", 100, "012-"), on("d", 400, "---3")}, in: "p", clones: 2, when: late,
			want: Lift, claim: "d",
		},
		"newer, beside a clone that ran alone": {
			drives: []Drive{on("p", 40, "01--"), on("c", 90, "-12-"), on("d", 400, "---3")}, in: "p", clones: 2, when: late,
			want: Lift, claim: "d",
		},
		"two clones, ahead together": {
			drives: []Drive{on("p", 100, "0123"), on("q", 100, "0123"), on("c", 104, "--23"), on("d", 105, "--23")}, in: "pq", clones: 2,
			want: Lift, claim: "c",
		},
		"two clones, ahead together, then one of them": {
			drives: []Drive{on("p", 100, "0123"), on("q", 100, "0123"), at(9, on("c", 104, "--23")), at(3, on("d", 110, "---3"))}, in: "pq", clones: 2,
			want: Lift, claim: "c",
		},
		"two clones, each ahead": {
			drives: []Drive{on("p", 100, "0123"), on("q", 100, "0123"), on("c", 104, "--2-"), on("d", 400, "---3")}, in: "pq", clones: 2,
			want: Wait, claim: "cd",
		},
		"two clones, each ahead, start stage": {
			drives: []Drive{on("p", 100, "0123"), on("q", 100, "0123"), on("c", 104, "--2-"), on("d", 400, "---3")}, in: "pq", clones: 2,
			when: start, want: Nothing,
		},
		"two clones, each ahead, late: the last written": {
			drives: []Drive{on("p", 100, "0123"), on("q", 100, "0123"), at(8, on("c", 104, "--2-")), at(7, on("d", 400, "---3"))}, in: "pq",
			clones: 2, when: late, want: Lift, claim: "d",
		},
		"two clones alone, one tried before the other's backup": {
			drives: []Drive{at(7, on("c", 400, "--2-")), at(8, on("d", 300, "01-3"))}, clones: 2, when: late, want: Lift, claim: "c",
		},
		"two clones alone, on one the machine ran": {
			drives: []Drive{at(9, on("c", 200, "--2-")), at(8, on("d", 300, "01-3"))}, clones: 2, when: late, want: Lift, claim: "d",
		},
		"two clones alone, the machine ran on one that was tried less": {
			drives: []Drive{at(7, on("c", 400, "--2-")), at(9, on("d", 310, "---3"))}, clones: 2, when: late, want: Lift, claim: "c",
		},
		"two clones alone, a clock that stood still": {
			drives: []Drive{on("c", 400, "--2-"), on("d", 300, "01-3")}, clones: 2, when: late, want: Lift, claim: "c",
		},
		"ahead":                         {drives: []Drive{pl, ql, on("c", 104, "--2")}, in: "pq", want: Lift},
		"ahead, start stage":            {drives: []Drive{pl, ql, on("c", 104, "--2")}, in: "pq", when: start, want: Lift},
		"ahead, never":                  {drives: []Drive{pl, ql, on("c", 104, "--2")}, in: "pq", when: never, want: Lift},
		"ahead, a primary not here":     {drives: []Drive{pl, on("c", 104, "--2")}, in: "p", want: Wait, claim: "c"},
		"ahead, a primary never came":   {drives: []Drive{pl, on("c", 104, "--2")}, in: "p", when: late, want: Lift},
		"ahead, a lift was left behind": {drives: []Drive{pl, ql, on("c", 104, "--2")}, in: "pq", lifted: true, want: Lift},
		"ahead, the lift failed":        {drives: []Drive{pl, ql, on("c", 104, "--2")}, in: "pq", lifted: true, broken: true, want: Start},
		"ahead, mdadm was quicker": {
			drives: []Drive{pl, on("q", 101, "-12"), on("c", 104, "--2")}, in: "pq", state: "read-auto", want: Tell, claim: "c",
		},
		"ahead, mdadm was quicker, held": {
			drives: []Drive{pl, on("q", 101, "-12"), on("c", 104, "--2")}, in: "q", state: "read-auto", when: held, want: Retake,
		},
		"ahead, mdadm was quicker, held, clean": {
			drives: []Drive{pl, on("q", 101, "-12"), on("c", 104, "--2")}, in: "q", state: "clean", when: held, want: Retake,
		},
		"ahead, mdadm was quicker, held, written to": {
			drives: []Drive{pl, on("q", 101, "-12"), on("c", 104, "--2")}, in: "q", state: "active", when: held, want: Tell, claim: "c",
		},
		"ahead on two, mdadm was quicker, held": {
			drives: []Drive{on("q", 101, "-123"), on("c", 104, "--2-"), on("d", 104, "---3")}, in: "q", state: "read-auto", clones: 2,
			when: held, want: Wait, claim: "cd",
		},
		"ahead on two, mdadm was quicker, held, late": {
			drives: []Drive{on("q", 101, "-123"), on("c", 104, "--2-"), on("d", 104, "---3")}, in: "q", state: "read-auto", clones: 2,
			when: held + ", " + late, want: Retake, claim: "d",
		},
		"ahead on two, mdadm was quicker, held, never": {
			drives: []Drive{on("q", 101, "-123"), on("c", 104, "--2-"), on("d", 104, "---3")}, in: "q", state: "read-auto", clones: 2,
			when: held + ", " + never, want: Tell, claim: "cd",
		},
		"not ahead, mdadm was quicker, held": {drives: []Drive{pl, ql, attached}, in: "pq", state: "read-auto", when: held, want: Nothing, claim: "c"},
		"not ahead: it never was attached":   {drives: []Drive{p, q, on("c", 104, "--2")}, in: "pq", want: Wait, claim: "c"},
		"ahead, a primary not here, never":   {drives: []Drive{pl, on("c", 104, "--2")}, in: "p", when: never, want: Lift},
		"ahead, it does not start":           {drives: []Drive{pl, ql, on("c", 104, "--2")}, in: "pq", broken: true, want: Start, claim: "c"},
		"ahead of the one that is here, never": {
			drives: []Drive{pl, on("c", 150, "-12")}, in: "p", when: never, want: Nothing, claim: "c",
		},
		"a rebuild cut, its source not here, never": {
			drives: []Drive{on("q", 100, "012~"), attached}, in: "q", when: never, want: Nothing, claim: "c",
		},
		"its own disks do not start":         {drives: []Drive{p, stale}, in: "p", dead: true, want: Wait, claim: "c"},
		"none of its own disks starts":       {drives: []Drive{p, q, stale}, in: "pq", dead: true, when: late, want: Lift},
		"stopped for the clone":              {drives: []Drive{pl, ql, on("c", 104, "--2")}, stopped: "pq", want: Lift},
		"stopped, from the clone in vain":    {drives: []Drive{pl, ql, on("c", 104, "--2")}, stopped: "pq", when: late, lifted: true, broken: true, want: Restart},
		"stopped for the clone, which is in": {drives: []Drive{pl, ql, on("c", 104, "--2")}, in: "c", stopped: "pq", lifted: true, want: Lift},
		"stopped, the clone does not start, in": {
			drives: []Drive{pl, ql, on("c", 104, "--2")}, in: "c", stopped: "pq", lifted: true, broken: true, want: Restart,
		},
		"stopped, the clone has gone":          {drives: []Drive{pl, ql}, stopped: "pq", want: Restart},
		"stopped, half put back":               {drives: []Drive{pl, ql}, in: "p", stopped: "pq", want: Restart},
		"stopped, not yet for this stage":      {drives: []Drive{pl, ql}, stopped: "pq", when: start, want: Nothing},
		"stopped, runs again":                  {drives: []Drive{p, q}, in: "pq", state: "clean", stopped: "pq", want: Nothing},
		"stopped, in vain":                     {drives: []Drive{p, q}, stopped: "pq", dead: true, want: Nothing},
		"neither starts":                       {drives: []Drive{p, q, stale}, in: "pq", dead: true, broken: true, when: late, want: Nothing, claim: "c"},
		"rollback cut":                         {drives: []Drive{on("p", 100, "012~"), on("q", 100, "012~"), attached}, in: "pq", want: Lift},
		"rollback cut, start stage":            {drives: []Drive{on("p", 100, "012~"), on("q", 100, "012~"), attached}, in: "pq", when: start, want: Lift},
		"rollback cut, one primary done":       {drives: []Drive{on("p", 100, "012"), on("q", 101, "012~"), attached}, in: "pq", want: Start, claim: "c"},
		"rollback cut, one primary still old":  {drives: []Drive{on("p", 60, "012"), on("q", 100, "-12~"), attached}, in: "pq", want: Lift},
		"a primary's rebuild cut, clone stale": {drives: []Drive{on("q", 100, "01-~"), stale}, in: "q", want: Wait, claim: "c"},
		"a rebuild cut, its source never came": {drives: []Drive{on("q", 100, "01-~"), stale}, in: "q", when: late, want: Lift},
		"only a primary that had failed long before": {
			drives: []Drive{on("p", 40, "01-"), on("c", 90, "-12")}, in: "p", when: late, want: Lift,
		},
	} {
		f := Facts{State: test.state, In: map[string]bool{}, Lifted: map[md.UUID]bool{}, Waits: !strings.HasPrefix(test.when, start), Holds: test.when == holds}
		f.Late, f.Never, f.Held = strings.HasSuffix(test.when, late), strings.HasSuffix(test.when, never), strings.HasPrefix(test.when, held)
		f.Settled = test.when == settled
		f.Conf = config.Array{Name: "root", Clones: []md.UUID{{3}, {4}}[:max(test.clones, 1)]}
		f.Drives = test.drives
		for _, n := range test.in {
			f.In[string(n)] = true
		}
		if f.State == "" && test.in != "" {
			f.State = "inactive"
		}
		if test.lifted {
			f.Lifted[md.UUID{3}] = true
		}
		for _, n := range test.stopped {
			f.Stopped = append(f.Stopped, string(n))
		}
		f.Dead, f.Broken = test.dead, map[md.UUID]bool{{3}: test.broken}
		got := Decide(f)
		claim := ""
		for _, c := range got.Claim {
			claim += c.Name
		}
		if got.Do != test.want || claim != test.claim {
			t.Errorf("%s: Decide() = %s, claim %q; want %s, claim %q", name, got.Do, claim, test.want, test.claim)
		}
		if got.Do != Nothing && got.Why == "" {
			t.Errorf("%s: Decide() does not say why", name)
		}
		if got.lifts() && got.Clone.Super == nil {
			t.Errorf("%s: Decide() lifts without a clone", name)
		}
	}
}

// TestOldDisks: where not all own disks are here, a clone that ran alone since may be what the machine ran from. A trial of it is
// older than what the array wrote since.
func TestOldDisks(t *testing.T) {
	for name, test := range map[string]struct {
		clone Drive
		want  string
	}{
		"it ran alone since":      {at(90, on("c", 19, "--2")), "its clone c was written later (1970-01-01 00:01 UTC) than q (1970-01-01 00:00 UTC)"},
		"it ran alone before":     {at(20, on("c", 400, "--2")), ""},
		"it left in good order":   {at(90, on("c", 4, "012")), ""},
		"its last sync was ended": {at(90, on("c", 19, "--2~")), ""},
	} {
		f := Facts{
			Conf: config.Array{Name: "root", Clones: []md.UUID{{3}}}, Waits: true, Late: true, State: "inactive",
			Drives: []Drive{at(50, on("q", 100, "01-")), test.clone}, In: map[string]bool{"q": true},
		}
		if d := Decide(f); d.Do != Degraded || d.Old != test.want {
			t.Errorf("%s: Decide() = %s, because of %q, against it %q; want %q", name, d.Do, d.Why, d.Old, test.want)
		}
	}
}

// TestDoubtful: mdadm has started an array though its clone is listed.
func TestDoubtful(t *testing.T) {
	pl, q := on("p", 100, "012"), on("q", 101, "-12")
	for name, test := range map[string]struct {
		drives    []Drive
		in, state string
		want      bool
	}{
		"failed one event apart":           {[]Drive{pl, q, on("c", 104, "--2")}, "q", "read-auto", true},
		"the clone is not seen yet":        {[]Drive{pl, q}, "q", "clean", true},
		"nor another primary":              {[]Drive{pl}, "p", "clean", true},
		"not started":                      {[]Drive{pl, q}, "pq", "inactive", false},
		"the clone left in good order":     {[]Drive{on("p", 100, "01-"), on("q", 100, "01-"), on("c", 99, "012")}, "pq", "read-auto", false},
		"a primary failed, the clone left": {[]Drive{on("q", 100, "-1-")}, "q", "read-auto", false},
	} {
		f := Facts{State: test.state, Drives: test.drives, In: map[string]bool{}, Conf: config.Array{Clones: []md.UUID{{3}}}}
		for _, n := range test.in {
			f.In[string(n)] = true
		}
		if got := Doubtful(f); got != test.want {
			t.Errorf("%s: Doubtful() = %v; want %v", name, got, test.want)
		}
	}
}

// TestWaitSaysWhy: what is said to be missing is.
func TestWaitSaysWhy(t *testing.T) {
	p, q, c := on("p", 100, "01-"), on("q", 100, "01-"), on("c", 50, "012")
	for in, test := range map[string]struct {
		drives []Drive
		want   string
	}{
		"":   {[]Drive{c}, "only its clone is here (c)"},
		"p":  {[]Drive{p, c}, "not all of its own disks are here (only p)"},
		"pq": {[]Drive{p, q, c}, "all of its own disks (p, q), but does not run"}, // one of them does not let it
	} {
		f := Facts{Drives: test.drives, In: map[string]bool{}, Conf: config.Array{Clones: []md.UUID{{3}}}, Waits: true}
		for _, n := range in {
			f.In[string(n)], f.State = true, "inactive"
		}
		if got := Decide(f); got.Do != Wait || !strings.Contains(got.Why, test.want) {
			t.Errorf("%q in the array: Decide() = %s, %q; want wait, %q", in, got.Do, got.Why, test.want)
		}
	}
}
