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
	"mdclone/pkg/sysfs"
)

// Gathering is what a rescue system does with one array.
type Gathering struct {
	Do      Action  // Nothing, Wait or Start
	Members []Drive // with Start: what it is put together of, never a clone
	Why     string  // for a person
}

// DecideGathering is Decide for a rescue system, where nobody else assembles arrays: it is put together of its own disks
// alone, and only where these are the newest copy. Else a person decides. release is the kernel's.
func DecideGathering(f Facts, found []md.Found, release string) Gathering {
	if f.State != "" {
		if running(f.State) {
			return Gathering{}
		}
		return Gathering{Why: "some of its disks are in an array that does not run (" + f.State + ")"}
	}
	for _, d := range found {
		if why := d.Member.TooNewFor(release); d.Member.Super.Array == f.Conf.UUID && why != "" {
			return Gathering{Why: "it cannot be assembled by " + why}
		}
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
	if !v.complete {
		g.Why = v.missing(f)
	}
	var out []Drive
	for _, p := range v.primaries {
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
// somebody asks for it. If it is patient, it waits for disks as long as a boot would; Enter on a console ends that.
func Gather(ctx context.Context, b *Boot, patient bool) error {
	confs, err := config.Load(b.Root)
	if err != nil || len(confs) == 0 {
		return err
	}
	if b.params, err = readParams(b.Root); err != nil {
		b.Log.Warnf("%v", err)
	}
	release, err := md.Release()
	if err != nil {
		return err
	}
	// arrays start read-only until the first write (drivers/md/md.c, start_ro, Linux 6.12)
	if err := b.FS.Write("1", "module/md_mod/parameters/start_ro"); err != nil {
		return err
	}
	events, err := sysfs.OpenUevents()
	if err != nil {
		return err
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
		found, _, err := md.Scan(b.FS)
		if err != nil {
			return err
		}
		for _, conf := range confs {
			wait, ok := b.patience(conf)
			if !ok {
				wait = gatherPatience
			}
			waits, err := b.gather(ctx, conf, found, release, skip || time.Since(begin) >= wait)
			if err != nil {
				b.failed(fmt.Errorf("%s: %w", conf.Name, err))
			}
			pending = pending || waits
		}
		if !pending {
			return nil
		}
		if err := events.Wait(ctx, lookAgain); err != nil {
			return err
		}
		skip = skip || con.entered()
	}
}

// gather looks at one array. waits says that its disks are worth waiting for.
func (b *Boot) gather(ctx context.Context, conf config.Array, found []md.Found, release string, late bool) (
	waits bool, err error,
) {
	f, _, err := b.facts(conf, found)
	if err != nil {
		return false, err
	}
	f.Waits, f.Late = true, late
	switch g := DecideGathering(f, found, release); g.Do {
	case Wait:
		b.once("%s; waiting for its disks; Enter ends that", g.Why)
		return true, nil
	case Start:
		b.Log.Infof("assembling array %s from %s: %s", conf.Name, names(g.Members), g.Why)
		return false, b.assemble(ctx, conf, found, g.Members)
	default:
		if g.Why != "" {
			b.once("array %s is not assembled: %s", conf.Name, g.Why)
		}
		return false, nil
	}
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
	case f.State != "read-auto":
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
