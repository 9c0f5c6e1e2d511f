package clone

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Targets finds the arrays that a command works on. which is /dev/mdX, mdX, an md UUID or a configured name; "" means
// every configured array: what is done with one that is not assembled fails, and does not keep the others from it.
func (e *Env) Targets(which string) ([]*Target, error) {
	confs, err := config.Load(e.Root)
	if err != nil {
		return nil, report.Fail(report.Usage, "configuration", "%w", err)
	}
	if which != "" {
		t, err := e.target(which, confs)
		if err != nil {
			return nil, err
		}
		return []*Target{t}, nil
	}
	if len(confs) == 0 {
		return nil, report.Fail(report.Usage, "not-configured", "no array is configured in /etc/mdclone, and none is given").
			Hint("give one (/dev/md0), and its clone with --clone DRIVE; or set one up: mdclone-early adopt ARRAY DRIVE")
	}
	arrays, err := e.running()
	if err != nil {
		return nil, err
	}
	var out []*Target
	for _, c := range confs {
		t := &Target{env: e, Conf: c, Configured: true}
		var ok bool
		if t.Array, ok = arrays[c.UUID]; !ok {
			t.absent = e.notRunning(c)
		}
		out = append(out, t)
	}
	return out, nil
}

func (e *Env) target(which string, confs []config.Array) (*Target, error) {
	for _, c := range confs {
		u, err := md.ParseUUID(which)
		if c.Name != which && (err != nil || u != c.UUID) {
			continue
		}
		if u, _, ok := e.lookUp("/dev/" + which); err != nil && ok && kernelName(which) && u != c.UUID {
			return nil, report.Fail(report.Usage, "ambiguous", "%s is what the kernel calls array %s, and the name of another's configuration", which, u).
				Hint("give /dev/%s, or the UUID", which)
		}
		a, ok := e.find(c.UUID)
		if !ok {
			return nil, e.notRunning(c)
		}
		return &Target{env: e, Array: a, Conf: c, Configured: true}, nil
	}
	u, a, ok := e.lookUp(which)
	if !ok {
		if err := e.whyNot(which); err != nil {
			return nil, err
		}
		return nil, report.Fail(report.Usage, "no-such-array", "%s is no running array and no configured name", which)
	}
	t := &Target{env: e, Array: a, Conf: config.Array{Name: a.Name, UUID: u, Verify: config.VerifyChanged}}
	for _, c := range confs {
		if c.UUID == u {
			t.Conf, t.Configured = c, true
		}
	}
	return t, nil
}

// lookUp finds a running array by UUID, kernel name or node. Of other arrays it reads nothing where it need not: one that does
// not answer is no matter of this one.
func (e *Env) lookUp(which string) (md.UUID, md.Array, bool) {
	if u, err := md.ParseUUID(which); err == nil {
		a, ok := e.find(u)
		return u, a, ok
	}
	name, err := md.KernelName(e.FS, nodeOf(which))
	if err != nil || !e.FS.Exists(md.Array{FS: e.FS, Name: name}.Attr("array_state")) {
		return md.UUID{}, md.Array{}, false
	}
	a := md.Array{FS: e.FS, Name: name}
	u, ok := e.identity(a)
	return u, a, ok
}

// find finds a running array by its UUID, first where udev's links say it is.
func (e *Env) find(u md.UUID) (md.Array, bool) {
	arrays, err := md.Arrays(e.FS)
	if err != nil {
		return md.Array{}, false
	}
	linked := func(a md.Array) bool {
		named, ok := byLink(e.Root, a.Name)
		return ok && named == u
	}
	for _, first := range []bool{true, false} {
		for _, a := range arrays {
			if linked(a) != first {
				continue
			}
			if is, ok := e.identity(a); ok && is == u {
				return a, true
			}
		}
	}
	return md.Array{}, false
}

// running maps the UUID of each array that has members to it. The UUID is the members': sysfs does not show it on every
// kernel. Where the disks may not be read, udev's links tell it.
func (e *Env) running() (map[md.UUID]md.Array, error) {
	arrays, err := md.Arrays(e.FS)
	if err != nil {
		return nil, err
	}
	out := map[md.UUID]md.Array{}
	for _, a := range arrays {
		if u, ok := e.identity(a); ok {
			out[u] = a
		}
	}
	return out, nil
}

// identity is an array's UUID, by its members or by udev's link.
func (e *Env) identity(a md.Array) (md.UUID, bool) {
	if u, err := e.uuidOf(a); err == nil {
		return u, true
	}
	return byLink(e.Root, a.Name)
}

// uuidOf reads an array's UUID from the first of its members that can be read.
func (e *Env) uuidOf(a md.Array) (md.UUID, error) {
	s, err := a.State()
	if err != nil {
		return md.UUID{}, err
	}
	if s.Metadata == "none" {
		return md.UUID{}, fmt.Errorf("%s has no metadata", a.Name) // what is on its members is of another array
	}
	err = fmt.Errorf("%s has no members", a.Name)
	for _, m := range s.Members {
		if !e.scanner().MayRead(m.Name) {
			err = fmt.Errorf("%s: %w", m.Name, md.ErrSilent)
			continue
		}
		member, failed := md.ReadDevice(md.NodePath(m.Name))
		if failed == nil {
			return member.Super.Array, nil
		}
		err = failed
	}
	return md.UUID{}, err
}

// whyNot says why a running array cannot be worked on: 0.90 metadata, above all.
func (e *Env) whyNot(which string) error {
	name, err := md.KernelName(e.FS, nodeOf(which))
	if err != nil {
		return nil // no device at all: the caller's own words say that
	}
	if _, err = e.uuidOf(md.Array{FS: e.FS, Name: name}); errors.Is(err, md.ErrOldMetadata) {
		return report.Fail(report.Refused, "old-metadata", "%s has %w", which, md.ErrOldMetadata).
			Hint("mdadm --assemble --update=metadata turns 0.90 into 1.0")
	}
	return nil
}

func nodeOf(which string) string {
	if strings.Contains(which, "/") {
		return which
	}
	return filepath.Join("/dev", which)
}
