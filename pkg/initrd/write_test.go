package initrd_test

import (
	"bytes"
	"io/fs"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"

	"mdclone/pkg/initrd"
)

func TestArchive(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"var/lib/x/b.json": []byte("{}\n"), "var/lib/x/a.json": nil, "top": []byte("long enough to be padded")}
	got, err := initrd.Archive(files, "var/lib/empty")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := initrd.Archive(files, "var/lib/empty"); err != nil || !bytes.Equal(got, again) {
		t.Errorf("a second Archive() of the same differs, %v", err)
	}
	// as the kernel reads it: behind another archive, a folder before what is in it
	image, err := open(t, slices.Concat(mainArchive(t, 1), got))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if e, ok := image.Lookup(name); !ok || !bytes.Equal(e.Data, want) || e.Mode != 0o600 {
			t.Errorf("%s: %v, %v %q; want %q", name, ok, e.Mode, e.Data, want)
		}
	}
	for _, name := range []string{"var", "var/lib", "var/lib/x", "var/lib/empty"} {
		if e, ok := image.Lookup(name); !ok || e.Mode != fs.ModeDir|0o755 {
			t.Errorf("%s: %v, %v; want a folder", name, ok, e.Mode)
		}
	}
	if _, ok := image.Lookup("usr/big"); !ok {
		t.Error("the archive before it is not read")
	}
}

// TestArchiveHeaders: each record is a file of its own, of root and of no time, in an order in which it can be unpacked.
func TestArchiveHeaders(t *testing.T) {
	t.Parallel()
	data, err := initrd.Archive(map[string][]byte{"a/b/f": []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	var got []cpio.Info
	for _, r := range records {
		got = append(got, r.Info)
	}
	want := []cpio.Info{
		{Name: "a", Ino: 1, Mode: cpio.S_IFDIR | 0o755},
		{Name: "a/b", Ino: 2, Mode: cpio.S_IFDIR | 0o755},
		{Name: "a/b/f", Ino: 3, Mode: cpio.S_IFREG | 0o600, FileSize: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}
