package clone

import (
	"testing"

	"mdclone/pkg/limits"
)

func TestLowered(t *testing.T) {
	for _, test := range []struct {
		wanted, members uint64
		want            string // "" for nothing
	}{
		{99999, 1280, "wanted 99999, the members take 1280"},
		{1280, 1280, ""},
		{64, 1280, ""},
		{0, 1280, ""},
		{512, 0, ""}, // no member tells
	} {
		got := lowered(limits.PinResult{Wanted: test.wanted, Members: test.members})
		if (len(got) > 0) != (test.want != "") || len(got) > 0 && got[0].Text != test.want {
			t.Errorf("lowered(%d of %d) = %v; want %q", test.wanted, test.members, got, test.want)
		}
	}
}
