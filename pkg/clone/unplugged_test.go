package clone

import (
	"testing"
	"time"

	"mdclone/pkg/md"
)

func TestUnplugged(t *testing.T) {
	gone := func(slot int, flags ...string) md.MemberState {
		return md.MemberState{Name: "vdc", Slot: slot, Flags: flags, Gone: true}
	}
	here := gone(2, "in_sync", "write_mostly")
	here.Gone = false
	attached, left := &Entry{Attached: true, DetachedAt: time.Unix(1, 0)}, &Entry{DetachedAt: time.Unix(1, 0)}
	for name, c := range map[string]struct {
		m    md.MemberState
		x    *Entry
		want string
	}{
		"in sync, in its slot":                    {gone(2, "in_sync", "write_mostly"), attached, "vdc"},
		"in sync, in its slot, nothing recorded":  {gone(2, "in_sync", "write_mostly"), nil, "vdc"},
		"in another clone's slot":                 {gone(1, "in_sync", "write_mostly"), attached, ""},
		"faulty, which has no slot":               {gone(-1, "faulty", "write_mostly"), attached, "vdc"},
		"faulty, nothing recorded":                {gone(-1, "faulty", "write_mostly"), nil, "vdc"},
		"faulty, and this one left in good order": {gone(-1, "faulty", "write_mostly"), left, ""},
		"a primary":             {gone(2, "in_sync"), attached, ""},
		"a primary that failed": {gone(-1, "faulty"), attached, ""},
		"plugged in":            {here, attached, ""},
	} {
		if got := unplugged(md.State{Members: []md.MemberState{c.m}}, 2, c.x); got != c.want {
			t.Errorf("%s: unplugged() = %q; want %q", name, got, c.want)
		}
	}
}
