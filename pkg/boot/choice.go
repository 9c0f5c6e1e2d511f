package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Choice is what was so when a boot with mdclone=backup was chosen. A boot loader that cannot forget its choice makes the same
// boot again, until the machine has come up: what has changed on the disks tells, and nothing has to be written for that.
type Choice struct {
	// Until tells this choice from others, and from a boot that is chosen by hand in the menu: it is what mdclone.until says.
	Until  int64    `json:"until"`
	Clones []Chosen `json:"clones"`
}

// Chosen is one clone in that moment.
type Chosen struct {
	Array  md.UUID `json:"array"`
	Clone  md.UUID `json:"clone"`
	Events uint64  `json:"events"` // of the array
	In     bool    `json:"in"`     // the array listed it
	Whole  bool    `json:"whole"`  // with In: its last sync was finished
}

// NewChoice is pure: found are the members that are here. A clone of which it cannot be told whether its array lists it is
// left out, and then only time ends the choice.
func NewChoice(confs []config.Array, found []md.Found, until int64) Choice {
	choice := Choice{Until: until, Clones: []Chosen{}}
	for _, conf := range confs {
		v := look(Facts{Conf: conf, Drives: drivesOf(conf, found)})
		if v.freshest == nil {
			continue
		}
		array := v.freshest.Super
		for _, u := range conf.Clones {
			c := single(v.clones, u)
			if c == nil && !v.allHere() {
				continue
			}
			now := Chosen{Array: conf.UUID, Clone: u, Events: array.Events}
			if c != nil && array.Lists(c.Super) {
				now.In, now.Whole = true, !c.Super.Recovering()
			}
			choice.Clones = append(choice.Clones, now)
		}
	}
	return choice
}

// allHere tells whether everybody whom the array lists is here.
func (v *view) allHere() bool {
	array := v.freshest.Super
	for slot, on := range array.ActiveSlots() {
		here := func(d Drive) bool { return d.Super.Slot() == slot && array.Lists(d.Super) }
		if on && !slices.ContainsFunc(v.primaries, here) && !slices.ContainsFunc(v.clones, here) {
			return false
		}
	}
	return true
}

// single is the one drive that is here with that UUID; nil if there is none, or two, which are refused.
func single(drives []Drive, u md.UUID) *Drive {
	is := func(d Drive) bool { return d.Super.Device == u }
	i := slices.IndexFunc(drives, is)
	if i < 0 || slices.ContainsFunc(drives[i+1:], is) {
		return nil
	}
	return &drives[i]
}

// The reasons of a clone that is not made again; of one that is unfinished the next backup copies the rest.
const (
	spent      = "spent"
	unfinished = "unfinished"
)

// spent says why a clone that was chosen then is not made now, by the superblocks of array and clone; "" if it is. Those that
// are no part of one history are not judged here: what is wrong with such a clone is said by whoever is asked to make it.
//
// md counts an event whenever it writes the superblocks for a change of the members, and a clone that is away has those that
// it left with. So more of them than the array had at the choice are from a join since then. A clone that was in all the time
// is still listed by the array, as nothing has been written to that when it has just been started without the clone.
func (c Chosen) spent(array, clone *md.Superblock) string {
	switch {
	case !clone.Lists(array) || clone.Events > array.Events+1: // it ran alone
	case !c.In && clone.Events > c.Events:
		return "was made, or begun, since this was chosen"
	case c.In && !array.Lists(clone):
		return "has left the array since this was chosen: it was made, taken out, or lost at an earlier boot"
	case c.In && c.Whole && clone.Recovering():
		return "was begun since this was chosen"
	}
	return ""
}

// sifting is what is to be done at a boot.
type sifting struct {
	here    int             // arrays of which a clone is here that is to be made
	missing []string        // names of arrays of which no clone is here
	spent   []report.Reason // of the clones that are here, and are not made again
	meant   []md.UUID       // with spent: the clones that are to be made
}

// sift is pure. Each array and each clone is judged by itself. An array whose clone is spent waits for no other one.
func (c Choice) sift(confs []config.Array, found []md.Found) sifting {
	var out sifting
	for _, conf := range confs {
		v := look(Facts{Conf: conf, Drives: drivesOf(conf, found)})
		before, here := len(out.spent), false
		var meant []md.UUID
		for _, u := range conf.Clones {
			clone := single(v.clones, u)
			if why := c.spent(conf, v.freshest, clone); why != "" {
				r := report.Reason{Code: spent, Text: fmt.Sprintf("the clone of %s at %s %s", conf.Name, md.NodePath(clone.Name), why)}
				if clone.Super.Recovering() {
					r.Code, r.Text = unfinished, r.Text+"; it is not finished, and no clone yet"
				}
				out.spent = append(out.spent, r)
				continue
			}
			is := func(d Drive) bool { return d.Super.Device == u }
			here, meant = here || slices.ContainsFunc(v.clones, is), append(meant, u)
		}
		switch {
		case len(conf.Clones) == 0:
			continue
		case here:
			out.here++
		case len(out.spent) > before:
			continue
		default:
			out.missing = append(out.missing, conf.Name)
		}
		out.meant = append(out.meant, meant...)
	}
	return out
}

// spent is Chosen.spent of a clone that is here, if it was chosen.
func (c Choice) spent(conf config.Array, array, clone *Drive) string {
	if array == nil || clone == nil {
		return ""
	}
	i := slices.IndexFunc(c.Clones, func(x Chosen) bool { return x.Array == conf.UUID && x.Clone == clone.Super.Device })
	if i < 0 {
		return ""
	}
	return c.Clones[i].spent(array.Super, clone.Super)
}

// choice reads what was brought along of the choice of this boot. There is nothing of one that was made by hand, in the menu
// or on the command line, by an older version, or anew since.
func (b *Boot) choice() (Choice, error) {
	var c Choice
	if b.params.until == 0 {
		return c, nil
	}
	path := filepath.Join(b.Root, config.ChoiceFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return Choice{}, fmt.Errorf("read what was chosen, %s: %w", path, err)
	}
	if c.Until != b.params.until {
		return Choice{}, nil
	}
	return c, nil
}
