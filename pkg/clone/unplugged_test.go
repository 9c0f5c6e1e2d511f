package clone

import (
	"testing"

	"mdclone/pkg/md"
)

func TestUnplugged(t *testing.T) {
	gone := func(slot int, flags ...string) md.MemberState {
		return md.MemberState{Name: "vdc", Slot: slot, Flags: flags, Gone: true}
	}
	here := gone(2, "in_sync", "write_mostly")
	here.Gone = false
	for name, c := range map[string]struct {
		m    md.MemberState
		want string
	}{
		"in sync, in its slot":      {gone(2, "in_sync", "write_mostly"), "vdc"},
		"in another clone's slot":   {gone(1, "in_sync", "write_mostly"), ""},
		"faulty, which has no slot": {gone(-1, "faulty", "write_mostly"), "vdc"},
		"a primary":                 {gone(2, "in_sync"), ""},
		"a primary that failed":     {gone(-1, "faulty"), ""},
		"plugged in":                {here, ""},
	} {
		if got := unplugged(md.State{Members: []md.MemberState{c.m}}, 2); got != c.want {
			t.Errorf("%s: unplugged() = %q; want %q", name, got, c.want)
		}
	}
}
