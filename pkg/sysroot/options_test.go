package sysroot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOptions(t *testing.T) {
	tree := t.TempDir()
	for name, text := range map[string]string{
		"etc/modprobe.d/usb.conf":        "# options x y=1\noptions usb-storage quirks=1234:5678:u\nblacklist pcspkr\noptions short\n",
		"etc/modprobe.d/zz.conf":         "options usb_storage \\\n  delay_use=5\n",
		"etc/modprobe.d/other":           "options libata force=noncq\n",
		"usr/lib/modprobe.d/usb.conf":    "options usb_storage quirks=hidden\n",
		"usr/lib/modprobe.d/kernel.conf": "options nvme_core default_ps_max_latency_us=0\n",
	} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(tree, "etc/modprobe.d/gone.conf")); err != nil {
		t.Fatal(err)
	}
	got, err := Options(tree)
	want := map[string]string{"usb_storage": "quirks=1234:5678:u delay_use=5", "nvme_core": "default_ps_max_latency_us=0"}
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("Options() (-want +got), %v:\n%s", err, cmp.Diff(want, got))
	}
	if got, err := Options(t.TempDir()); err != nil || len(got) > 0 {
		t.Errorf("Options() of an empty tree = %v, %v; want none", got, err)
	}
}
