package clone

import (
	"errors"
	"io/fs"
	"slices"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Checked is the verdict on one drive.
type Checked struct {
	Array   string // its name; "" where the drive tells of none
	Kernel  string // its kernel name; "" if it does not run
	Drive   Drive
	Verdict Verdict
}

// Check is the verdict on one drive, without changing anything. array "" is the one that the drive names.
func (e *Env) Check(array, path string) (*Checked, error) {
	d, err := e.readDrive(path)
	switch {
	case err != nil:
		return nil, report.Fail(report.Usage, "no-such-drive", "%w", err)
	case errors.Is(d.Err, fs.ErrPermission):
		return nil, report.Fail(report.Failed, "not-readable", "%w", d.Err)
	}
	out := &Checked{Drive: d}
	out.Verdict, err = e.checkFor(array, out)
	return out, err
}

// checkFor fills in the array too.
func (e *Env) checkFor(array string, out *Checked) (Verdict, error) {
	d, which := out.Drive, array
	f := Facts{DriveName: d.Name, Drive: d.Member, DriveErr: d.Err}
	switch {
	case array != "":
	case d.Member == nil:
		v, _ := foreignDrive(f)
		return v, nil
	default:
		which = d.Member.Super.Array.String()
	}
	targets, err := e.Targets(which)
	if err == nil {
		t := targets[0]
		out.Array, out.Kernel = t.Conf.Name, t.Array.Name
		return t.check(d)
	}
	confs, _ := config.LoadEach(e.Root) // what is wrong with it is err
	c, known := confOf(which, confs)
	if known {
		out.Array, f.ArrayUUID = c.Name, c.UUID
		f.Recorded = d.Member != nil && c.HasClone(d.Member.Super.Device)
	}
	v, ok := notRunning(f, known, array != "", err)
	if ok {
		err = nil
	}
	return v, err
}

// notRunning is the verdict on a drive whose array does not run: known tells whether it is configured, named whether the user
// did not leave it to the drive to name it. Any other error is no verdict.
func notRunning(f Facts, known, named bool, err error) (Verdict, bool) {
	var why *report.Error
	if !errors.As(err, &why) {
		return Verdict{}, false
	}
	switch code := reasonCode(why); {
	case slices.Contains([]string{"not-assembled", "kernel-too-old"}, code) && known:
		if v, foreign := foreignDrive(f); foreign {
			return v, true
		}
	case code == "old-metadata":
	case code == "no-such-array" && !named:
		return refuse(Foreign, code, "%s belongs to array %s, which neither runs nor is configured", f.DriveName, f.Drive.Super.Array).
			hint("is it the right drive? mdclone-early status names the clones; an array is assembled from its own disks first"), true
	default:
		return Verdict{}, false
	}
	return Verdict{State: Unsuitable, Reasons: why.Reasons, Hints: why.Hints}, true
}

func (t *Target) check(d Drive) (Verdict, error) {
	f, err := t.Facts(d)
	if err != nil {
		return Verdict{}, err
	}
	if len(t.Conf.Clones) == 0 && d.Member != nil {
		if !f.looksLikeClone() {
			t.env.Log.Warnf("%s is not write-mostly, as a clone is: one of the array's own disks? A backup takes it only once it is recorded",
				d.Name)
		}
		f.Recorded = true // nothing is recorded, and the question is what the bitmaps say of it
	}
	return t.advise(Judge(f), d), nil
}

// InUse says what uses the whole drive that a device is, or is part of: until that is nothing it must not be unplugged.
func (e *Env) InUse(path string) ([]string, error) {
	name, err := md.KernelName(e.FS, path)
	if err != nil {
		return nil, err
	}
	users, err := e.users(e.FS.DiskOf(name))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, u := range users {
		out = append(out, u.String())
	}
	return out, nil
}
