package clone

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPolicyIn(t *testing.T) {
	for _, test := range []struct{ conf, want string }{
		{"", ""},
		{"ARRAY /dev/md0 UUID=1:2:3:4\nPOLICY action=ignore\n", ""},
		{"POLICY action=include\n", ""},
		{"# POLICY action=re-add\n", ""},
		{"POLICY domain=x path=pci-* action=re-add\n", "POLICY domain=x path=pci-* action=re-add"},
		{"pol action=Spare # all\n", "pol action=Spare"},
		{"POLICY domain=x\n  action=force-spare\nMAILADDR root\n", "POLICY domain=x action=force-spare"},
		{"PART-POLICY action=re-add\n", ""},
		{"po action=re-add\n", ""},
	} {
		if got := policyIn(test.conf); got != test.want {
			t.Errorf("policyIn(%q) = %q; want %q", test.conf, got, test.want)
		}
	}
}

func TestReaddPolicy(t *testing.T) {
	e := &Env{Root: t.TempDir()}
	if got, err := e.readdPolicy(); got != "" || err != nil {
		t.Errorf("readdPolicy() without a file = %q, %v; want nothing", got, err)
	}
	dir := filepath.Join(e.Root, "etc/mdadm/mdadm.conf.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.conf"), []byte("POLICY action=re-add\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := e.readdPolicy(); got != "POLICY action=re-add" || err != nil {
		t.Errorf("readdPolicy() = %q, %v; want the line", got, err)
	}
}
