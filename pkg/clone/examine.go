package clone

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// What adopt looks at before it changes anything.

func refused(v Verdict) error {
	return &report.Error{Exit: report.Refused, Reasons: v.Reasons, Hints: v.Hints}
}

// examine refuses what must not be adopted. Nothing is changed.
func (a *adoption) examine(path string) error {
	var err error
	if a.drive, err = a.env.readDrive(path); err != nil {
		return report.Fail(report.Usage, "no-such-drive", "%w", err)
	}
	if a.seq, err = a.env.diskSeq(a.drive.Name); err != nil {
		return err
	}
	if a.facts, err = a.Facts(a.drive); err != nil {
		return err
	}
	if a.env.EarlyBoot() {
		return report.Fail(report.Refused, "unrecorded", "a clone that is adopted here could not be recorded in the machine").
			Hint("adopt it in the running system")
	}
	f := a.facts
	if a.drive.Member != nil {
		a.result.Clone = a.drive.Member.Super.Device
	}
	for _, r := range []rule{otherLevel, inactiveArray, noPrimary, otherArray, suspendedArray, unfitArray, unfitDevice, tooSmallRequests, twoDrives} {
		if v, ok := r(f); ok {
			return refused(v)
		}
	}
	if v, ok := tooSmall(f, f.Primaries[0].Super.DataOffset); ok {
		return refused(v)
	}
	if a.called, err = a.name(); err != nil {
		return err
	}
	if a.attached() {
		return a.examineMember()
	}
	if f.Array.SyncAction != "idle" {
		return report.Fail(report.Refused, "busy", "%s is busy: sync_action is %s", a.Array.Name, f.Array.SyncAction)
	}
	if err := errors.Join(a.examineSlots(), a.examineBitmap()); err != nil {
		return err
	}
	if f.Drive != nil && f.Drive.Super.Array == f.Primaries[0].Super.Array {
		if v, ok := aheadOfArray(f); ok {
			return refused(v)
		}
	}
	return a.examineContents()
}

// unfitArray is an array that cannot have a clone.
func unfitArray(f Facts) (Verdict, bool) {
	for _, m := range f.Primaries {
		if bits := m.Super.Features & unfitFeatures; bits != 0 {
			return refuse(Unsuitable, "unfit-features", "%s has the features %#x, which are not supported", f.ArrayName, bits), true
		}
		if m.BitmapErr != nil {
			return refuse(Unsuitable, "bad-bitmap", "%s: %v", f.ArrayName, m.BitmapErr), true
		}
	}
	for _, m := range f.Array.Members {
		if strings.HasPrefix(m.Name, "md") {
			return nested(m.Name), true
		}
		// also where it had a write error (drivers/md/raid1.c, raid1_end_write_request, Linux 6.12)
		if m.Has("want_replacement") {
			return refuse(Unsuitable, "want-replacement", "md wants to replace %s, and would put the clone in its place", m.Name).
				hint("replace it first: mdadm /dev/%s --add /dev/NEW; if it is good: echo -want_replacement > /sys/block/%[1]s/md/dev-%s/state",
					f.ArrayName, m.Name), true
		}
	}
	for _, m := range f.Array.Members {
		if m.Failed() && m.Name != f.DriveName { // its slot reads as empty
			return refuse(Unsuitable, "failed-member", "%s has failed, and is in %s still: the clone could take its slot", m.Name, f.ArrayName).
				hint("replace it first: mdadm /dev/%s --remove failed; mdadm /dev/%[1]s --add /dev/NEW", f.ArrayName), true
		}
	}
	return takenBySpare(f.ArrayName, f.DriveName, f.Array)
}

// nested is an array as a member, whose own members come first at boot, when nobody knows of what is on them.
func nested(name string) Verdict {
	return refuse(Unsuitable, "nested", "%s is an array itself: a boot could not tell which members of one on it are missing", name).
		hint("a clone and its array need disks or partitions of their own")
}

// examineMember lets a rerun go on with the drive that an earlier run has put in already, and with no other: a member
// that is recorded as a clone is one that backup and detach take out.
func (a *adoption) examineMember() error {
	if a.ownCopy() {
		return nil
	}
	err := report.Fail(report.Refused, "member", "%s is in %s already", a.drive.Name, a.Array.Name)
	if a.facts.Attached.Spare() {
		return err.Hint("a spare becomes the clone with: mdclone-early adopt --overwrite %s %s", a.Array.Path(), a.drive.Path)
	}
	if a.facts.Recorded {
		return err.Hint("it is its clone already: mdclone-early detach takes it out")
	}
	return err.Hint("a clone is a drive of its own: adopt another, or one that you have taken out of the array")
}

// ownCopy tells whether an earlier adopt of this drive began its first copy and has not finished it.
func (a *adoption) ownCopy() bool {
	return a.facts.Recorded && a.facts.Ledger != nil && !a.facts.Ledger.FirstCopy
}

// examineSlots refuses an array with an empty slot that another drive needs. The clone takes a new slot at the end, or
// the one empty slot if that is the last and no other clone's.
func (a *adoption) examineSlots() error {
	empty := a.facts.Array.EmptySlots()
	switch {
	case len(empty) == 0:
		return nil
	case len(empty) == 1 && empty[0] == a.facts.Array.RaidDisks-1 && a.facts.AwayClones == 0:
		a.env.Log.Infof("the last slot of %s, %d, is empty: the clone takes it", a.Array.Name, empty[0])
		return nil
	}
	return report.Fail(report.Refused, "degraded", "%s has the slots %v empty: the new clone could take one that another "+
		"drive needs", a.Array.Name, empty).Hint("replace what failed, plug in all other clones, then: mdclone-early attach, and adopt; the line of a clone that does "+
		"not exist any more is to go from /etc/mdclone/%s.conf", a.Conf.Name)
}

// examineContents refuses a drive that carries anything, unless the user says that it may be overwritten, or it is a
// clone whose first copy was cut.
func (a *adoption) examineContents() error {
	if a.opts.Overwrite {
		return nil
	}
	f := a.facts
	unfinished := f.Drive != nil && (f.Drive.Super.Slot() < 0 || f.Drive.Super.Features&md.FeatureRecoveryOffset != 0)
	if a.ownCopy() && unfinished {
		return nil
	}
	what, err := a.env.signature(a.drive)
	if err != nil || what == "" {
		return err
	}
	return report.Fail(report.Refused, "signature", "%s carries something: %s", a.drive.Name, what).
		Hint("everything on it is lost with: mdclone-early adopt --overwrite %s %s", a.Array.Path(), a.drive.Path)
}

// signature says what a drive carries, or "" for nothing: md metadata by our own eyes, the rest by blkid.
func (e *Env) signature(d Drive) (string, error) {
	if d.Member != nil {
		return fmt.Sprintf("it is a member of array %s (%s)", d.Member.Super.Array, d.Member.Super.ArrayName), nil
	}
	if !errors.Is(d.Err, md.ErrNoSuperblock) {
		return d.Err.Error(), nil
	}
	out, err := e.Run(context.Background(), "blkid", "-p", "-o", "export", d.Path)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return blkidSignature(out), nil
	case errors.As(err, &exit) && exit.ExitCode() == 2: // nothing found (blkid(8))
		return "", nil
	case errors.As(err, &exit) && exit.ExitCode() == 8:
		return "several signatures", nil
	}
	return "", fmt.Errorf("blkid -p %s: %w: %s", d.Path, err, out)
}

// blkidSignature picks what is on a device from blkid's export format; where the device itself lies in a partition table
// (PART_ENTRY_*) is none of it.
func blkidSignature(export string) string {
	var found []string
	for _, line := range strings.Split(export, "\n") {
		key, _, _ := strings.Cut(line, "=")
		if slices.Contains([]string{"TYPE", "PTTYPE", "LABEL", "UUID", "USAGE"}, key) {
			found = append(found, line)
		}
	}
	return strings.Join(found, " ")
}

// examineBitmap refuses to change a bitmap that other clones rest on, and to begin without the program that would.
func (a *adoption) examineBitmap() error {
	if _, err := exec.LookPath("mdadm"); err != nil {
		return report.Fail(report.Failed, "no-mdadm", "adopt needs mdadm: %w", err)
	}
	old := a.facts.Primaries[0].Bitmap
	if old != nil && a.opts.Chunk != 0 && a.opts.Chunk != uint64(old.ChunkBytes) && a.facts.OtherClones > 0 {
		return report.Fail(report.Refused, "bitmap-in-use", "the bitmap of %s is what its other clones rest on; its chunk size "+
			"cannot be changed", a.Array.Name)
	}
	return nil
}
