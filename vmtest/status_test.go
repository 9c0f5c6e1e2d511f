//go:build vmtest

package vmtest

import (
	"slices"
	"strings"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// statusTells is what status and check say where something cannot be read, or is not there.
func statusTells(t *testing.T, a *attackable) {
	t.Run("to an ordinary user", func(t *testing.T) { a.again(t).ordinaryUser(t) })
	t.Run("of an array that is not assembled", func(t *testing.T) { a.again(t).notAssembled(t) })
	t.Run("where nothing is configured", func(t *testing.T) { a.again(t).notConfigured(t) })
	t.Run("where a record is damaged", func(t *testing.T) { a.again(t).recordDamaged(t) })
	t.Run("of a clone that differs", func(t *testing.T) { a.again(t).waysOut(t) })
	t.Run("of a clone whose sync was cut", func(t *testing.T) { a.again(t).cutAndDetached(t) })
	t.Run("of a limit that the members do not take", func(t *testing.T) { a.again(t).askedTooMuch(t) })
}

// asUser runs mdclone-early as a user who may not read the disks.
func (r *rig) asUser(args ...string) vm.Result {
	r.t.Helper()
	return r.Try("busybox", "su", "-s", "/bin/sh", "nobody", "-c", "mdclone-early "+strings.Join(args, " "))
}

func (r *rig) userStatus(t *testing.T) clone.Status {
	t.Helper()
	got := r.asUser("status", "--json")
	if got.Code != 0 {
		t.Fatalf("status of an ordinary user: exit code %d\n%s", got.Code, got.Stderr)
	}
	return read[clone.Status](r, got.Stdout)
}

// ordinaryUser: what sysfs alone tells, and no more.
func (r *rig) ordinaryUser(t *testing.T) {
	r.sh(`echo 'nobody:x:65534:65534::/:/bin/sh' > /etc/passwd; chmod 755 /; chmod 755 /etc /etc/mdclone; chmod 644 /etc/mdclone/data.conf
		mkdir -p /dev/disk/by-id; ln -sf ../../md0 /dev/disk/by-id/md-uuid-$(sed -n 's/^array = //p' /etc/mdclone/data.conf)`)
	if got := r.Try("busybox", "su", "-s", "/bin/sh", "nobody", "-c", "cat /dev/vda | head -c1"); !strings.Contains(got.Stderr, "denied") {
		t.Fatalf("that user may read the disks (%q): this shows nothing", got.Stderr)
	}
	defer r.sh("rm -f /dev/disk/by-id/md-uuid-*")
	away := r.userStatus(t).Arrays[0]
	if c := away.Clones[0]; c.State != "" || at(c) != "unknown" || c.CopyBytes != nil || away.DirtyBytes != nil || len(away.Unreadable) == 0 {
		t.Errorf("status without the clone: %+v; want that nothing is known of it", away)
	}
	r.account(0, "attach")
	if c := r.userStatus(t).Arrays[0].Clones[0]; c.State != clone.InSync || at(c) != "/dev/vdc" || c.CopyBytes != nil || c.DetachedAt != nil {
		t.Errorf("status with the clone in it: %+v; want it in sync at /dev/vdc", c)
	}
	if c := r.status().Clones[0]; c.State != clone.InSync || c.DetachedAt != nil || c.CopyBytes == nil {
		t.Errorf("status of root: %+v; want it in sync, never detached, and what is copied", c)
	}
	r.account(0, "detach")
	if got := r.asUser("check", "/dev/vdc"); got.Code != 1 || !strings.Contains(got.Stderr, "permission denied") {
		t.Errorf("check: exit code %d, %q; want 1, and that it is not permitted", got.Code, got.Stderr)
	}
	for _, hidden := range []string{"chmod 600 /etc/mdclone/data.conf", "chmod 700 /etc/mdclone"} {
		r.sh(hidden)
		s := r.userStatus(t)
		if len(s.Unreadable) != 1 || !strings.HasPrefix(s.Unreadable[0], "/etc/mdclone") || len(s.Arrays) != 1 || s.Arrays[0].Device != "/dev/md0" {
			t.Errorf("after %s status says %+v; want what could not be read, and the array", hidden, s)
		}
		if text := r.asUser("status").Stdout; strings.Contains(text, "--add /dev/NEW") || strings.Contains(text, "no clone is recorded") {
			t.Errorf("after %s status says %q; want no advice", hidden, text)
		}
	}
	r.sh("chmod 755 /etc/mdclone; chmod 644 /etc/mdclone/data.conf; rm /dev/disk/by-id/md-uuid-*")
	if s := r.userStatus(t); len(s.Unreadable) != 1 || s.Arrays[0].State != "unknown" || s.Arrays[0].Clones[0].State != "" {
		t.Errorf("status where nothing tells which array it is: %+v; want it not known", s)
	}
}

// notAssembled: the clone is plugged in, and its array does not run.
func (r *rig) notAssembled(t *testing.T) {
	r.sh("stop /dev/md0")
	r.untouched(func() {
		for _, args := range [][]string{{"status", "--json"}, {"status", "data", "--json"}} {
			s := read[clone.Status](r, r.early(0, args...).Stdout).Arrays[0]
			if c := s.Clones[0]; s.State != "not-assembled" || c.State != clone.Unsuitable || at(c) != "/dev/vdc" || c.CopyBytes != nil || c.DetachedAt == nil {
				t.Errorf("%v: %+v; want the clone at /dev/vdc", args, s)
			}
		}
		code(t, r.account(3, "check", "/dev/vdc"), "not-assembled")
		code(t, r.account(3, "check", "data", "/dev/vdc"), "not-assembled")
		code(t, r.account(3, "check", "data", "/dev/vdd"), "no-superblock")
		got := r.early(3, "check", "/dev/vdd")
		if got.Stdout != "/dev/vdd: foreign\n" || strings.Count(got.Stderr, "vdd") != 1 {
			t.Errorf("check of an empty drive says %q, %q; want that it is foreign, and why", got.Stdout, got.Stderr)
		}
	})
}

// notConfigured: nobody knows whose the empty slot is.
func (r *rig) notConfigured(t *testing.T) {
	r.sh("rm -r /etc/mdclone")
	if text := r.early(0, "status").Stdout; strings.Contains(text, "--add /dev/NEW") || !strings.Contains(text, "may be a clone's") {
		t.Errorf("status says %q; want that the slot may be a clone's", text)
	}
}

// recordDamaged: it is a reason of that clone, and hides nothing else.
func (r *rig) recordDamaged(t *testing.T) {
	r.sh("echo x > $(echo /var/lib/mdclone/ledger/*.json)")
	c := r.status().Clones[0]
	if c.State != clone.Stale || at(c) != "/dev/vdc" || len(c.Reasons) == 0 || c.Reasons[0].Code != "ledger-damaged" {
		t.Errorf("status: %+v; want the clone, and the damage", c)
	}
	code(t, r.account(1, "check", "/dev/vdc"), "ledger-damaged")
}

// waysOut: what is said to take a clone out that differs does.
func (r *rig) waysOut(t *testing.T) {
	r.account(0, "attach")
	r.spoil("vdc", 30)
	if said := r.early(5, "verify").Stderr; !strings.Contains(said, "verify --repair") || !strings.Contains(said, "detach --verify none") {
		t.Errorf("verify says %q; want the ways out of it", said)
	}
	r.account(5, "detach")
	if got := r.account(0, "detach", "--verify", "none", "--clone", "/dev/vdc"); got.Attached {
		t.Errorf("detach --verify none: %+v; want it out", got)
	}
	if got := r.account(5, "backup"); got.MismatchedSectors == 0 {
		t.Errorf("the next backup: %+v; want all of it compared, and that it differs", got)
	}
	r.account(0, "verify", "--repair")
	r.account(0, "detach")
	r.equal()
}

// cutAndDetached: detach has nothing to do, and does not pass what is there off as a clone.
func (r *rig) cutAndDetached(t *testing.T) {
	r.write("/dev/md0", 24, 30)
	r.limits(r.disks[2].Serial, 2*mib, 0)
	p := r.start("backup")
	r.sh("until [ \"$(action)\" = recover ] && grep -q / $M/sync_completed; do :; done; " + theRun + "\nkill -INT $run")
	code(t, r.ended(p, 130), "interrupted")
	r.limits(r.disks[2].Serial, 0, 0)
	got := r.account(0, "detach")
	code(t, got, "not-attached")
	code(t, got, "incomplete")
	if text := r.early(0, "detach").Stdout; !strings.Contains(text, "no complete clone") {
		t.Errorf("detach says %q; want that it is no complete clone", text)
	}
	r.taken("vda")
}

// askedTooMuch: the pin is as high as can be, and says that it is not what was asked for.
func (r *rig) askedTooMuch(t *testing.T) {
	got := read[struct {
		Result string
		Arrays []struct {
			Wanted   uint64 `json:"wanted_kb"`
			Now      uint64 `json:"max_sectors_kb"`
			Findings []struct{ Text string }
		}
	}](r, r.early(0, "pin", "--max-sectors-kb", "99999", "--json").Stdout)
	if a := got.Arrays[0]; got.Result != "done" || a.Wanted != 99999 || a.Now >= 99999 || !slices.ContainsFunc(a.Findings,
		func(f struct{ Text string }) bool {
			return strings.HasPrefix(f.Text, "wanted 99999, the members take ")
		}) {
		t.Errorf("pin: %+v; want it lower, and that said", got)
	}
	if text := r.early(0, "pin", "--max-sectors-kb", "99999").Stdout; !strings.Contains(text, "wanted 99999") {
		t.Errorf("pin says %q; want what was wanted", text)
	}
}
