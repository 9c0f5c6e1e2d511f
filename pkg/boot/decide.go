// Package boot is what happens to an array with a clone before its file systems are there: from which members it is
// started, how long its primaries are waited for, and when the machine runs from the clone. The decision is a pure
// function; the rest reads what it rests on and carries it out. Whatever fails here leaves the boot to what the
// distribution would do without it.
package boot

import (
	"fmt"
	"slices"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// Drive is a member of the array that was found, by what lies on it.
type Drive struct {
	Name  string // kernel name
	Super *md.Superblock
}

// Facts is all that the decision on one array rests on.
type Facts struct {
	Conf   config.Array
	Drives []Drive         // that name this array; clones among them
	State  string          // array_state of the kernel's array that has one of them; "" if none has
	In     map[string]bool // kernel names of that array's members
	Lifted map[md.UUID]bool
	Broken map[md.UUID]bool // clones from which it could not be started
	Dead   bool             // it could not be started from its own disks
	// Stopped are kernel names of own disks that were in it when an earlier look stopped it, where it does not run since.
	Stopped []string
	// Waits says that this is a stage that may hold clones and wait: in the initramfs, after the devices of the first
	// moment have been seen. Elsewhere only what is certain is done.
	Waits bool
	Holds bool // this is a stage that may hold clones, though it may not wait
	Held  bool // nothing on the array has been started, as the udev rule holds it
	Late  bool // the primaries were waited for long enough
	// Settled says that udev has finished with all devices that it knew of.
	Settled bool
	Never   bool // the clone alone is never started
}

// Action is what to do with an array.
type Action int

// The actions.
const (
	Nothing  Action = iota // it runs, or is no business of ours, or mdadm starts it by itself
	Wait                   // for primaries
	Settle                 // let udev finish: its rule is about to take an own disk that is here into the array
	Start                  // from the primaries, all of which are there
	Degraded               // from the primaries that are there
	Lift                   // from Clone: guard and claim are lifted for it alone
	Tell                   // that it runs, but not from the newest copy
	Retake                 // stop it, as nobody has used it, and lift Clone
	Restart                // from what was in it when it was stopped
	Stop                   // it, as nobody has lifted the clone that it runs from, and hold that
)

// String names the action.
func (a Action) String() string {
	return [...]string{"nothing", "wait", "settle", "start", "degraded", "lift", "tell", "retake", "restart", "stop"}[a]
}

// Decision is what to do with one array now.
type Decision struct {
	Do    Action
	Clone Drive   // with Lift and Retake
	Claim []Drive // clones to hold, so that nothing else takes them
	Why   string  // for the log
	Old   string  // with Degraded: what speaks against it
}

// Decide is pure: the same facts, the same decision.
func Decide(f Facts) Decision {
	v := look(f)
	d := Decision{}
	untouched := f.Waits && f.Held && unwritten(f.State)
	if f.Waits || f.Holds {
		d.Claim = v.unclaimed
	}
	switch {
	case v.old(f) && untouched && (!v.torn || f.Late):
		d.lift(*v.clone, v.whyAhead)
		d.Do = Retake
	case v.old(f) && untouched && !f.Never:
		d.Do, d.Why = Wait, v.unplug()
	case v.old(f):
		d.Do, d.Why = Tell, fmt.Sprintf("%s (%s)", v.whyAhead, v.clone.Name)
	case unlifted(f) && untouched:
		d.Do, d.Why = Stop, "mdadm had started it from its clone alone, past all rules"
	case running(f.State): // as it should
	case v.ahead && !v.torn && (v.complete || len(f.Stopped) > 0 || f.Waits && f.Never && v.good != nil && !v.others(v.clone.Super)): // nobody to wait for
		d.lift(*v.clone, v.whyAhead)
	case v.complete && v.listed && v.good != nil && !v.ahead && !f.Dead:
		// without a clone in its list mdadm starts it by itself, and two starters would race
		d.Do, d.Why = Start, "all its own disks are here; its absent clone is listed, as the array ended with it attached"
	case f.Waits && f.Late && v.here && !v.complete && v.good != nil && !v.ahead && !f.Dead && len(f.Stopped) == 0 && !f.Settled:
		d.Do, d.Why = Settle, "all its own disks are here, but not all in it yet"
	case f.Waits && f.Late:
		d.late(v, f)
	case v.here && !v.listed && v.good != nil && !v.ahead && f.State == "" && !f.Held: // nobody assembles it in this initramfs
	case f.Waits && !f.Never && len(v.unlifted) > 0:
		if d.Do, d.Why = Wait, v.missing(f); v.torn {
			d.Why = v.unplug()
		}
	case f.Waits && f.Never && v.ahead:
		d.Why = v.whyAhead + ", and boot-wait says never"
	}
	if d.Do == Nothing && f.Waits && len(f.Stopped) > 0 && !running(f.State) && !f.Dead {
		d.Do, d.Why = Restart, "an earlier look had stopped it, and was left behind"
	}
	d.Claim = slices.DeleteFunc(d.Claim, func(c Drive) bool { return d.lifts() && c.Super.Device == d.Clone.Super.Device })
	return d
}

// late is what to do once waiting is over.
func (d *Decision) late(v view, f Facts) {
	switch {
	case v.in && !v.ahead && !v.newer && !f.Dead:
		d.Do, d.Why, d.Old = Degraded, v.missing(f), v.later
	case v.good != nil && !v.ahead && !v.newer && !f.Dead:
		d.Why = "mdadm has not taken " + v.good.Name
	case v.clone == nil && len(v.unlifted) > 0:
		d.Why = "the last sync of its clone was not finished, so that it holds no whole copy"
	case v.clone == nil:
	case v.ahead: // torn or not: from the old disks it would lose what went on, and what is lifted is all that is written
		d.lift(*v.clone, v.whyAhead+v.among)
	case v.newer:
		d.lift(*v.clone, fmt.Sprintf("the disks that are here (%s) left the array before the clone was last synced%s; unplug them: "+
			"the next boot may not know", names(v.primaries), v.among))
	case f.Dead:
		d.lift(*v.clone, "it does not start from the machine's own disks that are here ("+names(v.primaries)+")"+v.among)
	default:
		d.lift(*v.clone, "none of the machine's own disks that could start it is here"+v.among)
	}
}

// onlyClaims leaves everything as it is, and keeps others from taking the clones that are here.
func (d Decision) onlyClaims(f Facts) Decision {
	if d.lifts() && (f.Waits || f.Holds) {
		d.Claim = append(d.Claim, d.Clone)
	}
	return Decision{Claim: d.Claim}
}

func (d *Decision) lift(c Drive, why string) { d.Do, d.Clone, d.Why = Lift, c, why }

func (d Decision) lifts() bool { return d.Do == Lift || d.Do == Retake }

// Doubtful tells whether mdadm has started the array though a clone that it lists, or may list, is not in it, which may hold the
// newest copy: mdadm --incremental counts a failed disk that is one event behind as one that is there (4.4).
func Doubtful(f Facts) bool {
	v := look(f)
	return running(f.State) && v.in && (v.listed || v.mayList)
}

// unlifted tells whether the array runs from a clone alone that nobody has lifted: mdadm --assemble --scan takes one that was
// booted once in the moment in which it appears (4.4, initramfs-tools' local-block).
func unlifted(f Facts) bool {
	clones := 0
	for _, d := range f.Drives {
		switch {
		case !f.In[d.Name]:
		case !f.Conf.HasClone(d.Super.Device) || f.Lifted[d.Super.Device]:
			return false
		default:
			clones++
		}
	}
	return running(f.State) && clones > 0 && clones == len(f.In)
}

// readAuto is array_state of an array that is to be written to for the first time.
const readAuto = "read-auto"

// unwritten tells whether array_state may be that of an array to which nobody has written since it was started: clean where
// md_mod is not asked to start arrays otherwise, as in dracut's image. Its superblocks are as they were then.
func unwritten(state string) bool { return state == readAuto || state == "clean" }

// running tells whether array_state is that of an array that has been started.
func running(state string) bool { return md.State{ArrayState: state}.Active() }

// view is what the superblocks say.
type view struct {
	primaries, clones   []Drive
	unlifted, unclaimed []Drive // clones
	good                *Drive  // the freshest primary that holds a whole, current copy; nil if none does
	freshest            *Drive  // the primary with the most events, whatever it holds
	clone               *Drive  // the clone that would be started from
	in                  bool    // that one is in the kernel's array
	here                bool    // every primary that the array lists is here
	complete            bool    // and is in the kernel's array
	listed              bool    // the array lists a clone's slot
	mayList             bool    // it lists a slot of which nobody is here, and a clone is away
	ahead               bool    // the clone holds the newest copy
	torn                bool    // so does another one, and they went on without each other
	newer               bool    // the clone is newer than those primaries that are here
	later               string  // else: that one ran alone after the last write to those that are here, which are not all
	whyAhead            string
	among               string // why that clone, if there are others; "" or the end of a sentence
}

func look(f Facts) view {
	var v view
	for _, d := range f.Drives {
		if !f.Conf.HasClone(d.Super.Device) {
			v.primaries = append(v.primaries, d)
			continue
		}
		v.clones = append(v.clones, d)
		// one that was lifted and from which nothing runs is tried again: who lifted it was left behind
		left := f.Lifted[d.Super.Device] && !f.Broken[d.Super.Device] && !running(f.State)
		if left && f.In[d.Name] { // md has claimed it
			v.unlifted = append(v.unlifted, d)
			continue
		}
		if f.In[d.Name] || f.Lifted[d.Super.Device] && !left {
			continue
		}
		v.unclaimed = append(v.unclaimed, d)
		if !f.Broken[d.Super.Device] {
			v.unlifted = append(v.unlifted, d)
		}
	}
	v.freshest = freshest(v.primaries, func(Drive) bool { return true })
	if v.freshest != nil {
		// md writes the superblocks one after the other: a power cut leaves them one event apart (drivers/md/md.c,
		// super_1_validate takes that as equal, Linux 6.12)
		v.good = freshest(v.primaries, func(d Drive) bool { return whole(d) && d.Super.Events+1 >= v.freshest.Super.Events })
	}
	v.in = v.good != nil && f.In[v.good.Name]
	v.compare()
	v.later = v.ranLater()
	v.count(f)
	return v
}

// old tells whether the array runs from disks that are not its newest copy.
func (v view) old(f Facts) bool { return running(f.State) && v.in && v.ahead }

// unplug is what to do about two newest copies.
func (v view) unplug() string { return v.whyAhead + ": unplug what is not to be started" }

// whole tells whether a drive holds a whole copy: it has a slot, and its last sync was finished.
func whole(d Drive) bool { return d.Super.Slot() >= 0 && !d.Super.Recovering() }

// freshest is the drive with the most events of those that fit.
func freshest(drives []Drive, fits func(Drive) bool) *Drive {
	var best *Drive
	for _, d := range drives {
		if fits(d) && (best == nil || d.Super.Events > best.Super.Events) {
			best = &d
		}
	}
	return best
}

// compare judges each clone against the primaries that are here: the one with the most events may be none of this array's
// history any more. The clone is then chosen among those that were judged best.
func (v *view) compare() {
	var fit, ahead, newer []Drive
	why := map[string]string{}
	for _, c := range v.unlifted {
		if !whole(c) {
			continue
		}
		fit = append(fit, c)
		if why[c.Name] = v.isAhead(c.Super); why[c.Name] != "" {
			ahead = append(ahead, c)
		} else if v.isNewer(c.Super) {
			newer = append(newer, c)
		}
	}
	switch {
	case len(ahead) > 0:
		if last := outlasting(ahead); len(last) > 0 {
			ahead = last
		}
		v.choose(ahead)
		v.ahead, v.whyAhead = true, why[v.clone.Name]
		v.torn = slices.ContainsFunc(ahead, func(c Drive) bool { return c.Name != v.clone.Name && !c.Super.Lists(v.clone.Super) })
		if v.torn {
			v.whyAhead = "the array went on on more than one clone, without each other (" + names(ahead) + ")"
		}
	case len(newer) > 0:
		// beside it, whatever ran alone since is judged as where no own disk is here
		v.choose(append(newer, slices.DeleteFunc(fit, func(c Drive) bool { return v.others(c.Super) })...))
		v.newer = true
	default:
		v.choose(fit)
	}
}

// ranLater says which clone was written after those primaries that are here, one of which the array has lost meanwhile. A trial of
// the clone looks like that, and so does a machine that has run from it since its last current disk failed.
func (v *view) ranLater() string {
	if v.good == nil {
		return ""
	}
	at := func(d Drive) string { return time.Unix(int64(d.Super.Updated), 0).UTC().Format("2006-01-02 15:04 MST") }
	for _, c := range v.unlifted {
		if whole(c) && !v.others(c.Super) && c.Super.Updated > v.freshest.Super.Updated {
			return fmt.Sprintf("its clone %s was written later (%s) than %s (%s)", c.Name, at(c), v.freshest.Name, at(*v.freshest))
		}
	}
	return ""
}

// outlasting are those clones after which the array did not go on on another one, which they list and which lists them no more.
func outlasting(clones []Drive) []Drive {
	return slices.DeleteFunc(slices.Clone(clones), func(c Drive) bool {
		return slices.ContainsFunc(clones, func(d Drive) bool { return c.Super.Lists(d.Super) && !d.Super.Lists(c.Super) })
	})
}

// isAhead says why a clone holds the newest copy, if it does.
func (v *view) isAhead(c *md.Superblock) string {
	if v.freshest == nil {
		return ""
	}
	switch a := v.freshest.Super; {
	case v.good == nil && a.Recovering() && a.Lists(c) && c.Events+1 >= a.Events:
		return "its own disks were being copied back from the clone when the array ended"
	case !v.listsPrimary(c) && a.Lists(c) && c.Events > a.Events:
		return "the array went on on the clone after its own disks had failed: it is the newest copy"
	}
	return ""
}

// isNewer tells whether another primary, which is not here, was in with a clone when those that are here were not.
func (v *view) isNewer(c *md.Superblock) bool {
	return v.freshest != nil && !v.listsPrimary(c) && c.Events > v.freshest.Super.Events && v.others(c)
}

func (v *view) listsPrimary(c *md.Superblock) bool {
	return slices.ContainsFunc(v.primaries, func(p Drive) bool { return c.Lists(p.Super) })
}

// choose chooses the clone. Events tell which of those that left in good order is the fresher. One that ran alone has counted
// on by itself, so that only the time of its last write tells whether that was a trial long ago, or is the machine by now.
func (v *view) choose(clones []Drive) {
	honest := freshest(clones, func(c Drive) bool { return v.others(c.Super) })
	var alone *Drive
	for _, c := range clones {
		if !v.others(c.Super) && (alone == nil || later(c, *alone)) {
			alone = &c
		}
	}
	if v.clone = honest; honest == nil || alone != nil && alone.Super.Updated > honest.Super.Updated {
		v.clone = alone
	}
	if len(clones) > 1 {
		v.among = "; of its clones (" + names(clones) + ") this is the one with the last write"
	}
}

// later tells whether a was written after b.
func later(a, b Drive) bool {
	if a.Super.Updated != b.Super.Updated {
		return a.Super.Updated > b.Super.Updated
	}
	return a.Super.Events > b.Super.Events
}

// others tells whether a superblock lists anyone besides itself and the clones that are here.
func (v *view) others(s *md.Superblock) bool {
	for number := range s.Roles {
		n := uint32(number)
		known := func(c Drive) bool { return c.Super.DevNumber == n }
		if s.SlotOf(n) >= 0 && n != s.DevNumber && !slices.ContainsFunc(v.clones, known) {
			return true
		}
	}
	return false
}

// count finds out whether all primaries are in, and whether a clone is listed.
func (v *view) count(f Facts) {
	a := v.good
	if a == nil {
		a = v.freshest
	}
	if a == nil {
		return
	}
	v.here, v.complete = true, f.In[a.Name]
	clones := v.cloneSlots(f, a.Super)
	for slot, on := range a.Super.ActiveSlots() {
		switch {
		case !on:
		case clones[slot]:
			v.listed = true
		default:
			there := func(p Drive) bool { return p.Super.Slot() == slot && a.Super.Lists(p.Super) }
			v.here = v.here && slices.ContainsFunc(v.primaries, there)
			v.complete = v.complete && slices.ContainsFunc(v.primaries, func(p Drive) bool { return there(p) && f.In[p.Name] })
		}
	}
}

// cloneSlots are those that a lists for clones. One that is away says nothing itself, and where its slot is depends on which disks
// were added later: only where all of the array's own disks are here, what is missing is the clones'.
func (v *view) cloneSlots(f Facts, a *md.Superblock) map[int]bool {
	own, clones := map[int]bool{}, map[int]bool{}
	away := len(f.Conf.Clones)
	for _, c := range v.clones {
		if c.Super.Slot() >= 0 {
			away--
		}
		if a.Lists(c.Super) { // else another drive has taken its slot meanwhile
			clones[c.Super.Slot()] = true
		}
	}
	for _, p := range v.primaries {
		if a.Lists(p.Super) {
			own[p.Super.Slot()] = true
		}
	}
	var missing []int
	for slot, on := range a.ActiveSlots() {
		if on && !own[slot] && !clones[slot] {
			missing = append(missing, slot)
		}
	}
	v.mayList = len(missing) > 0 && away > 0
	if len(own) < 2 || len(own)+len(f.Conf.Clones) < int(a.RaidDisks) || len(missing) > away {
		return clones
	}
	for _, slot := range missing {
		clones[slot] = true
	}
	return clones
}

// missing says what is here and what is waited for.
func (v *view) missing(f Facts) string {
	if len(v.primaries) == 0 {
		return fmt.Sprintf("of array %s only its clone is here (%s)", f.Conf.Name, names(v.clones))
	}
	if v.complete {
		return fmt.Sprintf("array %s has all of its own disks (%s), but does not run", f.Conf.Name, names(v.primaries))
	}
	return fmt.Sprintf("of array %s not all of its own disks are here (only %s)", f.Conf.Name, names(v.primaries))
}
