package clone

import (
	"fmt"
	"slices"
)

// replaceAdvice says what to know before a missing primary is replaced: mdadm --add puts a new drive into the lowest empty
// slot, which may be that of a clone that is away. own are the slots of the recorded clones, -1 where one is not known.
func replaceAdvice(array string, empty, own []int) []string {
	lost := slices.DeleteFunc(slices.Clone(empty), func(slot int) bool { return slices.Contains(own, slot) })
	unknown := slices.Contains(own, -1)
	switch {
	case len(lost) == 0 || unknown && len(lost) == 1:
		return []string{}
	case unknown:
		return []string{fmt.Sprintf("the slots %v are empty, and one of them is a clone's: plug the clone in before a primary is replaced", empty)}
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
