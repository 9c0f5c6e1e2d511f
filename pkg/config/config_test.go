package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/md"
)

const uuid1, uuid2 = "01010101:02020202:03030303:04040404", "11111111-2222-3333-4444-555555555555"

func TestParse(t *testing.T) {
	u1, _ := md.ParseUUID(uuid1)
	u2, _ := md.ParseUUID(uuid2)
	for name, test := range map[string]struct {
		text string
		want Array
	}{
		"least": {"array = " + uuid1, Array{Name: "root", UUID: u1, Verify: VerifyChanged}},
		"all": {
			"# words\n[mdclone]\narray = " + uuid1 + "\nclone = " + uuid2 + "\nclone = " + uuid1 +
				"\nmax-sectors-kb = 128\nclone-max-sectors-kb = 512\nverify = full\n",
			Array{Name: "root", UUID: u1, Clones: []md.UUID{u2, u1}, MaxSectorsKB: 128, CloneMaxSectorsKB: 512, Verify: VerifyFull},
		},
		"boot-wait":       {"array=" + uuid1 + "\nboot-wait=5", Array{Name: "root", UUID: u1, Verify: VerifyChanged, BootWait: 5}},
		"boot-wait never": {"array=" + uuid1 + "\nboot-wait = never", Array{Name: "root", UUID: u1, Verify: VerifyChanged, BootWait: BootWaitNever}},
		"auto":            {"array=" + uuid1 + "\nmax-sectors-kb=auto", Array{Name: "root", UUID: u1, Verify: VerifyChanged}},
	} {
		got, err := Parse("root", []byte(test.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: Parse() (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	line := "array = " + uuid1 + "\n"
	for name, test := range map[string]struct{ text, says string }{
		"empty":              {"", "no \"array"},
		"no array":           {"clone = " + uuid1, "no \"array"},
		"two arrays":         {line + line, "more than one"},
		"short UUID":         {"array = 01010101", "UUID"},
		"a device":           {"array = /dev/md0", "UUID"},
		"bad clone":          {line + "clone = x", "clone"},
		"clone twice":        {line + "clone = " + uuid2 + "\nclone = " + uuid2, "twice"},
		"zero limit":         {line + "max-sectors-kb = 0", "max-sectors-kb"},
		"limit below a page": {line + "max-sectors-kb = 3", "max-sectors-kb"},
		"negative limit":     {line + "max-sectors-kb = -1", "max-sectors-kb"},
		"huge limit":         {line + "clone-max-sectors-kb = 99999999999999999999", "clone-max-sectors-kb"},
		"a word":             {line + "max-sectors-kb = big", "max-sectors-kb"},
		"bad verify":         {line + "verify = some", "verify"},
		"no boot-wait":       {line + "boot-wait = 0", "boot-wait"},
		"endless boot-wait":  {line + "boot-wait = 601", "boot-wait"},
		"unknown key":        {line + "chunk = 1M", "chunk"},
		"unknown section":    {"[other]\n" + line, "other"},
		"no value":           {"array\n", "line 1"},
		"binary":             {"\x00\x01\x02\xff", "line 1"},
	} {
		_, err := Parse("root", []byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: Parse() = %v; want it to speak of %q", name, err, test.says)
		}
	}
}

func TestNames(t *testing.T) {
	for _, good := range []string{"root", "md0", "a.b-c_d", "0"} {
		if err := CheckName(good); err != nil {
			t.Errorf("CheckName(%q) = %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "..", ".hidden", "-x", "a/b", "../x", "a b", "ä", "a\x00", strings.Repeat("x", 65), "$(x)"} {
		if err := CheckName(bad); err == nil {
			t.Errorf("CheckName(%q) = nil; want an error", bad)
		}
	}
}

func TestSaveAndLoad(t *testing.T) {
	root := t.TempDir()
	if all, err := Load(root); len(all) != 0 || err != nil {
		t.Errorf("Load() of nothing = %v, %v", all, err)
	}
	u1, _ := md.ParseUUID(uuid1)
	u2, _ := md.ParseUUID(uuid2)
	want := []Array{
		{Name: "boot", UUID: u2, MaxSectorsKB: 64, Verify: VerifyNone},
		{Name: "root", UUID: u1, Clones: []md.UUID{u2}, CloneMaxSectorsKB: 512, Verify: VerifyChanged},
	}
	for _, a := range want {
		if err := a.Save(root); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Load() (-want +got):\n%s", diff)
	}
	twice := want[1]
	twice.Name = "again"
	if err := twice.Save(root); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(root); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("Load() of one array in two files = %v; want an error", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	good := "array = " + uuid1 + "\n"
	for name, test := range map[string]struct {
		make func(dir string) error
		says string
	}{
		"a directory": {func(dir string) error { return os.Mkdir(dir+"/x.conf", 0o755) }, "no plain file"},
		"a pipe":      {func(dir string) error { return syscall.Mkfifo(dir+"/x.conf", 0o600) }, "no plain file"},
		"a device":    {func(dir string) error { return os.Symlink("/dev/zero", dir+"/x.conf") }, "no plain file"},
		"a loop":      {func(dir string) error { return os.Symlink("x.conf", dir+"/x.conf") }, "too many levels"},
		"a dead link": {func(dir string) error { return os.Symlink("none", dir+"/x.conf") }, "no such file"},
		"10 MB": {func(dir string) error {
			return os.WriteFile(dir+"/x.conf", []byte(good+strings.Repeat("#\n", 5e6)), 0o600)
		}, "larger"},
		"one long line": {func(dir string) error {
			return os.WriteFile(dir+"/x.conf", []byte(good+"#"+strings.Repeat("x", 60e3)), 0o600)
		}, ""},
		"a NUL":      {func(dir string) error { return os.WriteFile(dir+"/x.conf", []byte(good+"#\x00"), 0o600) }, "no text"},
		"a bad name": {func(dir string) error { return os.WriteFile(dir+"/a b.conf", []byte(good), 0o600) }, "not a name"},
		"escapes":    {func(dir string) error { return os.WriteFile(dir+"/\x1b[2J.conf", []byte(good), 0o600) }, "not a name"},
		"two with one clone": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/a.conf", []byte(good+"clone = "+uuid2), 0o600),
				os.WriteFile(dir+"/b.conf", []byte("array = "+uuid2+"\nclone = "+uuid2), 0o600))
		}, "already"},
	} {
		root := t.TempDir()
		dir := filepath.Join(root, Dir)
		if err := errors.Join(os.MkdirAll(dir, 0o755), test.make(dir)); err != nil {
			t.Fatal(err)
		}
		all, err := Load(root)
		if test.says == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: Load() = %v, %v; want it to speak of %q", name, all, err, test.says)
		}
	}
}

func TestLoadTakes(t *testing.T) {
	for name, text := range map[string]string{
		"a byte order mark": "\ufeffarray = " + uuid1 + "\n",
		"CRLF":              "# words\r\narray = " + uuid1 + "\r\nverify = full\r\n",
		"no newline":        "array = " + uuid1,
		"quotes":            "array = \"" + uuid1 + "\"",
	} {
		root := t.TempDir()
		dir := filepath.Join(root, Dir)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/x.conf", []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		if all, err := Load(root); err != nil || len(all) != 1 || all[0].UUID.String() != uuid1 {
			t.Errorf("%s: Load() = %v, %v; want the array", name, all, err)
		}
	}
}

func TestSaveRefusesAHostileName(t *testing.T) {
	root := t.TempDir()
	if err := (Array{Name: "../../x"}).Save(root); err == nil {
		t.Error("Save() took ../../x")
	}
	if names, _ := os.ReadDir(filepath.Join(root)); len(names) != 0 {
		t.Errorf("Save() left %v", names)
	}
}

func TestPinKB(t *testing.T) {
	for _, test := range []struct {
		a    Array
		want uint64
	}{
		{Array{}, 0}, {Array{CloneMaxSectorsKB: 512}, 512}, {Array{MaxSectorsKB: 128, CloneMaxSectorsKB: 512}, 128},
	} {
		if got := test.a.PinKB(); got != test.want {
			t.Errorf("PinKB(%+v) = %d; want %d", test.a, got, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("array = " + uuid1 + "\nclone = " + uuid2 + "\nverify = full\nboot-wait = never\n"))
	f.Add([]byte("[mdclone]\narray=" + uuid1 + "\nmax-sectors-kb=auto"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := Parse("x", text)
		if err != nil {
			return
		}
		again, err := Parse("x", a.Text())
		if err != nil {
			t.Fatalf("Parse(Text()) = %v of %q", err, a.Text())
		}
		if diff := cmp.Diff(a, again); diff != "" {
			t.Errorf("Parse(Text()) (-want +got):\n%s", diff)
		}
	})
}

// TestSaveAgain: every user may read a new file, an old one keeps its mode, and another array's is not replaced by a new one.
func TestSaveAgain(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	root := filepath.Join(t.TempDir(), "[1]")
	u1, _ := md.ParseUUID(uuid1)
	a := Array{Name: "root", UUID: u1, Verify: VerifyChanged}
	file := filepath.Join(root, Dir, "root.conf")
	has := func(when, path string, want os.FileMode) {
		t.Helper()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %s is %v, %v; want mode %o", when, path, info, err, want)
		}
	}
	if err := a.Create(root); err != nil {
		t.Fatal(err)
	}
	has("created", filepath.Dir(file), 0o755)
	has("created", file, 0o644)
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	a.Verify = VerifyFull
	if err := a.Save(root); err != nil {
		t.Fatal(err)
	}
	has("saved", file, 0o600)
	if err := (Array{Name: "root", Verify: VerifyNone}).Create(root); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create() of what is there = %v; want that it is", err)
	}
	for _, name := range []string{".#root.conf", ".x.conf"} { // an editor's
		if err := os.Symlink("nobody@box.1:2", filepath.Join(root, Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Load(root); err != nil || len(got) != 1 || got[0].Verify != VerifyFull {
		t.Errorf("Load() = %+v, %v; want what was saved", got, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 3 {
		t.Errorf("there is %v; want nothing left behind", left)
	}
}

// TestLoadTellsWhy: what cannot be looked at is not nothing.
func TestLoadTellsWhy(t *testing.T) {
	root := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "etc"), 0o755), os.WriteFile(filepath.Join(root, Dir), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(root); err == nil {
		t.Errorf("Load() of no directory = %v; want an error", got)
	}
}
