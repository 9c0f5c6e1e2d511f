//go:build vmtest

package vmtest

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/pkg/md"
)

// rows are the rows of the verdict's table that no attack makes: a drive, or its array, as nothing should be.
func rows(t *testing.T, a *attackable) {
	for _, test := range []struct {
		name, code string
		state      clone.State
		make       func(r *rig)
	}{
		{"the array was shrunk", "size-changed", clone.Unsuitable, func(r *rig) {
			r.sh("mdadm --grow /dev/md0 --size=40960 2>/dev/null; grep -q 40960 $M/component_size")
		}},
		{"the array was not started", "not-active", clone.Unsuitable, func(r *rig) {
			r.sh("stop /dev/md0; mdadm -I /dev/vda 2>/dev/null; grep -q inactive $M/array_state")
		}},
		{"its join was cut, and then the bitmap was made anew", "join-cut", clone.Outdated, func(r *rig) {
			r.cutJoin()
			r.sh("mdadm --grow /dev/md0 --bitmap=none; mdadm --grow /dev/md0 --bitmap=internal --bitmap-chunk=1M; clear")
		}},
		{"a replaced primary was given its number", "number-taken", clone.Outdated, func(r *rig) {
			r.blank()
			r.Script(`mdadm --create /dev/md0 --run --level=1 --raid-devices=3 --assume-clean --bitmap=internal --bitmap-chunk=1M /dev/vda /dev/vdb missing`)
			r.early(0, "adopt", "/dev/md0", "/dev/vdc", "--name", "data")
			r.early(0, "detach")
			// numbers begin behind the slots, and one that failed keeps its own
			r.sh(`mdadm /dev/md0 --fail /dev/vdb 2>/dev/null; mdadm /dev/md0 --add /dev/vdd 2>/dev/null
				until grep -q in_sync $M/dev-vdd/state; do sleep 0.05; done; mdadm /dev/md0 --remove /dev/vdb 2>/dev/null`)
		}},
		{"the array was shrunk and grown again", "canary", clone.Outdated, (*rig).shrunkAndGrown},
		{"the array was shrunk, grown again and stopped", "canary", clone.Outdated, func(r *rig) {
			r.shrunkAndGrown()
			r.sh("stop /dev/md0; up /dev/vda /dev/vdb")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := a.again(t)
			test.make(r)
			r.refused(test.code, test.state, "/dev/vdc")
		})
	}
	if !a.newest() {
		t.Run("drives that are no clone", func(t *testing.T) { a.again(t).otherDrives(t) })
		t.Run("an array of another level", func(t *testing.T) { a.again(t).otherLevel(t) })
		t.Run("a primary that fell out, named as the clone", func(t *testing.T) { a.again(t).primaryNamed(t) })
		t.Run("the power was lost while it was in sync", func(t *testing.T) { a.again(t).cutInSync(t) })
		t.Run("metadata that no tool makes", func(t *testing.T) { a.again(t).unmadeMetadata(t) })
	}
}

// cutJoin cuts the power in the join's spare window, which a check holds open; what is assembled then are the primaries.
func (r *rig) cutJoin() {
	r.sh(`checking; mdadm /dev/md0 --re-add /dev/vdc 2>/dev/null || true
		until mdadm -E /dev/vdc | grep -q 'Device Role : spare'; do sleep 0.05; done`)
	r.powerCut()
}

// shrunkAndGrown: the bits of what changed behind the smaller size go. That part is marked anew when it is there again, but in
// memory alone.
func (r *rig) shrunkAndGrown() {
	r.sh(`write /dev/md0 2 50; mdadm --grow /dev/md0 --size=40960 2>/dev/null; idle; write /dev/md0 1 30
		mdadm --grow /dev/md0 --size=max 2>/dev/null; idle`)
}

// otherDrives are what vdd may be that is not recorded, and mdadm.conf that lets a clone in.
func (r *rig) otherDrives(t *testing.T) {
	r.Script("mkdir -p /etc/mdadm; echo 'POLICY action=re-add' > /etc/mdadm/mdadm.conf")
	code(t, r.account(0, "check", "/dev/md0", "/dev/vdc"), "policy")
	const other = "mdadm --create /dev/md9 --run --level=1 --raid-devices=2 --assume-clean "
	for _, test := range []struct{ make, code string }{
		{"rm /etc/mdadm/mdadm.conf", "no-superblock"},
		{other + "/dev/vdd missing 2>/dev/null; stop /dev/md9", "other-array"},
		{other + "--metadata=0.90 /dev/vdd missing 2>/dev/null; stop /dev/md9; dd if=/dev/zero of=/dev/vdd bs=64k count=1 oflag=direct status=none", "old-metadata"},
		{`mdadm --zero-superblock /dev/vdd; mdadm /dev/md0 --add /dev/vdd 2>/dev/null
			until grep -q in_sync $M/dev-vdd/state; do sleep 0.05; done; out vdd`, "not-recorded"},
	} {
		r.sh(test.make)
		r.quiet()
		r.untouched(func() {
			code(t, r.account(3, "backup", "--clone", "/dev/vdd"), test.code)
			code(t, r.account(3, "check", "/dev/md0", "/dev/vdd"), test.code)
		})
	}
}

// otherLevel: a RAID10 of two drives is a mirror as well, but not one that a clone can be of.
func (r *rig) otherLevel(t *testing.T) {
	r.Script("mdadm --create /dev/md9 --run --level=10 --raid-devices=2 --assume-clean --bitmap=internal /dev/vdd /dev/vde 2>/dev/null")
	r.quiet()
	r.untouched(func() {
		for _, command := range [][]string{
			{"check", "/dev/md9", "/dev/vdc"}, {"backup", "/dev/md9", "--clone", "/dev/vdc"}, {"adopt", "/dev/md9", "/dev/vdc"}, {"adopt", "/dev/md9", "/dev/vdc", "--overwrite"},
		} {
			code(t, r.account(3, command...), "not-raid1")
		}
	})
}

// primaryNamed: where nothing is recorded, the marks of the drives tell which is the clone.
func (r *rig) primaryNamed(t *testing.T) {
	r.sh("out vdb; write /dev/md0 2 30; rm -rf /etc/mdclone /var/lib/mdclone")
	r.quiet()
	r.untouched(func() {
		code(t, r.account(3, "backup", "/dev/md0", "--clone", "/dev/vdb"), "not-recorded")
		if said := r.early(0, "check", "/dev/md0", "/dev/vdb").Stderr; !strings.Contains(said, "not write-mostly") {
			t.Errorf("check says %q; want that it is none that a backup takes", said)
		}
	})
	r.account(0, "backup", "/dev/md0", "--clone", "/dev/vdc")
	r.same("vda", "vdc")
}

// cutInSync: until the first write, what the array lists is what was there when the power went.
func (r *rig) cutInSync(t *testing.T) {
	r.account(0, "attach")
	r.backTo(r.snapshot())
	r.sh(`P=/sys/module/md_mod/parameters/start_ro; echo 1 > $P; up /dev/vda /dev/vdb; echo 0 > $P; grep -q read-auto $M/array_state`)
	code(t, r.account(0, "check", "/dev/md0", "/dev/vdc"), "was-in-sync")
	code(t, r.taken("vda"), "was-in-sync")
}

// unmadeMetadata is metadata as another tool, or a kernel to come, might write it, and as a bad disk might: no tool of these
// releases makes it on a RAID1. mdadm refuses a journal there ("only supported for RAID level 4/5/6"), and Debian's kernels have
// no lockless bitmap.
func (r *rig) unmadeMetadata(t *testing.T) {
	r.quiet()
	for _, test := range []struct {
		name, code string
		state      clone.State
		disks      []string
		do         func(m *md.Member, super, bitmap []byte)
	}{
		{"its bitmap is lockless", "lockless-bitmap", clone.Unsuitable, []string{"vdc"}, func(_ *md.Member, _, b []byte) { b[4] = 6 }},
		{"the array's bitmap is lockless", "lockless-bitmap", clone.Unsuitable, []string{"vda", "vdb"}, func(_ *md.Member, _, b []byte) { b[4] = 6 }},
		{"its bitmap is of no known kind", "bad-bitmap", clone.Outdated, []string{"vdc"}, func(_ *md.Member, _, b []byte) { b[4] = 99 }},
		{"it has a journal", "unfit-features", clone.Unsuitable, []string{"vdc"}, func(_ *md.Member, s []byte, _ []byte) { s[9] |= md.FeatureJournal >> 8 }},
		{"the array has a journal", "unfit-features", clone.Unsuitable, []string{"vda", "vdb"}, func(_ *md.Member, s []byte, _ []byte) { s[9] |= md.FeatureJournal >> 8 }},
		{"it is being reshaped", "unfit-features", clone.Unsuitable, []string{"vdc"}, func(_ *md.Member, s []byte, _ []byte) { s[8] |= md.FeatureReshape }},
		{"it has no bitmap", "no-bitmap", clone.Outdated, []string{"vdc"}, func(_ *md.Member, s []byte, _ []byte) { s[8] &^= md.FeatureBitmap }},
		{"its own role is faulty", "no-slot", clone.Outdated, []string{"vdc"}, func(m *md.Member, s, _ []byte) { ownRole(m, s, md.RoleFaulty) }},
		{"its own role is a slot that the array does not have", "no-slot", clone.Outdated, []string{"vdc"}, func(m *md.Member, s, _ []byte) { ownRole(m, s, 7) }},
		{"a primary's bitmap is behind the other's", "unsettled", clone.Unsuitable, []string{"vdb"}, func(_ *md.Member, _, b []byte) { b[256] = 0 }},
		{"its superblock is damaged", "bad-superblock", clone.Foreign, []string{"vdc"}, nil},
		{"the primaries were being recovered", "rollback-cut", clone.Ahead, []string{"vda", "vdb"}, func(_ *md.Member, s, _ []byte) { s[8] |= md.FeatureRecoveryOffset }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := r.at(t)
			for _, name := range test.disks {
				defer r.patch(name, test.do)()
			}
			r.untouched(func() { r.refusedNow(test.code, test.state, "/dev/vdc") })
		})
	}
}

// patch changes a member's superblock and the first sector of its bitmap (bits from byte 256 on) on its disk and makes the superblock's checksum right, or with
// nil wrong. It returns what puts back what was there.
func (r *rig) patch(name string, do func(m *md.Member, super, bitmap []byte)) (undo func()) {
	r.t.Helper()
	return patchMember(r.t, r.disk(name), do)
}

// patchMember is patch for an image.
func patchMember(t testing.TB, path string, do func(m *md.Member, super, bitmap []byte)) (undo func()) {
	t.Helper()
	m := readMember(t, path)
	at := int64(m.Super.SuperOffset) * 512
	before := make([]byte, int64(m.Super.BitmapOffset+1)*512)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.ReadAt(before, at)
	after := append([]byte(nil), before...)
	if do == nil {
		after[216]++
	} else {
		do(m, after[:md.SuperSize], after[len(after)-512:])
		seal(after)
	}
	write := func(b []byte) error { _, err := f.WriteAt(b, at); return err }
	if err = errors.Join(err, write(after)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(write(before), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// ownRole gives a superblock's own device a role in it.
func ownRole(m *md.Member, super []byte, role uint16) {
	binary.LittleEndian.PutUint16(super[256+2*int(m.Super.DevNumber):], role)
}
