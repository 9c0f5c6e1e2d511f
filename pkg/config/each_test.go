package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/md"
)

// TestLoadEach: a bad file costs no other array its clone, and its own only where that cannot be told.
func TestLoadEach(t *testing.T) {
	u1, err1 := md.ParseUUID(uuid1)
	u2, err2 := md.ParseUUID(uuid2)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	array := func(name string, clones ...md.UUID) Array {
		return Array{Name: name, UUID: u1, Clones: clones, Verify: VerifyChanged}
	}
	never := array("b", u2)
	never.BootWait = BootWaitNever
	good, one := "array = "+uuid1+"\nclone = "+uuid2+"\n", "array = "+uuid1+"\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  []Array
		errs  int
	}{
		"a typo elsewhere":       {map[string]string{"b": good + "# clone\nmax-sectors = 5\nboot-wait = never\n"}, []Array{never}, 1},
		"a typo in a value":      {map[string]string{"b": good + "boot-wait = soon\n"}, []Array{array("b", u2)}, 1},
		"a typo in the clone":    {map[string]string{"b": one + "clone = 5\n"}, nil, 1},
		"a typo in clone":        {map[string]string{"b": one + "clones = " + uuid2 + "\n"}, nil, 1},
		"a typo in the array":    {map[string]string{"b": "array = 5\nclone = " + uuid2 + "\n"}, nil, 1},
		"two arrays in one file": {map[string]string{"b": good + "array = " + uuid2 + "\n"}, nil, 1},
		"a bad name":             {map[string]string{"a b": good, "b": good}, []Array{array("b", u2)}, 1},
		"another one is good":    {map[string]string{"a": "nonsense\n", "b": good}, []Array{array("b", u2)}, 1},
		"one array in two files": {map[string]string{"a": one, "b": good}, []Array{array("a", u2)}, 1},
		"one clone in two": {
			map[string]string{"a": "array = " + uuid2 + "\nclone = " + uuid2 + "\n", "b": good},
			[]Array{{Name: "a", UUID: u2, Clones: []md.UUID{u2}, Verify: VerifyChanged}, array("b", u2)},
			1,
		},
		"nothing": {},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, Dir), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range test.files {
			if err := os.WriteFile(filepath.Join(root, Dir, file+".conf"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, errs := LoadEach(root)
		if diff := cmp.Diff(test.want, got); diff != "" || len(errs) != test.errs {
			t.Errorf("%s: LoadEach() (-want +got), errors %v:\n%s", name, errs, diff)
		}
	}
}
