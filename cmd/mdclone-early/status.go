package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mdclone/pkg/clone"
	"mdclone/pkg/report"
)

const statusHelp = `Arrays, their limits and those above them, each clone and what the next backup will copy. Any user may run it; what that
user cannot read is said.`

type statusCommand struct {
	*program `no-flag:"1"`
	Args     struct {
		Array string `positional-arg-name:"ARRAY"`
	} `positional-args:"1"`
}

// Execute runs status.
func (c *statusCommand) Execute(args []string) error {
	if err := report.NoMore(args); err != nil {
		return err
	}
	c.begin()
	s, err := c.env.Status(c.Args.Array)
	if err != nil && len(s.Arrays) == 0 {
		return err
	}
	s.Result, s.Reasons = report.CodeOf(err).Result(), report.ReasonsOf(err)
	return errors.Join(err, c.print(s, statusText(s, time.Now())))
}

func statusText(s clone.Status, now time.Time) string {
	var text strings.Builder
	for _, what := range s.Unreadable {
		fmt.Fprintf(&text, "not readable for this user: %s\n", what)
	}
	for _, a := range s.Arrays {
		writeArray(&text, a, now)
	}
	if len(s.Arrays) == 0 && len(s.Unreadable) == 0 {
		text.WriteString("no array is configured, and no md array is running\n")
	}
	return text.String()
}

func writeArray(b *strings.Builder, a clone.ArrayStatus, now time.Time) {
	switch {
	case a.Device == "" && a.State == "unknown":
		fmt.Fprintf(b, "%s: whether it is assembled is not known (%s)\n", a.Name, a.UUID)
	case a.Device == "":
		fmt.Fprintf(b, "%s: not assembled (%s)\n", a.Name, a.UUID)
	case a.RaidDisks == 0:
		fmt.Fprintf(b, "%s: %s was not started (%s)\n", a.Name, a.Device, a.State)
	default:
		fmt.Fprintf(b, "%s: %s, %s, %s, %d of %d slots filled, %s\n", a.Name, a.Device, report.Bytes(a.Size), a.State,
			a.RaidDisks-a.Degraded, a.RaidDisks, a.SyncAction)
		if a.ChunkBytes > 0 && a.DirtyBytes != nil {
			fmt.Fprintf(b, "  bitmap: chunks of %s, %s dirty\n", report.Bytes(uint64(a.ChunkBytes)), report.Bytes(*a.DirtyBytes))
		}
		writeLimits(b, a.Limits)
	}
	if a.RunsFromClone {
		b.WriteString("  this machine runs from the clone: none of the array's own disks is in it, what is written is on the clone alone\n")
	}
	for _, what := range a.Unreadable {
		fmt.Fprintf(b, "  not readable for this user: %s\n", what)
	}
	if len(a.Clones) == 0 && a.ClonesKnown {
		b.WriteString("  no clone is recorded; mdclone-early adopt ARRAY DRIVE makes one\n")
	}
	for _, c := range a.Clones {
		writeClone(b, c, now)
	}
	for _, line := range a.Advice {
		fmt.Fprintf(b, "  %s\n", line)
	}
}

func writeLimits(b *strings.Builder, l clone.LimitStatus) {
	fmt.Fprintf(b, "  max_sectors_kb: %d", l.Now)
	if l.Pinned != 0 {
		fmt.Fprintf(b, " (pin %d)", l.Pinned)
	}
	names := make([]string, 0, len(l.Holders))
	for n := range l.Holders {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintf(b, ", %s %d", n, l.Holders[n])
		if l.Holders[n] > l.Now {
			b.WriteString(" (larger than the array's)")
		}
	}
	b.WriteByte('\n')
	for _, f := range l.Findings {
		fmt.Fprintf(b, "    %s\n", f.Text)
	}
}

func writeClone(b *strings.Builder, c clone.DriveStatus, now time.Time) {
	state := string(c.State)
	if state == "" {
		state = "not known what it is"
	}
	fmt.Fprintf(b, "  clone %s: %s", c.UUID, state)
	if c.Device != nil && *c.Device != "" {
		fmt.Fprintf(b, " at %s", *c.Device)
	}
	if c.DetachedAt != nil {
		fmt.Fprintf(b, ", detached %s ago", now.Sub(*c.DetachedAt).Round(time.Second))
	}
	if c.CopyBytes != nil {
		fmt.Fprintf(b, "; the next backup copies %s\n", report.Bytes(*c.CopyBytes))
	} else {
		b.WriteString("; what the next backup copies is not known\n")
	}
	if c.AgainBytes > 0 {
		fmt.Fprintf(b, "    %s of that it has already: what changed is forgotten only while all clones are in; a backup with all of\n"+
			"    them plugged in ends that\n", report.Bytes(c.AgainBytes))
	}
	for _, r := range c.Reasons {
		fmt.Fprintf(b, "    %s\n", r.Text)
	}
	for _, h := range c.Hints {
		fmt.Fprintf(b, "    hint: %s\n", h)
	}
}
