package main

import (
	"strings"
	"testing"
	"time"

	"mdclone/pkg/clone"
)

func TestStatusTellsHowLongACloneIsAway(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time {
		at := now.Add(-d)
		return &at
	}
	for _, test := range []struct {
		left  *time.Time
		known bool
		want  string
	}{
		{ago(6*time.Second + 400*time.Millisecond), true, ": stale, detached 6s ago; the next backup copies 3.0 MiB\n"},
		{ago(50*time.Hour + 10*time.Minute), true, ": stale, detached 50h10m0s ago; the next backup copies 3.0 MiB\n"},
		{ago(time.Minute), false, ": stale, detached 1m0s ago; what the next backup copies is not known\n"},
		{nil, true, ": stale; the next backup copies 3.0 MiB\n"},
	} {
		var b strings.Builder
		c := clone.DriveStatus{State: clone.Stale, DetachedAt: test.left}
		if size := uint64(3 << 20); test.known {
			c.CopyBytes = &size
		}
		writeClone(&b, c, now)
		if got := b.String(); !strings.HasSuffix(got, test.want) {
			t.Errorf("detached at %v: %q; want %q at its end", test.left, got, test.want)
		}
	}
}

// TestStatusSaysWhatItCouldNotRead: and nothing that it does not know.
func TestStatusSaysWhatItCouldNotRead(t *testing.T) {
	unread := clone.ArrayStatus{Name: "md0", Device: "/dev/md0", State: "clean", RaidDisks: 3, Unreadable: []string{"what is configured for it"}}
	away := clone.ArrayStatus{Name: "root", State: "unknown", ClonesKnown: true, Clones: []clone.DriveStatus{{}}}
	for _, test := range []struct {
		name     string
		s        clone.Status
		want, no string
	}{
		{"nothing is there", clone.Status{}, "no md array is running", "readable"},
		{"a file", clone.Status{Unreadable: []string{"/etc/mdclone/root.conf"}}, "not readable for this user: /etc/mdclone/root.conf\n", "no md array"},
		{"an array's configuration", clone.Status{Arrays: []clone.ArrayStatus{unread}}, "  not readable for this user: what is configured", "no clone is recorded"},
		{"which array it is", clone.Status{Arrays: []clone.ArrayStatus{away}}, "whether it is assembled is not known", "not assembled"},
		{"the disks", clone.Status{Arrays: []clone.ArrayStatus{away}}, ": not known what it is; what the next backup copies is not known\n", " at "},
	} {
		if got := statusText(test.s, time.Now()); !strings.Contains(got, test.want) || strings.Contains(got, test.no) {
			t.Errorf("%s: status says %q; want %q in it, and not %q", test.name, got, test.want, test.no)
		}
	}
}
