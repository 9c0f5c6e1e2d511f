package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

// Command is the internal command of mdclone-early that udev's rule and the scripts in the initramfs call.
const Command = "boot"

// The stages, which follow Command. hold is the process that holds a clone.
const (
	stageStart  = "start"         // a member of an array has been seen (udev)
	stageWait   = "init-premount" // all devices of the first moment have been seen
	stageBlock  = "local-block"   // again and again, while the root device is missed
	stageBottom = "init-bottom"   // the root file system is there
	stageHold   = "hold"
)

// Boot is the machine at its start.
type Boot struct {
	FS   sysfs.FS
	Root string // "/"
	Log  report.Log
	// Run runs a program and returns what it printed on both streams.
	Run func(ctx context.Context, name string, args ...string) (string, error)
	// Uptime is the time since the start of the kernel, as in /proc/uptime.
	Uptime func() (time.Duration, error)

	stage  string
	params params
	said   map[string]bool // of the log's lines, those that are true for more than one look
}

// New is the running machine.
func New(log report.Log) *Boot {
	return &Boot{
		FS: sysfs.New(), Root: "/", Log: log, said: map[string]bool{},
		Run: func(ctx context.Context, name string, args ...string) (string, error) {
			out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
			return strings.TrimSpace(string(out)), err
		},
		Uptime: func() (time.Duration, error) {
			var t unix.Timespec
			err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
			return time.Duration(t.Nano()), err
		},
	}
}

// Do carries a stage out. With mdclone=off on the kernel's command line it does nothing.
func (b *Boot) Do(ctx context.Context, args []string) error {
	if len(args) > 1 && args[0] == stageHold {
		return b.hold()
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
	early := exists(filepath.Join(b.Root, config.EarlyMark))
	b.stage = args[0]
	switch stage := args[0]; {
	case stage == stageStart && early && !exists(b.file(premount)):
		// init-premount decides, when all devices of the first moment are there: a clone that is the newest copy must not
		// lose against primaries that are seen a moment earlier
		return nil
	case stage == stageStart:
		_, err = b.step(ctx, false, false)
		return err
	case !early:
		return fmt.Errorf("boot %s: only in the initramfs", stage)
	case stage == stageWait:
		return b.wait(ctx)
	case stage == stageBlock:
		_, err = b.step(ctx, true, b.endOfBlock())
		return err
	case stage == stageBottom:
		return b.dropAll()
	}
	return fmt.Errorf("boot: there is no stage %q", args[0])
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

// mark writes a file of state.
func (b *Boot) mark(name, text string) error {
	if err := os.MkdirAll(b.file(), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.file(name), []byte(text), 0o644)
}

// lockedAtMost bounds how long another stage is waited for: a lift, with mdadm, takes longest.
const lockedAtMost = 2 * liftAtMost

// lock lets one stage after the other look and act.
func (b *Boot) lock() (unlock func(), err error) {
	if err := os.MkdirAll(b.file(), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(b.file("boot.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockedAtMost); ; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR), time.Now().After(end):
			_ = f.Close()
			return nil, fmt.Errorf("wait for another stage of the boot: %w", err)
		}
		time.Sleep(20 * time.Millisecond) // a blocking flock has no bound
	}
}

// step looks at all configured arrays once and does what is to be done. pending tells whether waiting makes sense.
func (b *Boot) step(ctx context.Context, waits, late bool) (pending bool, err error) {
	confs, err := config.Load(b.Root)
	if err != nil || len(confs) == 0 {
		return false, err
	}
	unlock, err := b.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	found, unreadable, err := md.Scan(b.FS)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, conf := range confs {
		f, array, err := b.facts(conf, found)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", conf.Name, err))
			continue
		}
		f.Waits = waits
		if err := b.timing(&f, late); err != nil {
			errs = append(errs, err)
		}
		d := Decide(f)
		pending = pending || d.Do == Wait
		if err := b.carryOut(ctx, conf, array, d); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", conf.Name, err))
		}
	}
	if pending {
		for name, err := range unreadable { // one of them may be what is waited for
			b.once("%s is not looked at: %v", name, err)
		}
	}
	return pending, errors.Join(errs...)
}

func (b *Boot) carryOut(ctx context.Context, conf config.Array, array md.Array, d Decision) error {
	var errs []error
	for _, c := range d.Claim {
		errs = append(errs, b.claim(conf, c))
	}
	switch d.Do {
	case Wait:
		if b.stage != stageWait { // the others only look, again and again
			break
		}
		b.once("%s; waiting %s for them; Enter on the console ends that", d.Why, b.waitText(conf))
	case Start, Degraded:
		b.Log.Infof("starting %s (array %s): %s", array.Name, conf.Name, d.Why)
		errs = append(errs, start(array))
	case Lift:
		errs = append(errs, b.lift(ctx, conf, d))
	case Nothing:
		if d.Why != "" && b.stage == stageWait {
			b.once("array %s is not started: %s", conf.Name, d.Why)
		}
	}
	return errors.Join(errs...)
}

// once says what more than one look finds.
func (b *Boot) once(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !b.said[text] {
		b.said[text] = true
		b.Log.Infof("%s", text)
	}
}

// start starts an array that mdadm has put together. read-auto is how mdadm does it: nothing is written until the first
// write (drivers/md/md.c, array_state_store, Linux 6.12).
func start(a md.Array) error {
	if err := a.Write("read-auto", "array_state"); err != nil {
		state, e := a.Read("array_state")
		if e == nil && running(state) { // mdadm was quicker
			return nil
		}
		return err
	}
	return nil
}

// facts reads what the decision on one array rests on.
func (b *Boot) facts(conf config.Array, found []md.Found) (Facts, md.Array, error) {
	f := Facts{Conf: conf, In: map[string]bool{}, Lifted: map[md.UUID]bool{}}
	for _, d := range found {
		if d.Member.Super.Array == conf.UUID {
			f.Drives = append(f.Drives, Drive{d.Name, d.Member.Super})
		}
	}
	for _, u := range conf.Clones {
		f.Lifted[u] = exists(b.file(liftMark + u.Dashed()))
	}
	arrays, err := md.Arrays(b.FS)
	if err != nil {
		return f, md.Array{}, err
	}
	var ours md.Array
	for _, a := range arrays {
		s, err := a.State()
		if errors.Is(err, fs.ErrNotExist) { // stopped this moment
			continue
		}
		if err != nil {
			return f, ours, err
		}
		has := false
		for _, d := range f.Drives {
			_, in := s.Member(d.Name)
			has = has || in
		}
		if !has || running(f.State) {
			continue
		}
		ours, f.State, f.In = a, s.ArrayState, map[string]bool{}
		for _, m := range s.Members {
			f.In[m.Name] = true
		}
	}
	return f, ours, nil
}

// params are the kernel's parameters that count here.
type params struct {
	off  bool
	wait string // of mdclone.wait, "" if it is not given
}

func readParams(root string) (params, error) {
	var p params
	text, err := os.ReadFile(filepath.Join(root, "proc/cmdline"))
	if err != nil {
		return p, err
	}
	for _, word := range strings.Fields(string(text)) {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "mdclone":
			p.off = value == "off"
		case "mdclone.wait":
			p.wait = value
		}
	}
	if p.wait == "" || p.wait == "0" || p.wait == "never" {
		return p, nil
	}
	if _, err := config.ParseBootWait(p.wait); err != nil {
		p.wait = ""
		return p, fmt.Errorf("kernel parameter mdclone.wait: %w", err)
	}
	return p, nil
}

// patience is how long the primaries of an array are waited for; ok is false for never.
func (b *Boot) patience(conf config.Array) (d time.Duration, ok bool) {
	seconds, ok := conf.BootWait.Seconds()
	switch b.params.wait {
	case "":
	case "never":
		ok = false
	default:
		n, err := strconv.Atoi(b.params.wait)
		seconds, ok = n, err == nil
	}
	return time.Duration(seconds) * time.Second, ok
}

func (b *Boot) waitText(conf config.Array) string {
	d, _ := b.patience(conf)
	return fmt.Sprintf("up to %d s", int(d.Seconds()))
}
