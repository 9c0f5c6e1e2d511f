package clone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// conclude ends a session and fills in its account.
func (s *session) conclude(ctx context.Context, start time.Time) {
	s.err = s.noRefusal(s.finish(ctx, s.err))
	if report.CodeOf(s.err) == report.Refused {
		s.result.Mode = ""
	}
	s.result.Seconds.Total = s.since(start)
	s.result.Result = report.CodeOf(s.err).Result()
	s.result.Reasons = report.ReasonsOf(s.err)
	if s.err == nil {
		s.result.Reasons = append(s.result.Reasons, s.verdict.Reasons...)
	}
	if report.CodeOf(s.err) != report.Refused && report.CodeOf(s.err) != report.NoDrive {
		if e := s.env.remember(s.result, start); e != nil {
			s.env.Log.Warnf("history: %v", e)
		}
	}
}

// noRefusal makes a refusal that comes after something was changed a failure: that exit code says that nothing was.
func (s *session) noRefusal(err error) error {
	if s.acted && report.CodeOf(err) == report.Refused {
		return report.WithCode(report.Failed, err)
	}
	return err
}

// finish puts everything back, and takes a clone out whose cycle was interrupted or whose drive failed.
func (s *session) finish(ctx context.Context, err error) error {
	var own *report.Error
	why := errors.As(err, &own) && own.Exit != report.Interrupted // it had ended before the interrupt
	switch {
	case err == nil:
	case ctx.Err() != nil && s.inside && !why && !s.keeps:
		if err = s.giveUp(); err == nil {
			err = interrupted(context.Canceled)
		} else {
			err = report.Fail(report.Failed, "interrupted", "interrupted, and %s could not be taken out of %s: %w", s.drive.Name,
				s.Array.Name, err).Hint("mdclone-early detach")
		}
	case ctx.Err() != nil && !why:
		err = interrupted(context.Canceled)
	case s.inside:
		err = s.afterFailure(err)
	}
	if ctx.Err() != nil && (s.inside || s.keeps) { // a comparison that was ended may have failed to
		if e := s.openRange(); e != nil {
			err = errors.Join(err, e)
		}
	}
	if e := s.untune(); e != nil {
		s.acted = true // something is left changed
		err = errors.Join(err, e)
	}
	if s.inside || s.result.CopiedBytes > 0 {
		s.account()
	} else {
		s.stays() // however early it went wrong
	}
	return err
}

// saysLost are the reasons that name a primary which is lost.
var saysLost = []string{"primary-failed", "last-copy", "last-primary"}

// afterFailure says which drive is at fault where one is. A clone whose drive has failed is taken out; one that is sound
// stays as it is.
func (s *session) afterFailure(err error) error {
	state, e := s.Array.State()
	if e != nil {
		return errors.Join(err, e)
	}
	code := reasonCode(err)
	if lost := s.lost(state); lost != nil && !slices.Contains(saysLost, code) {
		err = errors.Join(lost, err)
	}
	m, in := state.Member(s.drive.Name)
	faulty := m.Has("faulty") && code != "bad-blocks" // until those are on disk too, it reads as faulty
	if _, e := md.ReadDevice(s.drive.Path); in && e == nil && !faulty {
		if how := wayOut(reasonCode(err), s.drive.Path); how != "" {
			s.env.Log.Warnf("%s is still in %s: %s", s.drive.Name, s.Array.Name, how)
		}
		return err
	}
	if code != "drive-failed" {
		err = errors.Join(driveFailed(s.drive.Name), err)
	}
	return errors.Join(err, s.drop(state))
}

// wayOut is what takes a sound drive out that a failure has left in, or makes it a clone; "" where it must stay.
func wayOut(code, path string) string {
	switch code {
	case "last-copy", "last-primary":
		return ""
	case "mismatch": // detach compares what has differed, and does not let it go
		return fmt.Sprintf("mdclone-early verify --repair makes it equal; mdclone-early detach --verify none --clone %s takes it out as it is", path)
	case "repair-source":
		return fmt.Sprintf("mdclone-early detach --verify none --clone %s takes it out as it is", path)
	case "bad-blocks": // no clone leaves as one beside them
		return "mdclone-early detach takes it out once no member has bad blocks"
	}
	return "mdclone-early detach takes it out"
}

// lost says which primaries were lost since the session began; nil if none was.
func (s *session) lost(state md.State) *report.Error {
	return lostMeanwhile(s.Array.Name, s.drive.Name, state, s.peers, func(name string) bool {
		bad, err := s.Array.BadBlocks(name)
		return err == nil && bad
	})
}

// drop takes a clone out whose drive has failed. The ledger goes on saying that it did not leave in good order.
func (s *session) drop(state md.State) error {
	m, in := state.Member(s.drive.Name)
	if !in {
		return nil
	}
	if err := s.thaw(); err != nil {
		return err
	}
	if !m.Has("faulty") {
		state, err := s.Array.State() // a drive that fails takes its time to answer
		if err != nil {
			return err
		}
		if left, _ := whoIsLeft(state, s.peers); len(left) == 0 {
			return nil // whatever it is, it is all that is left
		}
		if err := s.Array.Write("faulty", "dev-"+s.drive.Name, "state"); err != nil {
			return err
		}
	}
	return s.remove(s.drive.Name)
}

// failed tells whether the clone's drive is gone, faulty in the array, or cannot be read.
func (s *session) failed() bool {
	m, err := s.Array.Member(s.drive.Name)
	if err != nil || m.Has("faulty") {
		return true
	}
	_, err = md.ReadDevice(s.drive.Path)
	return err != nil
}

func driveFailed(name string) *report.Error {
	return report.Fail(report.Failed, "drive-failed", "%s failed or was unplugged, and is no complete clone; the array is intact", name).
		Hint("look at the kernel log (dmesg); plug it in again and run this again")
}

// reasonCode is the code of an error's first reason; "" if it has none.
func reasonCode(err error) string {
	if reasons := report.ReasonsOf(err); len(reasons) > 0 {
		return reasons[0].Code
	}
	return ""
}
