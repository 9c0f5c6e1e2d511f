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
	arrays, err := e.running()
	if err != nil {
		return nil, err
	}
	if which != "" {
		t, err := e.target(which, confs, arrays)
		if err != nil {
			return nil, err
		}
		return []*Target{t}, nil
	}
	if len(confs) == 0 {
		return nil, report.Fail(report.Usage, "not-configured", "no array is configured in /etc/mdclone, and none is given").
			Hint("give one (/dev/md0), and its clone with --clone DRIVE; or set one up: mdclone-early adopt ARRAY DRIVE")
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

func (e *Env) target(which string, confs []config.Array, arrays map[md.UUID]md.Array) (*Target, error) {
	for _, c := range confs {
		u, err := md.ParseUUID(which)
		if c.Name != which && (err != nil || u != c.UUID) {
			continue
		}
		for u, a := range arrays {
			if a.Name == which && u != c.UUID {
				return nil, report.Fail(report.Usage, "ambiguous", "%s is what the kernel calls array %s, and the name of %s's configuration", which, u, c.UUID).
					Hint("give /dev/%s, or the UUID", which)
			}
		}
		a, ok := arrays[c.UUID]
		if !ok {
			return nil, e.notRunning(c)
		}
		return &Target{env: e, Array: a, Conf: c, Configured: true}, nil
	}
	u, a, ok := e.lookUp(which, arrays)
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

// lookUp finds a running array by UUID, kernel name or node.
func (e *Env) lookUp(which string, arrays map[md.UUID]md.Array) (md.UUID, md.Array, bool) {
	if u, err := md.ParseUUID(which); err == nil {
		a, ok := arrays[u]
		return u, a, ok
	}
	name, err := md.KernelName(e.FS, nodeOf(which))
	if err != nil {
		return md.UUID{}, md.Array{}, false
	}
	for u, a := range arrays {
		if a.Name == name {
			return u, a, true
		}
	}
	return md.UUID{}, md.Array{}, false
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
		u, err := e.uuidOf(a)
		if err == nil {
			out[u] = a
		} else if u, ok := byLink(e.Root, a.Name); ok {
			out[u] = a
		}
	}
	return out, nil
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
		member, e := md.ReadDevice(md.NodePath(m.Name))
		if e == nil {
			return member.Super.Array, nil
		}
		err = e
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
