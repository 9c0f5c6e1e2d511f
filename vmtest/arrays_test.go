//go:build vmtest

package vmtest

import (
	"strings"
	"testing"

	"mdclone/pkg/clone"
)

// TestTwoArrays: /boot and root on two arrays, each with its partition of the one clone drive. One command does both and
// says once that the drive may be unplugged. A third array has no clone.
func TestTwoArrays(t *testing.T) {
	t.Parallel()
	r := newRig(t, "bookworm", 3)
	r.Script(`for d in vda vdb vdc; do printf ',60M,L\n,80M,L\n,20M,L\n' | sfdisk -q --label gpt /dev/$d; done
		mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --assume-clean --bitmap=internal --bitmap-chunk=1M /dev/vda1 /dev/vdb1
		mdadm --create /dev/md1 --run --level=1 --raid-devices=2 --assume-clean --bitmap=internal --bitmap-chunk=1M /dev/vda2 /dev/vdb2
		mdadm --create /dev/md2 --run --level=1 --raid-devices=2 --assume-clean /dev/vda3 /dev/vdb3`)
	r.early(0, "adopt", "/dev/md0", "/dev/vdc1", "--name", "boot")
	r.untouched(func() { code(t, r.account(2, "adopt", "/dev/md1", "/dev/vdc2", "--name", "boot"), "name-taken") })
	r.early(0, "adopt", "/dev/md1", "/dev/vdc2", "--name", "root")
	// a third one, without a clone, has the name that the kernel gave another this time
	r.Script("mdadm --detail --export /dev/md2 | sed -n 's/^MD_UUID=/array = /p' >/etc/mdclone/md0.conf")
	if got := r.early(2, "status", "md0"); !strings.Contains(got.Stderr, "give /dev/md0") {
		t.Errorf("status of an ambiguous name says %q; want how to name one", got.Stderr)
	}
	r.besideTrouble(t)
	if out := r.early(0, "detach", "boot").Stdout; !strings.Contains(out, "not safe to unplug") {
		t.Errorf("detach of one of two arrays says %q; want that the drive is still in use", out)
	}
	if out := r.early(0, "detach").Stdout; strings.Count(out, "\nsafe to unplug\n") != 1 {
		t.Errorf("detach of both says %q; want once that it is safe to unplug", out)
	}
	r.write("/dev/md0", 2, 10)
	r.write("/dev/md1", 4, 10)
	got := read[struct {
		Result string
		Arrays []clone.Result
	}](r, r.early(0, "backup", "--json").Stdout)
	if got.Result != "done" || len(got.Arrays) != 2 || got.Arrays[0].Array != "boot" || got.Arrays[1].Array != "root" {
		t.Fatalf("backup of all arrays: %+v; want one account with both", got)
	}
	for i, want := range []uint64{2 * mib, 4 * mib} {
		if a := got.Arrays[i]; a.Result != "done" || a.DirtyBytes < want || a.DirtyBytes > want+2*mib {
			t.Errorf("%s: %+v; want done, about %d bytes", a.Array, a, want)
		}
	}
	data := func(array, member string) string {
		return r.Script(`at=$(mdadm -E /dev/` + member + ` | sed -n 's/.*Data Offset : \([0-9]*\) sectors/\1/p')
			dd if=/dev/` + member + ` bs=64k iflag=direct,skip_bytes,count_bytes skip=$((at * 512)) \
				count=$(($(cat /sys/block/` + array + `/md/component_size) * 1024)) status=none | md5sum`)
	}
	for array, members := range map[string][2]string{"md0": {"vda1", "vdc1"}, "md1": {"vda2", "vdc2"}} {
		if data(array, members[0]) != data(array, members[1]) {
			t.Errorf("%s is no copy of %s", members[1], members[0])
		}
	}
	r.Script("mdadm --grow /dev/md0 --bitmap=none")
	if got := read[struct{ Result string }](r, r.early(3, "backup", "--json").Stdout); got.Result != "refused" {
		t.Errorf("backup with one array refused: %+v; want the worst, refused", got)
	}
	if got := r.Try("sh", "-c", "mdclone-early backup >/dev/full"); got.Code != 3 || !strings.Contains(got.Stderr, "bitmap") {
		t.Errorf("backup that cannot be reported: exit code %d, %q; want 3, and why", got.Code, got.Stderr)
	}
	// as a boot does it that is asked for again, after the other was made
	if only := r.account(0, "backup", "--only", got.Arrays[1].Clone.String()); only.Array != "root" || only.Result != "done" {
		t.Errorf("backup of one array's clone only: %+v; want that one's account, done", only)
	}
	if s := read[clone.Status](r, r.early(0, "status", "--json").Stdout); len(s.Arrays) != 3 {
		t.Errorf("status shows %d arrays; want 3", len(s.Arrays))
	}
}

// besideTrouble: a bad file is no matter of the arrays that others configure, and a disk that hangs none of those that it is not in.
func (r *rig) besideTrouble(t *testing.T) {
	r.Script(`echo nonsense >/etc/mdclone/bad.conf
		echo "0 $(blockdev --getsz /dev/vdc3) linear /dev/vdc3 0" | dmsetup create hangs
		mdadm --create /dev/md9 --run --level=1 --raid-devices=2 --metadata=1.2 /dev/mapper/hangs missing
		dmsetup suspend hangs`)
	got := r.Try("timeout", "20", "mdclone-early", "pin", "--export", "/dev/md0")
	if strings.TrimSpace(got.Stdout) != "MDCLONE_PIN=ok" || !strings.Contains(got.Stderr, "bad.conf") {
		t.Errorf("pin beside a bad file: exit code %d, %q, %q; want it pinned, and that file named", got.Code, got.Stdout, got.Stderr)
	}
	r.Script("rm /etc/mdclone/bad.conf")
	for _, command := range []string{"status root", "status /dev/md1", "status"} {
		if got := r.Try("sh", "-c", "timeout 20 mdclone-early "+command); got.Code != 0 {
			t.Errorf("%s beside a disk that hangs: exit code %d, %q", command, got.Code, got.Stderr)
		}
	}
	r.Script("dmsetup resume hangs; mdadm --stop /dev/md9; dmsetup remove hangs")
}
