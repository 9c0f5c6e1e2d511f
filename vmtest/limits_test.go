//go:build vmtest

package vmtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mdclone/pkg/report"
)

// TestLimitsHold changes what is above and in an array while it runs, and requires that its limits are as pinned
// afterwards, or that status names what is not.
func TestLimitsHold(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 3)
		r.adopted()
		r.Script("sed -i 's/^max-sectors-kb.*/max-sectors-kb = 256/' /etc/mdclone/data.conf")
		r.early(0, "pin")
		const (
			make   = "echo 0 100000 linear /dev/md0 0 | dmsetup create top"
			reload = "echo 0 200000 linear /dev/md0 0 | dmsetup load top; dmsetup resume top"
			raise  = "echo 1280 > /sys/block/md0/queue/max_sectors_kb"
		)
		r.Script(make)
		limits := func(t *testing.T, array, holder uint64) []report.Reason {
			t.Helper()
			l := r.at(t).status().Limits
			if l.Now != array || l.Holders["dm-0"] != holder || l.Pinned != 256 {
				t.Errorf("md0 has %d KiB, dm-0 %d, the pin is %d; want %d, %d, 256", l.Now, l.Holders["dm-0"], l.Pinned, array, holder)
			}
			return l.Findings
		}
		export := func(t *testing.T, device, want string) {
			t.Helper()
			if got := r.at(t).early(0, "pin", "--export", device); got.Stdout != want {
				t.Errorf("pin --export %s prints %q; want %q", device, got.Stdout, want)
			}
		}
		t.Run("a table is loaded anew", func(t *testing.T) {
			r.at(t).Script(reload)
			export(t, "/dev/mapper/top", "MDCLONE_PIN=ok\n")
			if found := limits(t, 256, 256); len(found) > 0 {
				t.Errorf("status finds %v; want nothing", found)
			}
		})
		t.Run("somebody raised the limit", func(t *testing.T) {
			r.at(t).Script(raise + "; " + reload)
			export(t, "/dev/mapper/top", "MDCLONE_PIN=late\n")
			wantFinding(t, limits(t, 256, 1280), "late", "dm-0")
			r.at(t).Script(reload)
			export(t, "/dev/md0", "MDCLONE_PIN=ok\n")
			limits(t, 256, 256)
		})
		t.Run("a limit that was typed", func(t *testing.T) {
			r.at(t).early(0, "pin", "--max-sectors-kb", "128")
			export(t, "/dev/md0", "MDCLONE_PIN=late\n")
			r.at(t).Script(reload)
			export(t, "/dev/mapper/top", "MDCLONE_PIN=ok\n")
			if l := r.at(t).status().Limits; l.Now != 128 || l.Holders["dm-0"] != 128 || l.Pinned != 128 || len(l.Findings) > 0 {
				t.Errorf("md0 has %d KiB, dm-0 %d, the pin is %d; want 128. status finds %v; want nothing", l.Now, l.Holders["dm-0"],
					l.Pinned, l.Findings)
			}
			r.at(t).early(0, "pin")
			r.at(t).Script(reload)
			limits(t, 256, 256)
		})
		t.Run("none of ours", func(t *testing.T) {
			r.at(t).Script("truncate -s 1M /tmp/file; losetup /dev/loop0 /tmp/file; echo 0 2048 linear /dev/loop0 0 | dmsetup create other")
			for _, device := range []string{"/dev/vda", "/dev/loop0", "/dev/mapper/other", "/dev/null", "/dev/none"} {
				export(t, device, "")
			}
			r.at(t).Script("dmsetup remove other; losetup -d /dev/loop0; rm /tmp/file")
		})
		t.Run("a member joins and leaves", func(t *testing.T) {
			r := r.at(t)
			r.Script(raise)
			r.early(0, "attach")
			limits(t, 256, 256)
			r.Script(raise)
			r.early(0, "detach")
			limits(t, 256, 256)
		})
		t.Run("a member with less", func(t *testing.T) {
			r := r.at(t)
			r.Script("dmsetup remove top; echo 64 > /sys/block/vdc/queue/max_sectors_kb")
			r.early(0, "attach")
			r.Script(make)
			wantFinding(t, limits(t, 64, 64), "member-lowers", "vdc")
			if got := r.early(0, "status").Stdout; !strings.Contains(got, "once it has left mdclone-early pin raises it") {
				t.Errorf("status says %q; want it to say what raises the limit again", got)
			}
			r.early(0, "detach")
			if found := limits(t, 256, 64); len(found) > 0 {
				t.Errorf("status finds %v; want nothing", found)
			}
			r.Script("dmsetup remove top; echo 1280 > /sys/block/vdc/queue/max_sectors_kb")
			r.equal()
		})
	})
}

func wantFinding(t *testing.T, found []report.Reason, code, name string) {
	t.Helper()
	if !slices.ContainsFunc(found, func(f report.Reason) bool { return f.Code == code && strings.Contains(f.Text, name) }) {
		t.Errorf("status finds %s; want %s of %s", fmt.Sprint(found), code, name)
	}
}
