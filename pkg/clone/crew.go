package clone

import (
	"context"
	"errors"
	"time"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// crew is all clones of one array that take part in a cycle. They are let in one after the other and leave together:
// bits are cleared only while no slot is empty, so with all of them in, each later clone copies what it misses itself and
// not what any of them misses.
type crew struct{ sessions []*session }

// each does a step for every clone that has not failed and is not over; one that fails does not stop the others.
func (c *crew) each(do func(*session) error) {
	for _, s := range c.sessions {
		if s.err == nil && !s.over {
			s.err = do(s)
		}
	}
}

// active lists the clones that are still taking part.
func (c *crew) active() (out []*session) {
	c.each(func(s *session) error {
		out = append(out, s)
		return nil
	})
	return out
}

// bringIn lets every clone in, and compares all where that is asked for: the kernel's comparison is of all members at
// once.
func (c *crew) bringIn(ctx context.Context) {
	for _, s := range c.active()[min(1, len(c.active())):] {
		s.follows = true
	}
	c.each(func(s *session) error {
		if ctx.Err() != nil { // as one before it was copied to
			return context.Cause(ctx)
		}
		return s.bringIn(ctx)
	})
	var checked *session
	c.each(func(s *session) error {
		if s.wantsAll() && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if checked != nil && checked.err == nil && s.wantsAll() {
			return s.adoptCheck(checked)
		}
		err := s.verifyAll(ctx)
		for reasonCode(err) == "check-stopped" && c.lose(s) { // md ends it when any member fails
			err = s.verifyAll(ctx)
		}
		if s.wantsAll() {
			checked = s
		}
		if s.wantsAll() && s.verdict.WhyVerify == differed { // which of them does, the count does not tell
			c.each((*session).suspect)
		}
		return err
	})
}

// lose ends the sessions, but for one, whose drives failed meanwhile, and tells whether there were any.
func (c *crew) lose(but *session) bool {
	lost := false
	for _, s := range c.active() {
		if s != but && s.failed() {
			s.err, lost = driveFailed(s.drive.Name), true
		}
	}
	return lost
}

// settle brings the bitmap to rest with all clones in, and compares what was copied to each.
func (c *crew) settle(ctx context.Context) {
	lead, at, err := c.comeToRest(ctx)
	c.each(func(s *session) error {
		if err != nil {
			return err
		}
		s.moved, s.result.Seconds.Settle, s.resting = lead.moved, lead.result.Seconds.Settle, at.frozen
		s.result.LeftDirtyBytes = s.bitmap.Bytes(s.copied.Minus(at.clear))
		return s.compareCopied(ctx, s.copied.And(at.clear), at.frozen)
	})
	c.each((*session).agree)
}

// takeOut detaches all clones before it leaves any canary, which makes a read-only array writable.
func (c *crew) takeOut() {
	c.each((*session).leave)
	c.each((*session).watchSlot)
}

// comeToRest settles for all, led by the first clone. One whose drive fails meanwhile is no reason for the others to end.
func (c *crew) comeToRest(ctx context.Context) (*session, rest, error) {
	for {
		all := c.active()
		if len(all) == 0 {
			return nil, rest{}, nil
		}
		lead, copied := all[0], all[0].copied
		for _, s := range all[1:] {
			copied, lead.before = copied.Or(s.copied), max(lead.before, s.before)
		}
		at, err := lead.settle(ctx, copied)
		if err == nil || ctx.Err() != nil || !lead.failed() {
			return lead, at, err
		}
		lead.err = err
	}
}

// accounts ends every session. The error is the worst, with the reasons of all.
func (c *crew) accounts(ctx context.Context, start time.Time) ([]*Result, error) {
	var results []*Result
	var errs []error
	worst := report.Done
	for _, s := range c.sessions {
		s.conclude(ctx, start)
		results = append(results, s.result)
		if s.err != nil {
			errs = append(errs, s.err)
			worst = report.Worse(worst, report.CodeOf(s.err))
		}
	}
	if len(errs) > 1 {
		return results, report.WithCode(worst, errors.Join(errs...))
	}
	return results, errors.Join(errs...)
}

// rest is how an array came to rest: the chunks that are in sync on disk, and whether nobody can write to it now.
type rest struct {
	clear  md.Chunks
	frozen bool
}
