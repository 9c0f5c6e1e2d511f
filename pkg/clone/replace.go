package clone

import (
	"fmt"
	"slices"
	"strconv"

	"mdclone/pkg/md"
)

// replaceAdvice says what to know before a missing primary is replaced: mdadm --add puts a new drive into the lowest empty
// slot, which may be that of a clone that is away. own are the slots of the recorded clones, -1 where one is not known; sure
// tells whether these are all clones that there are.
func replaceAdvice(array string, empty, own []int, sure bool) []string {
	if !sure && len(empty) > 0 {
		return []string{fmt.Sprintf("slots without a member: %s; they may be a clone's that is away, and mdadm --add would fill the lowest: "+
			"a clone whose slot is filled comes back by a full copy only", slotList(empty))}
	}
	lost := slices.DeleteFunc(slices.Clone(empty), func(slot int) bool { return slices.Contains(own, slot) })
	unknown := slices.Contains(own, -1)
	switch {
	case len(lost) == 0 || unknown && len(lost) == 1:
		return []string{}
	case unknown:
		return []string{fmt.Sprintf("the slots %s are empty, and one of them is a clone's: plug the clone in before a primary is replaced", slotList(empty))}
	case lost[0] == empty[0]:
		return []string{fmt.Sprintf("a primary is missing: mdadm /dev/%s --add /dev/NEW puts a new drive into its slot, %d", array, lost[0])}
	}
	return []string{
		fmt.Sprintf("a primary is missing, its slot is %d; a plain mdadm --add would put a new drive into a clone's slot. Instead:", lost[0]),
		fmt.Sprintf("  echo frozen > /sys/block/%s/md/sync_action", array),
		fmt.Sprintf("  mdadm /dev/%s --add /dev/NEW", array),
		fmt.Sprintf("  echo %d > /sys/block/%s/md/dev-NEW/slot", lost[0], array),
		fmt.Sprintf("  echo idle > /sys/block/%s/md/sync_action", array),
	}
}

// spareAdvice says of each spare, but for clones that wait for their slot, that it would take a clone's.
func spareAdvice(array string, spares []string, clones []DriveStatus) (out []string) {
	for _, name := range spares {
		path := md.NodePath(name)
		if !slices.ContainsFunc(clones, func(c DriveStatus) bool { return c.Device != nil && *c.Device == path }) {
			out = append(out, fmt.Sprintf("%s is a spare, and would be given the slot of a clone that is away or leaves; remove it: mdadm /dev/%s --remove %s",
				name, array, path))
		}
	}
	return out
}

// ownSlots are the slots of clones, -1 for one that is not known: also of one whose slot another member fills, as it may have to
// move to any that is empty.
func ownSlots(state md.State, clones []DriveStatus) []int {
	own := make([]int, 0, len(clones))
	for _, c := range clones {
		slot := c.Slot
		if m, filled := state.AtSlot(slot); filled && (c.Device == nil || *c.Device != md.NodePath(m.Name)) {
			slot = -1
		}
		own = append(own, slot)
	}
	return own
}

func slotList(slots []int) string {
	words := make([]string, 0, len(slots))
	for _, n := range slots {
		words = append(words, strconv.Itoa(n))
	}
	return join(words)
}
