package clone

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/md"
)

func TestReplaceAdvice(t *testing.T) {
	for _, test := range []struct {
		name       string
		empty, own []int
		want       string // part of the advice; "" for none
		unsure     bool
	}{
		{name: "the clone is away", empty: []int{2}, own: []int{2}, want: ""},
		{name: "two clones are away", empty: []int{2, 3}, own: []int{2, 3}, want: ""},
		{name: "nothing is empty", empty: nil, own: []int{2}, want: ""},
		{name: "a clone away of which no slot is known", empty: []int{2}, own: []int{-1}, want: ""},
		{name: "a primary is missing, the clone is above", empty: []int{1, 2}, own: []int{2}, want: "puts a new drive into its slot, 1"},
		{name: "a primary is missing, the clone is below", empty: []int{0, 1}, own: []int{0}, want: "echo 1 > /sys/block/md0/md/dev-NEW/slot"},
		{name: "a primary is missing, the clone is in", empty: []int{1}, own: []int{2}, want: "its slot, 1"},
		{name: "nobody knows which is whose", empty: []int{0, 1}, own: []int{-1}, want: "0, 1 are empty, and one of them is a clone's: plug the clone in"},
		{name: "nothing is configured", empty: []int{2}, unsure: true, want: "without a member: 2; they may be a clone's"},
		{name: "nothing is configured, and nothing empty", unsure: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(replaceAdvice("md0", test.empty, test.own, !test.unsure), "\n")
			if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
				t.Errorf("replaceAdvice(%v, %v) = %q; want %q in it", test.empty, test.own, got, test.want)
			}
			if test.unsure && strings.Contains(got, "mdadm /dev/md0 --add") {
				t.Errorf("replaceAdvice(%v) = %q; want no command, as the slot may be a clone's", test.empty, got)
			}
		})
	}
}

// TestOwnSlots: a new drive that fills a clone's slot leaves that of the primary which it replaced, and that is then the clone's.
func TestOwnSlots(t *testing.T) {
	state := md.State{RaidDisks: 4, Members: []md.MemberState{{Name: "vda", Slot: 0}, {Name: "vdc", Slot: 2}}}
	at := func(device string, slot int) DriveStatus { return DriveStatus{Device: &device, Slot: slot} }
	got := ownSlots(state, []DriveStatus{at("/dev/vdc", 2), at("/dev/vdd", 2), at("", 2), at("", 3), at("", -1), {Slot: 2}})
	if diff := cmp.Diff([]int{2, -1, -1, 3, -1, -1}, got); diff != "" {
		t.Errorf("ownSlots() (-want +got):\n%s", diff)
	}
}

func TestSpareAdvice(t *testing.T) {
	clone := "/dev/sdc"
	got := strings.Join(spareAdvice("md0", []string{"sdc", "sdd"}, []DriveStatus{{Device: &clone}, {}}), "\n")
	if !strings.Contains(got, "mdadm /dev/md0 --remove /dev/sdd") || strings.Contains(got, "sdc") {
		t.Errorf("spareAdvice() = %q; want sdd taken out, and the clone left alone", got)
	}
}
