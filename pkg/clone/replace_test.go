package clone

import (
	"strings"
	"testing"
)

func TestReplaceAdvice(t *testing.T) {
	for _, test := range []struct {
		name       string
		empty, own []int
		want       string // part of the advice; "" for none
	}{
		{"the clone is away", []int{2}, []int{2}, ""},
		{"two clones are away", []int{2, 3}, []int{2, 3}, ""},
		{"nothing is empty", nil, []int{2}, ""},
		{"a clone away of which no slot is known", []int{2}, []int{-1}, ""},
		{"a primary is missing, the clone is above", []int{1, 2}, []int{2}, "puts a new drive into its slot, 1"},
		{"a primary is missing, the clone is below", []int{0, 1}, []int{0}, "echo 1 > /sys/block/md0/md/dev-NEW/slot"},
		{"a primary is missing, the clone is in", []int{1}, []int{2}, "its slot, 1"},
		{"nobody knows which is whose", []int{0, 1}, []int{-1}, "plug the clone in"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(replaceAdvice("md0", test.empty, test.own), "\n")
			if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
				t.Errorf("replaceAdvice(%v, %v) = %q; want %q in it", test.empty, test.own, got, test.want)
			}
		})
	}
}
