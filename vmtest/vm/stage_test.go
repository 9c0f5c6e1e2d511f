package vm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"
)

// names are the records of a cpio archive, with their content.
func names(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := cpio.ForEachRecord(cpio.Newc.Reader(bytes.NewReader(archive)), func(r cpio.Record) error {
		content := make([]byte, r.FileSize)
		_, err := io.ReadFull(io.NewSectionReader(r, 0, int64(r.FileSize)), content)
		all[r.Name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestOverlay(t *testing.T) {
	host := filepath.Join(t.TempDir(), "host")
	if err := os.WriteFile(host, []byte("from the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	err := overlay(&buf, []File{
		{Path: "/init", Mode: 0o755, Host: host}, {Path: "/sbin/a", Data: []byte("a")}, {Path: "/usr/sbin/b", Data: []byte("b")},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"init": "from the host", "usr": "", "usr/sbin": "", "usr/sbin/a": "a", "usr/sbin/b": "b"}
	if diff := cmp.Diff(want, names(t, buf.Bytes())); diff != "" {
		t.Errorf("overlay (-want +got):\n%s", diff)
	}
	if err := overlay(io.Discard, []File{{Path: "/a", Host: "/no/such/file"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("overlay of a missing file = %v; want that it does not exist", err)
	}
}

func TestPack(t *testing.T) {
	s := &stage{dir: t.TempDir()}
	if err := errors.Join(s.write("etc/a", "text"), s.link("etc", "conf")); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := s.pack(&buf); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"conf": "etc", "etc": "", "etc/a": "text"}, names(t, buf.Bytes())); diff != "" {
		t.Errorf("pack (-want +got):\n%s", diff)
	}
}

func TestLayOverAlignsEachLayer(t *testing.T) {
	dir := t.TempDir()
	var layers []string
	for _, text := range []string{"12345", "1234", ""} {
		path := filepath.Join(dir, "layer-"+text)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, path)
	}
	out := filepath.Join(dir, "out")
	if err := layOver(layers, []File{{Path: "/x"}}, out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if want := "12345\x00\x00\x001234070701"; err != nil || string(got[:len(want)]) != want {
		t.Errorf("layOver = %.20q..., %v; want %q...", got, err, want)
	}
}

func TestCopySparse(t *testing.T) {
	dir := t.TempDir()
	from, err := NewDisk(dir, "from", 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	to, err := NewDisk(dir, "to", 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 16<<20)
	f, err := os.OpenFile(from.Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 3 << 20, 8<<20 - 4} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
		copy(want[at+1<<20:], "data")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := copySparse(from.Path, to.Path, 1<<20); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to.Path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("copySparse: the copy of %d bytes differs (%v)", len(got), err)
	}
}
