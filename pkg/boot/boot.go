package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

// Command is the internal command of mdclone-early that udev's rule and the scripts in the initramfs call.
const Command = "boot"

// The stages, which follow Command. hold is the process that holds a clone; apart comes before a stage in its own process.
const (
	stageStart  = "start"         // a member of an array has been seen (udev)
	stageRuns   = "started"       // an array runs (udev)
	stageWait   = "init-premount" // all devices of the first moment have been seen
	stageBlock  = "local-block"   // again and again, while the root device is missed
	stageBottom = "init-bottom"   // the root file system is there
	stageLifted = "lifted"        // an own disk of an array that was started from a clone has been seen (udev)
	stageHold   = "hold"
	stageApart  = "apart"
)

// The hooks of dracut's that call Command, which are stages under other names.
const (
	hookSettled = "settled"   // init-premount the first time, local-block from then on
	hookPivot   = "pre-pivot" // init-bottom
)

// Report is the stage in which the system runs, and is told what came of all that.
const Report = "report"

// Boot is the machine at its start.
type Boot struct {
	FS   sysfs.FS
	Root string // "/"
	Log  report.Log
	// Run runs a program and returns what it printed on both streams.
	Run func(ctx context.Context, name string, args ...string) (string, error)
	// Uptime is the time since the start of the kernel, as in /proc/uptime.
	Uptime func() (time.Duration, error)
	// Backup makes the clones of all arrays with those options of mdclone-early backup; account is what --json prints.
	Backup func(ctx context.Context, options []string, account, said io.Writer) (report.Code, error)
	Stdout io.Writer
	Self   string // this program, for what runs in a process of its own

	stage  string
	params params
	bounds bounds
	said   map[string]bool  // of the log's lines, those that are true for more than one look
	busy   map[md.UUID]bool // arrays that could not be stopped
	disks  *md.Scanner      // nil before the first look
}

// New is the running machine.
func New(log report.Log) *Boot {
	return &Boot{
		FS: sysfs.New(), Root: "/", Log: log, bounds: usual, said: map[string]bool{}, busy: map[md.UUID]bool{},
		Run: run,
		Uptime: func() (time.Duration, error) {
			var t unix.Timespec
			err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
			return time.Duration(t.Nano()), err
		},
		Backup: backup, Stdout: os.Stdout, Self: "/proc/self/exe",
	}
}

// Do carries a stage out. With mdclone=off on the kernel's command line it does nothing.
func (b *Boot) Do(ctx context.Context, args []string) error {
	if len(args) > 1 && args[0] == stageHold {
		return b.hold()
	}
	if len(args) > 1 && args[0] == stageLifted {
		return b.lifted(args[1])
	}
	apart := len(args) == 2 && args[0] == stageApart
	if apart {
		args = args[1:]
	}
	if len(args) != 1 {
		return errors.New("boot: one stage is wanted")
	}
	var err error
	if b.params, err = readParams(b.Root); err != nil {
		b.Log.Warnf("%v", err)
	}
	if b.params.off {
		return nil
	}
	early := b.early()
	b.stage = b.stageOf(args[0])
	switch stage := b.stage; {
	case stage == stageStart && early && !exists(b.file(premount)):
		// init-premount decides, when all devices of the first moment are there: a clone that is the newest copy must not
		// lose against primaries that are seen a moment earlier
		return nil
	case early && !apart && slices.Contains([]string{stageStart, stageRuns, stageWait, stageBlock, stageBottom}, stage):
		began, unknown := b.Uptime()
		err = b.apart(ctx)
		if stage == stageWait && unknown == nil {
			err = errors.Join(err, b.notCounted(began))
		}
		return err
	case stage == stageStart:
		_, err = b.step(ctx, false, false)
		return err
	case stage == Report:
		return b.tell(b.Stdout)
	case !early:
		return fmt.Errorf("boot %s: only in the initramfs", stage)
	case stage == stageRuns:
		return b.started()
	case stage == stageWait:
		return b.wait(ctx)
	case stage == stageBlock:
		return errors.Join(b.block(ctx), b.release(ctx))
	case stage == stageBottom:
		return errors.Join(b.dropAll(), b.release(ctx))
	}
	return fmt.Errorf("boot: there is no stage %q", args[0])
}

// stageOf translates dracut's names.
func (b *Boot) stageOf(name string) string {
	switch {
	case name == hookSettled && !exists(b.file(premount)):
		return stageWait
	case name == hookSettled:
		return stageBlock
	case name == hookPivot:
		return stageBottom
	}
	return name
}

// premount is the mark that init-premount has begun.
const premount = "premount"

func (b *Boot) file(elem ...string) string {
	return filepath.Join(append([]string{b.Root, config.RunDir}, elem...)...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// early tells whether this is the initramfs.
func (b *Boot) early() bool { return exists(filepath.Join(b.Root, config.EarlyMark)) }

// mark writes a file of state.
func (b *Boot) mark(name, text string) error {
	if err := os.MkdirAll(b.file(), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.file(name), []byte(text), 0o644)
}

// unmark removes a file of state, if it is there.
func (b *Boot) unmark(name string) error {
	err := os.Remove(b.file(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// scanner looks at the disks, and has patience with one that does not answer; less in those stages of the initramfs that look
// again and again, and leave what they miss to init-premount.
func (b *Boot) scanner() *md.Scanner {
	if b.disks == nil {
		patience := md.Patience
		if b.early() && b.stage != stageWait {
			patience = md.Patience / 10
		}
		b.disks = &md.Scanner{FS: b.FS, Patience: patience, Silent: b.silent}
	}
	return b.disks
}

// lockedAtMost bounds how long another stage is waited for: a lift, with mdadm, takes longest.
const lockedAtMost = 4 * liftAtMost

// silent notes a disk that there is no more patience with.
func (b *Boot) silent(disk string) {
	b.once("%s", md.NotLookedAt(disk))
	if b.stage == stageWait {
		if err := b.mark(silentMark+disk, ""); err != nil {
			b.failed(err)
		}
	}
}

// lockFile is locked by the stage that looks and acts, whose process is in lockOwner.
const (
	lockFile  = "boot.lock"
	lockOwner = "boot.lock-owner"
)

// lock lets one stage after the other look and act.
func (b *Boot) lock() (unlock func(), err error) {
	if err := os.MkdirAll(b.file(), 0o755); err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockedAtMost); ; {
		f, err := os.OpenFile(b.file(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && b.isLock(f) {
			if err := b.mark(lockOwner, strconv.Itoa(os.Getpid())); err != nil { // as where /run is full: then it cannot be broken
				b.failed(err)
			}
			return func() { _ = f.Close() }, nil
		}
		_ = f.Close()
		if err == nil {
			err = fmt.Errorf("%s was replaced", lockFile)
		} else if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("wait for another stage of the boot: %w", err)
		}
		time.Sleep(20 * time.Millisecond) // a blocking flock has no bound
	}
}

// isLock tells whether f is the lock still, which is another file once a stage was left behind.
func (b *Boot) isLock(f *os.File) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(b.file(lockFile))
	return err == nil && os.SameFile(ours, now)
}
