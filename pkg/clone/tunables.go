package clone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

// tunable is one attribute of an array's md directory that is changed for the time of a command.
type tunable struct {
	Attr string `json:"attr"`
	Was  string `json:"was"`
	Set  string `json:"set"`
}

// tunables is what is changed on one array now. It is written down before the attribute is touched, in /run and in
// /var/lib: time_base lives in the bitmap's superblock and outlasts a power cut.
type tunables struct {
	Array   md.UUID   `json:"array"`
	Boot    string    `json:"boot"` // random(4), boot_id
	Changed []tunable `json:"changed"`
}

func (e *Env) tunablesPaths(u md.UUID) []string {
	name := config.TunablesPrefix + u.Hex() + ".json"
	return []string{filepath.Join(e.VarDir(), name), filepath.Join(e.RunDir(), name)}
}

// recordTunables writes the record down; in an initramfs only in /run, for its /var/lib is lost.
func (e *Env) recordTunables(t tunables) error {
	t.Boot = e.bootID()
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	paths := e.tunablesPaths(t.Array)
	if e.EarlyBoot() {
		paths = paths[1:]
	}
	kept := 0
	for _, p := range paths {
		if e := writeDurably(p, append(text, '\n')); e != nil {
			err = errors.Join(err, e)
			continue
		}
		kept++
	}
	if err != nil && (kept == 0 || slices.ContainsFunc(t.Changed, isTick)) {
		return fmt.Errorf("record what is about to be changed: %w", err)
	}
	return nil
}

// timeBaseAttr is the one attribute that outlasts a reboot.
const timeBaseAttr = "bitmap/time_base"

// setting reads an attribute as it would be written: "200000 (system)" is "system", "1000 (local)" is "1000".
func setting(text string) string {
	value, source, _ := strings.Cut(text, " ")
	if source == "(system)" {
		return "system"
	}
	return value
}

// tune changes an md attribute until untune.
func (t *Target) tune(attr, value string) error {
	text, err := t.Array.Read(attr)
	if err != nil {
		return err
	}
	was := setting(text)
	if was == value {
		return nil
	}
	if attr == "array_state" {
		was = "active" // what it reads (write-pending, active-idle) cannot always be written
	}
	if c := (tunable{attr, was, value}); !slices.Contains(t.changed, c) { // else it was tried a moment ago
		now := tunables{Array: t.Conf.UUID, Changed: append(t.changed, c)}
		if err := t.env.recordTunables(now); err != nil {
			return err
		}
		t.changed = now.Changed
	}
	return t.Array.Write(value, attr)
}

// Sync speeds in KiB/s while a clone is copied to. md's own limits keep a mirror's rebuild out of the way of everything
// else; a clone that is waited for may take more.
const (
	syncSpeedMin = "50000"
	syncSpeedMax = "10000000"
)

// hurry changes what makes the cycle slow for the time that it runs. Where that cannot be recorded, or put back if we died, it is
// not changed, and the cycle takes longer.
func (s *session) hurry() {
	wanted := []tunable{{Attr: "sync_speed_max", Set: syncSpeedMax}, {Attr: "sync_speed_min", Set: syncSpeedMin}}
	if !s.offline && !s.env.EarlyBoot() { // where nothing would remember it after a power cut
		// never below 1: it is stored in whole seconds, and an array with 0 does not start
		wanted = append(wanted, tunable{Attr: timeBaseAttr, Set: "1"})
	}
	if s.restorer == nil {
		var err error
		if s.restorer, err = startGuard("restore", s.Conf.UUID.String()); err != nil {
			s.env.Log.Warnf("the cycle takes longer: %v", err)
			return
		}
	}
	for _, w := range wanted {
		if err := s.tune(w.Attr, w.Set); err != nil {
			s.env.Log.Warnf("%s is left as it is, the cycle takes longer: %v", w.Attr, err)
		}
	}
}

// forget drops an attribute from the record that is back at what it was.
func (t *Target) forget(attr string) error {
	t.changed = slices.DeleteFunc(t.changed, func(c tunable) bool { return c.Attr == attr })
	left := tunables{Array: t.Conf.UUID, Changed: t.changed}
	if len(t.changed) == 0 {
		return t.env.putBack(t.Array, left) // there is no record then
	}
	return t.env.recordTunables(left)
}

// untune puts back what tune changed.
func (t *Target) untune() error {
	var err error
	if len(t.changed) > 0 {
		err = t.env.putBack(t.Array, tunables{Array: t.Conf.UUID, Changed: t.changed})
		t.changed = nil
	}
	if e := endGuard(&t.restorer, true); e != nil { // it has nothing to do any more
		t.env.Log.Warnf("%v", e)
	}
	return errors.Join(err, endGuard(&t.guard, err == nil))
}

// thaw makes an array that was tuned to be read-only writable again.
func (t *Target) thaw() error {
	i := slices.IndexFunc(t.changed, func(c tunable) bool { return c.Attr == "array_state" })
	if i < 0 {
		return nil
	}
	if err := t.Array.Write(t.changed[i].Was, "array_state"); err != nil {
		return err
	}
	return endGuard(&t.guard, true)
}

// endGuard ends the process that would put something back if we died, if there is one, and has it do so now if that is not done. Once it
// is, somebody else may change the same.
func endGuard(which **guard, done bool) error {
	g := *which
	*which = nil
	switch {
	case g == nil:
		return nil
	case done:
		return g.dismiss()
	}
	return g.end()
}

// putBack restores each attribute that still has the value we gave it, and forgets the record once all are restored.
func (e *Env) putBack(a md.Array, t tunables) error {
	var errs []error
	for i := len(t.Changed) - 1; i >= 0; i-- {
		c := t.Changed[i]
		text, err := a.Read(c.Attr)
		if err == nil && sameSetting(text, c.Set) {
			err = a.Write(c.Was, c.Attr)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("put back %s of %s: %w", c.Attr, a.Name, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	paths := e.tunablesPaths(t.Array)
	if i := slices.IndexFunc(t.Changed, isTick); i >= 0 && !e.EarlyBoot() && !tickOnDisk(a, t.Changed[i].Was) {
		// a power cut would bring the changed one back, so it is remembered until then
		if err := e.recordTunables(tunables{Array: t.Array, Changed: t.Changed[i : i+1]}); err != nil {
			return err
		}
		paths = paths[1:]
	}
	for _, p := range paths {
		if err := removeDurably(p); err != nil && !errors.Is(err, fs.ErrPermission) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func isTick(c tunable) bool { return c.Attr == timeBaseAttr }

// tickOnDisk tells whether the tick that was is on every member's disk too. md writes it there with the bitmap's
// superblock, whenever that is next.
func tickOnDisk(a md.Array, was string) bool {
	s, err := a.State()
	if err != nil {
		return false
	}
	for _, m := range s.Members {
		on, err := md.ReadDevice(md.NodePath(m.Name))
		if err != nil || on.Bitmap != nil && !sameSetting(was, strconv.FormatUint(uint64(on.Bitmap.DaemonSleep), 10)) {
			return false
		}
	}
	return true
}

// sameSetting tells whether an attribute still reads as what was set, "1" being "1.000" too.
func sameSetting(text, set string) bool {
	got := setting(text)
	return got == set || strings.TrimRight(strings.TrimRight(got, "0"), ".") == set && strings.Contains(got, ".")
}

// Restore puts back what a run that was killed, or cut off with the power, left changed. Every command begins with it.
// An array that another process works on is left to that process.
func (e *Env) Restore() error {
	var files []string
	for _, dir := range []string{e.VarDir(), e.RunDir()} {
		found, err := filepath.Glob(filepath.Join(dir, config.TunablesPrefix+"*.json"))
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil
	}
	arrays, err := e.running()
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range files {
		text, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the same record in the other directory was restored just now
		}
		var t tunables
		if err == nil {
			t, err = decodeTunables(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f, err))
			continue
		}
		if a, ok := arrays[t.Array]; ok {
			errs = append(errs, e.restoreOne(a, t))
		}
	}
	return errors.Join(errs...)
}

// decodeTunables reads a record. What it names is written to, so it may name nothing outside of md's directory.
func decodeTunables(text []byte) (tunables, error) {
	var t tunables
	if err := json.Unmarshal(text, &t); err != nil {
		return tunables{}, err
	}
	for _, c := range t.Changed {
		if !filepath.IsLocal(c.Attr) {
			return tunables{}, fmt.Errorf("%q is no attribute of an array", c.Attr)
		}
	}
	return t, nil
}

// ofThisBoot is what of a record may still be so: the rest went with the power, and what reads like it is somebody else's.
func (e *Env) ofThisBoot(t tunables) tunables {
	if t.Boot == "" || t.Boot != e.bootID() {
		t.Changed = slices.DeleteFunc(slices.Clone(t.Changed), func(c tunable) bool { return !isTick(c) })
	}
	return t
}

// bootID is the running kernel's own, "" if it has none.
func (e *Env) bootID() string {
	text, err := os.ReadFile(filepath.Join(e.Root, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// restoreAfter is Restore of one array after the death of the process that worked on it, whose lock goes in that moment, and whose
// other guards end what it was doing. Another one that has the lock has begun with that.
func (e *Env) restoreAfter(array md.UUID) error {
	arrays, err := e.running()
	if err != nil {
		return err
	}
	a, runs := arrays[array]
	for turn := 0; runs && turn < lockTurns; turn++ {
		unlock, ok, err := e.lockBriefly(array)
		if err != nil {
			return err
		}
		if ok {
			defer unlock()
			return e.restoreLocked(a, array, true)
		}
		time.Sleep(lockTick)
	}
	return nil
}

// restoreLocked is Restore of one array whose lock is held. guarded tells that what would hang the machine has guards of its own,
// which undo more than is recorded, and are waited for.
func (e *Env) restoreLocked(a md.Array, array md.UUID, guarded bool) error {
	var errs []error
	for _, path := range e.tunablesPaths(array) {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var t tunables
		if err == nil {
			t, err = decodeTunables(text)
		}
		theirs := tunables{Changed: slices.DeleteFunc(slices.Clone(t.Changed), func(c tunable) bool {
			return c.Attr != "sync_action" && c.Attr != "array_state"
		})}
		for turn := 0; guarded && turn < lockTurns && e.isChanged(a, theirs); turn++ {
			time.Sleep(lockTick)
		}
		if err == nil {
			err = e.undo(a, t)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (e *Env) restoreOne(a md.Array, t tunables) error {
	unlock, ok, err := e.lockBriefly(t.Array)
	if err != nil || !ok {
		return err
	}
	defer unlock()
	return e.undo(a, t)
}

func (e *Env) undo(a md.Array, t tunables) error {
	t = e.ofThisBoot(t)
	if e.isChanged(a, t) {
		e.Log.Infof("%s: putting back what an earlier run left changed", a.Name)
	}
	return e.putBack(a, t)
}

// isChanged tells whether anything still has the value that a run gave it.
func (e *Env) isChanged(a md.Array, t tunables) bool {
	return slices.ContainsFunc(t.Changed, func(c tunable) bool {
		text, err := a.Read(c.Attr)
		return err == nil && sameSetting(text, c.Set)
	})
}
