package clone

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Settling is waiting until the bitmap on disk says of what was copied that it is in sync, so that the next cycle does
// not copy it once more. The bitmap of a busy array is never all clear, so it is not waited for: each copied chunk must
// have been seen clear once, or must have been written again.

const (
	settlePoll  = 100 * time.Millisecond // the bitmap's contents are not announced
	settleBound = 30 * time.Second       // in all
	settleQuiet = 3                      // times the stall: nothing was written, and still no bit is cleared
)

// settleWatch follows the bitmap on disk. It is pure: what is seen is fed in.
type settleWatch struct {
	pending  md.Chunks // copied, not yet seen clear
	clear    md.Chunks // seen clear, and not dirty again since
	stall    time.Duration
	progress time.Time // when pending last shrank
}

// newSettleWatch begins at now. A bit is cleared two to three ticks after its last write (md-bitmap.c,
// md_bitmap_daemon_work, Linux 6.12), so without any progress for stall, which is more than that, bits stay for a reason.
func newSettleWatch(copied md.Chunks, now time.Time, timeBase time.Duration) *settleWatch {
	return &settleWatch{pending: copied, clear: md.NewChunks(copied.Len()), stall: 3*timeBase + 2*time.Second, progress: now}
}

// see takes the bitmap as it is on disk now. written says whether the array was written since the sync.
func (w *settleWatch) see(dirty md.Chunks, now time.Time, written bool) (settled bool) {
	seen := w.pending.Minus(dirty)
	if seen.Count() > 0 {
		w.progress = now
	}
	w.clear = w.clear.Or(seen).Minus(dirty)
	w.pending = w.pending.And(dirty)
	stalled := now.Sub(w.progress)
	// what was written while a slot was empty and the copy had passed it already is cleared by the next sync only
	return w.pending.Count() == 0 || written && stalled > w.stall || stalled > settleQuiet*w.stall
}

// settle touches the array so that Events Cleared passes the clone, and brings the bitmap to rest, in the way that suits
// an array in use or not. copied is what should be in sync on disk then.
func (s *session) settle(ctx context.Context, copied md.Chunks) (rest, error) {
	start := s.env.Now()
	defer func() { s.result.Seconds.Settle = s.since(start) }()
	if err := s.choosePeer(); err != nil {
		return rest{}, err
	}
	need, err := s.touchBefore(ctx)
	if err != nil {
		return rest{}, err
	}
	if s.offline {
		frozen, err := s.settleOffline(ctx)
		if err != nil {
			return rest{}, err
		}
		if frozen {
			return rest{copied, true}, s.clearedNow(need)
		}
		s.env.Log.Warnf("somebody has %s open, so the bitmap is waited for", s.Array.Name)
	}
	state, err := s.Array.State()
	if err != nil {
		return rest{}, err
	}
	clear := copied
	if len(state.EmptySlots()) == 0 { // with a slot empty no bit is ever cleared
		if clear, err = s.settleOnline(ctx, copied, need); err != nil {
			return rest{}, err
		}
	}
	if left := copied.Minus(clear); left.Count() > 0 {
		s.env.Log.Infof("chunks of what was copied that are still, or again, marked changed: %d (%s); the next cycle copies them once more",
			left.Count(), report.Bytes(s.bitmap.Bytes(left)))
	}
	return rest{clear, false}, nil
}

// touchBefore touches the array while the clone is in it, and returns the Events Cleared that this must lead to; 0 where
// it cannot move (a slot is empty) or nothing may be touched.
func (s *session) touchBefore(ctx context.Context) (uint64, error) {
	state, err := s.Array.State()
	if err != nil {
		return 0, err
	}
	if len(state.EmptySlots()) > 0 {
		return 0, nil
	}
	// not up to the array's events of this moment: going clean takes the last one back, and Events Cleared with it
	// (md-bitmap.c, md_bitmap_update_sb, "rocking back to read-only", Linux 6.12)
	need := s.before + 1
	if _, err := s.touch(ctx); err != nil {
		s.env.Log.Warnf("%v; what is copied later rests on the ledger alone", err)
		return 0, nil
	}
	return need, nil
}

// clearedNow says so if Events Cleared did not move although the array is at rest.
func (s *session) clearedNow(need uint64) error {
	moved, err := s.cleared(need)
	s.moved = need != 0 && moved
	if err == nil && !moved {
		s.env.Log.Warnf("%s: Events Cleared did not move past event %d", s.Array.Name, need)
	}
	return err
}

// settleOnline waits for the ticks of the bitmap's daemon, and for Events Cleared to pass need on the clone's own disk;
// need 0 does not. Whatever does not come within the bound is said, not waited for.
func (s *session) settleOnline(ctx context.Context, copied md.Chunks, need uint64) (md.Chunks, error) {
	writes, err := s.arrayWrites()
	if err != nil {
		return md.Chunks{}, err
	}
	start := s.env.Now()
	w := newSettleWatch(copied, start, s.timeBase())
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for {
		m, err := md.ReadDevice(md.NodePath(s.peer))
		if err != nil {
			return md.Chunks{}, err
		}
		if m.Bitmap == nil {
			return md.Chunks{}, fmt.Errorf("%s: the bitmap is gone: %w", s.peer, errors.Join(m.BitmapErr))
		}
		now, err := s.arrayWrites()
		if err != nil {
			return md.Chunks{}, err
		}
		settled := w.see(m.Bitmap.Dirty, s.env.Now(), now != writes)
		moved, err := s.cleared(need)
		if err != nil {
			return md.Chunks{}, err
		}
		s.moved = s.moved || need != 0 && moved
		if settled && moved {
			return w.clear, nil
		}
		if s.env.Now().Sub(start) > settleBound {
			return w.clear, nil
		}
		select {
		case <-ctx.Done():
			return md.Chunks{}, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// cleared tells whether Events Cleared has reached need on every primary's disk and is the same on the clone's.
func (s *session) cleared(need uint64) (bool, error) {
	if need == 0 {
		return true, nil
	}
	primary, err := s.readPrimaries()
	if err != nil {
		return false, err
	}
	if primary.Bitmap.EventsCleared < need {
		return false, nil
	}
	c, err := md.ReadDevice(s.drive.Path)
	if err != nil || c.Bitmap == nil {
		return false, err
	}
	return c.Bitmap.EventsCleared == primary.Bitmap.EventsCleared, nil
}

// settleOffline makes the array read-only, which flushes the bitmap at once and lets nobody write while the copy is
// compared. Superblocks are not written meanwhile. It returns false if somebody has the array open.
func (s *session) settleOffline(ctx context.Context) (bool, error) {
	if s.guard == nil { // else another touch, or a clone that has failed since, led here
		g, err := startGuard("write", s.env.FS.Path(s.Array.Attr("array_state")), "active")
		if err != nil {
			return false, err
		}
		s.guard = g
	}
	signal.Ignore(syscall.SIGTSTP) // a stop would keep it read-only
	frozen, err := s.makeReadOnly(ctx)
	if !frozen {
		signal.Reset(syscall.SIGTSTP)
		err = errors.Join(err, endGuard(&s.guard, true))
	}
	return frozen, err
}

// alone tells whether nobody has the array open, claimed or not: md makes no other one read-only (drivers/md/md.c,
// md_set_readonly, Linux 6.12). It is writable again afterwards. Under a sync, which md would interrupt, it cannot be told.
func (s *session) alone(ctx context.Context) (bool, error) {
	state, err := s.Array.State()
	if err == nil && state.SyncAction != "frozen" { // nothing is interrupted there
		state, err = s.awaitIdle(ctx, state, closedAtMost)
	}
	if err != nil {
		return false, err
	}
	if state.SyncAction != "idle" && state.SyncAction != "frozen" {
		return false, fmt.Errorf("%s: sync_action is %s, and whether somebody has it open cannot be told", s.Array.Name, state.SyncAction)
	}
	frozen, err := s.settleOffline(ctx)
	if err != nil || !frozen {
		return false, err
	}
	if err = s.Array.Write("active", "array_state"); err != nil {
		return false, err
	}
	signal.Reset(syscall.SIGTSTP)
	return true, s.forget("array_state")
}

// needAlone refuses a cycle that is to be offline where somebody has the array open.
func (s *session) needAlone(ctx context.Context) error {
	if !s.opts.Offline {
		return nil
	}
	alone, err := s.alone(ctx)
	if err != nil || alone {
		return err
	}
	users, err := s.env.users(s.Array.Name)
	return errors.Join(err, notOffline(s.Array.Name, users))
}

// wasOffline is the error of a cycle that was to be offline and was not: somebody has opened the array in the middle of it.
func (s *session) wasOffline() error {
	if !s.opts.Offline || s.resting {
		return nil
	}
	return report.Fail(report.Failed, "in-use", "somebody has opened %s meanwhile: the clone is what a power cut would have left", s.Array.Name)
}

// closedAtMost is how long udev, which opens the array for a moment after each close of a writer, is waited for; several times
// longer where nothing else will do.
const closedAtMost = 5 * time.Second

func (s *session) makeReadOnly(ctx context.Context) (bool, error) {
	bound := closedAtMost
	if s.opts.Offline {
		bound *= 6
	}
	for end := s.env.Now().Add(bound); ; {
		err := s.tune("array_state", "readonly")
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return false, err
		}
		if s.env.Now().After(end) {
			return false, s.forget("array_state")
		}
		select {
		case <-ctx.Done():
			return false, errors.Join(context.Cause(ctx), s.forget("array_state"))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// arrayWrites is the number of writes that the array has taken (Documentation/block/stat.rst, field 5).
func (s *session) arrayWrites() (uint64, error) {
	text, err := s.env.FS.Read("block", s.Array.Name, "stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(text)
	if len(fields) < 5 {
		return 0, fmt.Errorf("%s: stat %q has too few fields", s.Array.Name, text)
	}
	return strconv.ParseUint(fields[4], 10, 64)
}

// timeBase is the bitmap daemon's tick.
func (s *session) timeBase() time.Duration {
	const byDefault = 5 * time.Second
	text, err := s.Array.Read(timeBaseAttr)
	if err != nil {
		return byDefault
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || seconds < 1 {
		return byDefault
	}
	return time.Duration(seconds * float64(time.Second))
}
