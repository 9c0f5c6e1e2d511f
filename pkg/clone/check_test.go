package clone

import (
	"errors"
	"testing"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

func TestNotRunning(t *testing.T) {
	absent := report.Fail(report.Failed, "not-assembled", "array root is not assembled").Hint("mdadm --assemble")
	of := func(array byte, recorded bool) Facts {
		f := Facts{ArrayUUID: md.UUID{1}, DriveName: "vdc", Drive: member(2, 0xc, 50), Recorded: recorded}
		f.Drive.Super.Array = md.UUID{array}
		return f
	}
	none := report.Fail(report.Usage, "no-such-array", "none")
	for _, test := range []struct {
		name         string
		f            Facts
		known, named bool
		err          error
		state        State // "" for no verdict
		code         string
	}{
		{"its clone", of(1, true), true, true, absent, Unsuitable, "not-assembled"},
		{"its clone, the kernel is too old", of(1, true), true, false, report.Fail(report.Failed, "kernel-too-old", "x"), Unsuitable, "kernel-too-old"},
		{"no clone of it", of(1, false), true, true, absent, Foreign, "not-recorded"},
		{"of another array", of(2, false), true, true, absent, Foreign, "other-array"},
		{"no superblock", Facts{ArrayUUID: md.UUID{1}, DriveErr: md.ErrNoSuperblock}, true, true, absent, Foreign, "no-superblock"},
		{"of an array that nobody knows", of(9, false), false, false, none, Foreign, "no-such-array"},
		{"an array of old metadata", of(1, false), false, true, report.Fail(report.Refused, "old-metadata", "x"), Unsuitable, "old-metadata"},
		{"an array that is named and is none", of(1, false), false, true, none, "", ""},
		{"a bad configuration", of(1, false), true, false, report.Fail(report.Usage, "configuration", "x"), "", ""},
		{"a plain error", of(1, false), true, false, errors.New("x"), "", ""},
	} {
		v, ok := notRunning(test.f, test.known, test.named, test.err)
		if ok != (test.state != "") || v.State != test.state || v.code() != test.code || v.Admit {
			t.Errorf("%s: notRunning() = %+v, %v; want %q, %s", test.name, v, ok, test.state, test.code)
		}
	}
}
