package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

// lookAgain is how often the devices are looked at although nothing was announced: that mdadm has put a member into an
// inactive array is not.
const lookAgain = 500 * time.Millisecond

// wait is init-premount.
func (b *Boot) wait(ctx context.Context) error {
	if err := b.mark(premount, ""); err != nil { // first of all: what is next is another stage, whatever becomes of this one
		return err
	}
	err := b.look(ctx)
	if err != nil && b.asked() && !exists(b.file(outcomeFile)) { // nothing that comes later would know why
		err = errors.Join(err, b.conclude(ctx, why(report.Failed, "wait", "%v", err)))
	}
	return errors.Join(err, b.release(ctx))
}

// notCounted gives initramfs-tools its time to look for the root device anew, where some was spent here: it counts from the beginning
// on (init and scripts/local, 0.142), and would give up before what is started only now has led to anything.
func (b *Boot) notCounted(since time.Duration) error {
	const little = 2 * time.Second
	conf := filepath.Join(b.Root, "conf")
	now, err := b.Uptime()
	if err != nil || now-since < little || !exists(conf) {
		return err
	}
	return appendTo(filepath.Join(conf, "param.conf"), fmt.Sprintf("starttime=%d\n", int(now.Seconds())))
}

// look looks until there is nothing to wait for, and then makes the clones that are asked for. Each array's wait has its own
// bound; mostAtAll is one for what nobody thought of.
func (b *Boot) look(ctx context.Context) error {
	const mostAtAll = 15 * time.Minute
	if len(b.confs()) == 0 && !b.held() {
		return nil
	}
	events, err := sysfs.OpenUevents()
	if err != nil {
		return err
	}
	defer events.Close()
	con := openConsoles(b.Root) // before anybody is told to press a key
	defer con.close()
	keys, deaf := b.keys(ctx)
	defer deaf()
	con.keys = keys
	skip := false
	for end := time.Now().Add(mostAtAll); ; {
		pending, err := b.step(ctx, true, skip)
		if err != nil { // of one array, or of one look; the others are still waited for
			b.failed(err)
		}
		if !pending || skip || time.Now().After(end) {
			break
		}
		if err := events.Wait(ctx, lookAgain); err != nil {
			return err
		}
		if skip = con.entered(); skip {
			b.Log.Infof("the wait is ended at the console")
		}
	}
	if !b.asked() {
		err := b.settle(ctx)
		if b.held() { // what udev had begun before this stage may have been found doubtful only now
			_, e := b.step(ctx, true, skip)
			err = errors.Join(err, e)
		}
		return errors.Join(err, b.release(ctx))
	}
	if !exists(b.file(cycleBegun)) { // else by a try that was left behind
		b.offline(ctx, events, con)
	}
	return b.release(ctx)
}

// settle lets udev finish with what has been started, so that the next script finds the volumes on it.
func (b *Boot) settle(ctx context.Context) error {
	if out, err := b.Run(ctx, "udevadm", "settle", "--timeout=10"); err != nil {
		return fmt.Errorf("udevadm settle: %w: %s", err, out)
	}
	return nil
}

// block is local-block: it only looks, until the initramfs is about to give up. What is left then of a wait, for what was first
// seen after init-premount, is waited for here. initramfs-tools looks for the root device once more afterwards: it has taken
// the time before.
func (b *Boot) block(ctx context.Context) error {
	var pending bool
	var err error
	for known := -1; len(b.doubts()) > known; { // one that udev found doubtful meanwhile is not to be released unseen
		known = len(b.doubts())
		pending, err = b.step(ctx, true, false)
	}
	if !pending || !b.endOfBlock() || b.asked() {
		return err
	}
	b.stage, b.disks = stageWait, nil // with the patience of that stage
	return errors.Join(err, b.look(ctx))
}

// longAgo is a start of a wait that is over, whatever the patience.
const longAgo = -time.Hour

// timing says whether the primaries of f's array were waited for long enough, and begins the wait where a clone is here.
// now ends it.
func (b *Boot) timing(f *Facts, now bool) error {
	patience, ok := b.patience(f.Conf)
	f.Never = !ok
	clone := slices.ContainsFunc(f.Drives, func(d Drive) bool { return f.Conf.HasClone(d.Super.Device) })
	if !f.Waits || f.Never || !clone {
		return nil
	}
	// on any error the wait is over: better an early boot than none
	f.Late = true
	name := "waiting-" + f.Conf.UUID.Dashed()
	if now { // for the stages that follow too
		return b.mark(name, strconv.FormatInt(int64(longAgo), 10))
	}
	up, err := b.Uptime()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(b.file(name))
	if errors.Is(err, os.ErrNotExist) {
		if err = b.mark(name, strconv.FormatInt(int64(up), 10)); err == nil {
			f.Late = patience == 0
		}
		return err
	}
	if err != nil {
		return err
	}
	since, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err == nil {
		f.Late = up-time.Duration(since) >= patience
	}
	return err
}

// endOfBlock tells, in local-block, whether the initramfs is about to give up. initramfs-tools waits max(30, rootdelay) seconds
// from starttime on, and starts what it has after two thirds of that (scripts/local, scripts/local-block/mdadm, 0.142);
// dracut does so after two thirds of RDRETRY looks (dracut-initqueue.sh and, without systemd, init.sh, 106).
func (b *Boot) endOfBlock() bool {
	number := func(name string) (int, bool) {
		n, err := strconv.Atoi(os.Getenv(name))
		return n, err == nil
	}
	if looks, ok := number("main_loop"); ok {
		most, ok := number("RDRETRY")
		return ok && looks >= most*2/3
	}
	start, ok := number("starttime")
	if !ok {
		return false
	}
	slumber := 30
	if delay, ok := number("ROOTDELAY"); ok && delay > slumber {
		slumber = delay
	}
	up, err := b.Uptime()
	return err == nil && up >= time.Duration(start+slumber*2/3)*time.Second
}
