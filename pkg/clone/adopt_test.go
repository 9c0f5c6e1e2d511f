package clone

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"mdclone/pkg/sysfs"
)

// TestSameDisk: a kernel name is given to another disk when the first one has gone.
func TestSameDisk(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "class/block/sdc/diskseq")
	put := func(text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	put("7")
	env := &Env{FS: sysfs.At(root)}
	a := &adoption{session: &session{Target: &Target{env: env}, drive: Drive{Name: "sdc"}}}
	var err error
	if a.seq, err = env.diskSeq("sdc"); err != nil {
		t.Fatal(err)
	}
	if err := a.sameDisk(); err != nil {
		t.Errorf("sameDisk() = %v with the same disk", err)
	}
	put("8")
	if err := a.sameDisk(); reasonCode(err) != "other-drive" {
		t.Errorf("sameDisk() = %v with another disk; want other-drive", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := env.diskSeq("sdc"); got != "" || err != nil {
		t.Errorf("diskSeq() = %q, %v on a kernel that has none", got, err)
	}
	if _, err := env.diskSeq("sdd"); err == nil {
		t.Error("diskSeq() of a disk that is not here succeeded")
	}
}
