//go:build vmtest

package vmtest

import (
	"strings"
	"testing"

	"mdclone/pkg/clone"
)

// unplugged is a clone that is pulled out while it is attached and comes back under another name: md holds the old one.
func unplugged(t *testing.T, a *attackable) {
	for _, test := range []struct {
		name, meanwhile string
	}{
		{"and nothing was written", ""}, // md does not look at a drive until it writes to it, so it calls this one in sync
		{"and the array was written to", "write /dev/md0 3 30"},
	} {
		t.Run("backed up, "+test.name, func(t *testing.T) {
			r := a.again(t)
			r.replugged(test.meanwhile, func(name string) {
				if c := r.status().Clones[0]; c.State != clone.Stale || at(c) != "/dev/"+name || toCopy(c) > 8*mib || c.DetachedAt != nil ||
					len(c.Reasons) != 1 || c.Reasons[0].Code != "unplugged" {
					t.Errorf("status: %+v; want %s stale, as it was unplugged, never detached, little to copy", c, name)
				}
				r.early(0, "check", "/dev/md0", "/dev/"+name)
				r.taken("vda")
			})
		})
		t.Run("detached, "+test.name, func(t *testing.T) {
			r := a.again(t)
			r.replugged(test.meanwhile, func(string) {
				got := r.account(1, "detach")
				if code(t, got, "drive-failed"); got.Attached {
					t.Errorf("detach: %+v; want that it is out", got)
				}
				r.ownAlone()
				r.taken("vda")
			})
		})
	}
}

// replugged attaches the clone, pulls it out, and has do happen when it is back under the name that do is given. After that
// nothing holds on to the old name.
func (r *rig) replugged(meanwhile string, do func(name string)) {
	r.t.Helper()
	d := r.disks[2]
	r.account(0, "attach")
	r.quiet() // else md's own next write tells it
	r.Unplugged(d.Serial)
	in := false
	defer func() { // it is vdc for what comes after this, however this ended
		r.stopAll()
		if in {
			r.Unplugged(d.Serial)
		}
		r.Plugged(d)
	}()
	r.sh(meanwhile)
	if got := r.early(4, "backup"); !strings.Contains(got.Stderr, "vdc was unplugged while it was in md0") {
		r.t.Errorf("backup without the drive says %q; want what became of it", got.Stderr)
	}
	name := r.Plugged(d)
	if in = true; name == "vdc" {
		r.t.Fatal("it came back under the same name: this shows nothing")
	}
	do(name)
	r.ownAlone()
	r.Unplugged(d.Serial)
	in = false
	if name := r.Plugged(d); name != "vdc" {
		r.t.Errorf("the clone is %s when it is back once more; want vdc, as nothing holds on to what is gone", name)
	}
	in = true
}

// ownAlone requires that the array has no member but its own two.
func (r *rig) ownAlone() {
	r.t.Helper()
	if got := strings.Fields(r.sh("cd $M; echo dev-*")); strings.Join(got, " ") != "dev-vda dev-vdb" {
		r.t.Errorf("the array has %s; want its own two", got)
	}
}
