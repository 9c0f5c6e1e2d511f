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
		writeClone(&b, clone.DriveStatus{State: clone.Stale, CopyBytes: 3 << 20, DetachedAt: test.left}, now, test.known)
		if got := b.String(); !strings.HasSuffix(got, test.want) {
			t.Errorf("detached at %v: %q; want %q at its end", test.left, got, test.want)
		}
	}
}
