package initrd_test

import (
	"bytes"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"

	"mdclone/pkg/initrd"
)

// FuzzOpen reads whatever comes: no panic, no endless loop, and what is read must be consistent.
func FuzzOpen(f *testing.F) {
	small := archive(f, cpio.Directory("usr", 0o755), cpio.Symlink("lib", "usr"), cpio.StaticFile("lib/x", "content", 0o644))
	for _, c := range compressors() {
		segment := c.compress(f, small)
		f.Add(segment)
		f.Add(slices.Concat(early(f), pad(4), segment, pad(8)))
		f.Add(segment[:len(segment)/2])
	}
	f.Add(repeated(f, cpio.Symlink("a", "b"), cpio.Symlink("b", "a"), cpio.StaticFile("a/b", "", 0o644)))
	f.Add(pad(16))
	f.Fuzz(func(t *testing.T, raw []byte) {
		image, err := initrd.Open(bytes.NewReader(raw), int64(len(raw)), func(string) bool { return true })
		if err != nil {
			return
		}
		for i, s := range image.Segments {
			if s.Size <= 0 || s.Offset+s.Size > int64(len(raw)) || i > 0 && s.Offset < image.Segments[i-1].Offset+image.Segments[i-1].Size {
				t.Errorf("segment %d = %+v in %d bytes", i, s, len(raw))
			}
		}
		for path, e := range image.Files() {
			if strings.HasPrefix(path, "/") || strings.Contains("/"+path+"/", "/../") {
				t.Errorf("path %q", path)
			}
			if e.Mode.IsRegular() && int64(len(e.Data)) != e.Size {
				t.Errorf("%q: %d bytes, holds %d", path, e.Size, len(e.Data))
			}
			if got, ok := image.Lookup(path); e.Mode.Type() != fs.ModeSymlink && (!ok || got.SHA256 != e.SHA256) {
				t.Errorf("Lookup(%q) = %+v, %v; want %+v", path, got, ok, e)
			}
		}
	})
}
