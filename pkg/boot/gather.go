package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

// Gathering is what a rescue system does with one array.
type Gathering struct {
	Do      Action  // Nothing, Wait or Start
	Members []Drive // with Start: what it is put together of, never a clone
	Why     string  // for a person
	Lacks   bool    // a disk that the array lists is not here: what is written now, it misses
}

// DecideGathering is Decide for a rescue system, where nobody else assembles arrays: it is put together of its own disks
// alone, and only where these are the newest copy. Else a person decides. release is the kernel's.
func DecideGathering(f Facts, found []md.Found, release string) Gathering {
	if f.State != "" {
		if running(f.State) {
			v := look(f)
			return Gathering{Lacks: v.good != nil && !v.complete}
		}
		return Gathering{Why: "some of its disks are in an array that does not run (" + f.State + ")"}
	}
	if why := md.TooNewFor(release, f.Conf.UUID, found); why != "" {
		return Gathering{Why: "it cannot be assembled by " + why}
	}
	all := f
	all.In = map[string]bool{} // as if all of its own disks were in: is that all there is?
	for _, d := range f.Drives {
		if !f.Conf.HasClone(d.Super.Device) {
			all.In[d.Name] = true
		}
	}
	v := look(all)
	switch {
	case !v.complete && !f.Late && len(v.primaries) == 0 && len(v.clones) == 0:
		return Gathering{Do: Wait, Why: "no disk of array " + f.Conf.Name + " is here"}
	case !v.complete && !f.Late:
		return Gathering{Do: Wait, Why: v.missing(f)}
	case len(v.primaries) == 0 && len(v.clones) == 0:
		return Gathering{Why: "none of its disks is here"}
	case len(v.primaries) == 0:
		return Gathering{Why: "only its clone is here (" + names(v.clones) + "), which is not started by itself: " +
			"what is written then is on the clone alone"}
	case v.ahead:
		return Gathering{Why: v.whyAhead + ": its own disks are not started without it"}
	case v.newer:
		return Gathering{Why: "the disks that are here left the array before the clone was last synced"}
	case v.good == nil:
		return Gathering{Why: "none of its own disks that are here holds a whole copy (" + names(v.primaries) + ")"}
	}
	g := Gathering{Do: Start, Why: "all its own disks are here"}
	if g.Lacks = !v.complete; g.Lacks {
		g.Why = v.missing(f)
	}
	var out []Drive
	for _, p := range v.primaries {
		switch good := v.good.Super; {
		case good.Lists(p.Super) && !whole(p):
			return Gathering{Why: p.Name + " is being rebuilt, which the machine itself goes on with"}
		case !good.Lists(p.Super) && !p.Super.Lists(good):
			return Gathering{Why: v.good.Name + " and " + p.Name + " went on without each other; one of them may be a clone that this " +
				"image does not know"}
		}
		if whole(p) && v.good.Super.Lists(p.Super) && p.Super.Events+1 >= v.good.Super.Events {
			g.Members = append(g.Members, p)
		} else {
			out = append(out, p)
		}
	}
	if len(out) > 0 {
		g.Why += "; not current, left out: " + names(out)
	}
	return g
}

// gatherPatience is how long disks are waited for where the configuration says that a clone alone is never started.
const gatherPatience = 20 * time.Second

// Gather assembles the configured arrays in a rescue system, as DecideGathering says, so that nothing is written before
// somebody asks for it. If it is patient, it waits for disks as long as a boot would; Enter on a console ends that. lacking
// are the arrays that it has put together without one of their disks.
func Gather(ctx context.Context, b *Boot, patient bool) (lacking []string, err error) {
	b.stage = stageWait // no other comes after it
	// a disk that does not answer is passed over: nothing is written before somebody asks for it
	if device, err := b.sleeper(); err != nil && !errors.Is(err, md.ErrSilent) {
		return nil, err
	} else if device != "" {
		return nil, report.Fail(report.Refused, "hibernation", "a system sleeps on %s (hibernation): no array is assembled or written to, as "+
			"it would go on with what it knew of them", device).Hint("wake it, and shut it down")
	}
	confs, err := config.Load(b.Root)
	if err != nil || len(confs) == 0 {
		return nil, err
	}
	if b.params, err = readParams(b.Root); err != nil {
		b.Log.Warnf("%v", err)
	}
	release, err := md.Release()
	if err != nil {
		return nil, err
	}
	// arrays start read-only until the first write (drivers/md/md.c, start_ro, Linux 6.12)
	if err := b.FS.Write("1", "module/md_mod/parameters/start_ro"); err != nil {
		return nil, err
	}
	events, err := sysfs.OpenUevents()
	if err != nil {
		return nil, err
	}
	defer events.Close()
	con := &consoles{}
	if patient {
		con = openConsoles(b.Root)
		defer con.close()
	}
	begin, skip := time.Now(), !patient
	for {
		pending := false
		lacking = nil
		found, _, err := b.scanner().Scan()
		if err != nil {
			return nil, err
		}
		for _, conf := range confs {
			wait, ok := b.patience(conf)
			if !ok {
				wait = gatherPatience
			}
			g, err := b.gather(ctx, conf, found, release, skip || time.Since(begin) >= wait)
			if err != nil {
				b.failed(fmt.Errorf("%s: %w", conf.Name, err))
			}
			pending = pending || g.Do == Wait
			if g.Lacks {
				lacking = append(lacking, conf.Name)
			}
		}
		if !pending {
			return lacking, nil
		}
		if err := events.Wait(ctx, lookAgain); err != nil {
			return nil, err
		}
		skip = skip || con.entered()
	}
}

// gather looks at one array and does what is decided, one menu after the other.
func (b *Boot) gather(ctx context.Context, conf config.Array, found []md.Found, release string, late bool) (Gathering, error) {
	unlock, err := b.lock()
	if err != nil {
		return Gathering{}, err
	}
	defer unlock()
	f, _, err := b.facts(conf, found)
	if err != nil {
		return Gathering{}, err
	}
	f.Waits, f.Late = true, late
	g := DecideGathering(f, found, release)
	switch g.Do {
	case Wait:
		b.once("%s; waiting for its disks; Enter ends that", g.Why)
	case Start:
		b.Log.Infof("assembling array %s from %s: %s", conf.Name, names(g.Members), g.Why)
		err = b.assemble(ctx, conf, found, g.Members)
	default:
		if g.Why != "" {
			b.once("array %s is not assembled: %s", conf.Name, g.Why)
		}
	}
	return g, err
}

// assembleAtMost bounds mdadm.
const assembleAtMost = time.Minute

// assemble has mdadm put the members together, and looks at what came of it.
func (b *Boot) assemble(ctx context.Context, conf config.Array, found []md.Found, members []Drive) error {
	path := md.NodePath(b.freeName(members[0].Super.ArrayName))
	// --run, as the clone may be listed and is not there; no configuration, so that only what is said here counts
	args := []string{"--assemble", path, "--run", "--config=none", "--uuid=" + conf.UUID.String()}
	for _, m := range members {
		args = append(args, md.NodePath(m.Name))
	}
	bounded, cancel := context.WithTimeout(ctx, assembleAtMost)
	defer cancel()
	said, err := b.Run(bounded, "mdadm", args...)
	// mdadm's word and exit code do not tell whether the array runs
	f, array, e := b.facts(conf, found)
	switch {
	case e != nil:
		return e
	case !running(f.State):
		return errors.Join(fmt.Errorf("mdadm --assemble %s: the array does not run: %s", path, said), err)
	case f.State != readAuto:
		b.Log.Warnf("%s is %s, not read-only until the first write", array.Path(), f.State)
	}
	for _, m := range members {
		if !f.In[m.Name] {
			b.Log.Warnf("%s was not taken into %s: %s", m.Name, array.Path(), said)
		}
	}
	return nil
}

// freeName is a name for an array that is called so in its superblock ("host:0" is md0), which no other has.
func (b *Boot) freeName(called string) string {
	called = called[strings.LastIndex(called, ":")+1:]
	if n, err := strconv.Atoi(called); err == nil && n >= 0 && n < 512 && !b.FS.Exists("block", fmt.Sprintf("md%d", n)) {
		return fmt.Sprintf("md%d", n)
	}
	n := 0
	for b.FS.Exists("block", fmt.Sprintf("md%d", n)) {
		n++
	}
	return fmt.Sprintf("md%d", n)
}

// names lists drives for a person.
func names(drives []Drive) string {
	out := make([]string, 0, len(drives))
	for _, d := range drives {
		out = append(out, d.Name)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
