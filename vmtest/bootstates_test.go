//go:build vmtest

package vmtest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"mdclone/pkg/initrd"
	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// diskStates are the states in which a system's machine with a clone may find its disks.
func diskStates(t *testing.T, l *vm.Lab, system string) map[string]vm.Machine {
	t.Helper()
	all, err := l.CloneStates(t.Context(), system, vm.Layout{}, productFiles(t, l))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// super is the superblock on a disk of any image format.
func super(t *testing.T, d vm.Disk) *md.Superblock {
	t.Helper()
	// 1.2 metadata is in the first MiB
	out := t.TempDir() + "/head"
	cmd := exec.CommandContext(t.Context(), "qemu-img", "dd", "-O", "raw", "bs=1M", "count=1", "if="+d.Path, "of="+out)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("qemu-img dd: %v: %s", err, text)
	}
	head, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	const at = 8 // sector
	s, err := md.DecodeSuperblock(head[at*512:], at)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestOrder requires that, each time the initramfs looks for the root file system, the product comes before what mdadm starts by
// itself, and looks at what that was before the root file system is looked for.
func TestOrder(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite string) {
		base := diskStates(t, Lab(t), suite)["stale"]
		image, err := initrd.Read(base.Image.Initrd, func(string) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		order, ok := image.Lookup("scripts/local-block/ORDER")
		if !ok {
			t.Fatal("the image has no scripts/local-block/ORDER")
		}
		var got []string
		for line := range strings.Lines(string(order.Data)) {
			if script, ok := strings.CutPrefix(line, "/scripts/local-block/"); ok {
				got = append(got, strings.Fields(script)[0])
			}
		}
		if last := []string{"mdclone", "mdadm", "mdclone_after"}; len(got) < 3 || !slices.Equal(got[len(got)-3:], last) {
			t.Errorf("local-block runs %q; want %q at its end", got, last)
		}
	})
}

// TestBootStates requires that the states are what their names say: else the tests of booting from them show nothing.
func TestBootStates(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite string) {
		all := diskStates(t, Lab(t), suite)
		for name, want := range map[string]string{
			"stale":      "01- 01- 012 behind",
			"diverged":   "01- 01- --2 ahead",
			"ended":      "012 012 012 equal",
			"cut":        "012 012 012 equal unclean",
			"syncing":    "012 012 012~ equal",
			"ahead":      "012 -12 --2 ahead",
			"rollback":   "012~ 012~ 012 equal",
			"rebuilding": "01- 01-~ 012 behind",
		} {
			var got []string
			var events []uint64
			unclean := 0
			for _, d := range all[name].Disks {
				s := super(t, d)
				view := s.View()
				if s.Recovering() {
					view += "~"
				}
				if s.ResyncOffset != md.NoResync {
					unclean++
				}
				got, events = append(got, view), append(events, s.Events)
			}
			a, c := max(events[0], events[1]), events[2]
			switch {
			case c > a+1:
				got = append(got, "ahead")
			case a > c+1:
				got = append(got, "behind")
			case a == c:
				got = append(got, "equal")
			default:
				got = append(got, "one event apart")
			}
			if name == "cut" && unclean == len(events) {
				got = append(got, "unclean")
			}
			if text := strings.Join(got, " "); text != want {
				t.Errorf("%s: %s (events %v); want %s", name, text, events, want)
			}
		}
	})
}
