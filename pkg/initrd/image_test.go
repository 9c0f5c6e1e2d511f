package initrd_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"

	"mdclone/pkg/initrd"
)

// early is what stands in front of most images: microcode, never compressed.
func early(t testing.TB) []byte {
	return archive(t, cpio.Directory("kernel", 0o755), cpio.Directory("kernel/x86", 0o755),
		cpio.StaticFile("kernel/x86/GenuineIntel.bin", "microcode", 0o644))
}

// bigSize is how large usr/big has to be to take more than one block.
func bigSize(compression string) int {
	if compression == "lz4" {
		return 9 << 20
	}
	return 5 << 19
}

func mainArchive(t testing.TB, size int) []byte {
	return archive(t,
		cpio.Directory(".", 0o755),
		cpio.Directory("usr", 0o755),
		cpio.Directory("usr/lib", 0o755),
		cpio.Symlink("lib", "usr/lib"),
		cpio.Directory("lib/udev", 0o755), // through the link
		cpio.StaticFile("./usr/lib/udev/63-mdclone.rules", "rule\n", 0o644),
		cpio.StaticFile("usr/big", string(noise(size)), 0o755),
		cpio.StaticFile("empty", "", 0o600),
		cpio.StaticFile("nowhere/lost", "dropped: its folder is missing", 0o600),
	)
}

func open(t testing.TB, image []byte) (*initrd.Image, error) {
	t.Helper()
	return initrd.Open(bytes.NewReader(image), int64(len(image)), func(p string) bool { return p != "usr/big" })
}

func TestOpen(t *testing.T) {
	for _, c := range compressors() {
		size := bigSize(c.name)
		segment := c.compress(t, mainArchive(t, size))
		for _, withEarly := range []bool{false, true} {
			name := c.name
			var raw []byte
			var want []initrd.Segment
			if withEarly {
				name = "early and " + name
				raw = append(early(t), pad(512)...)
				raw = raw[:len(raw)&^511]
				want = append(want, initrd.Segment{Size: int64(len(early(t))), Compression: "none"})
			}
			want = append(want, initrd.Segment{Offset: int64(len(raw)), Size: int64(len(segment)), Compression: c.name})
			raw = append(append(raw, segment...), pad(37)...)
			t.Run(name, func(t *testing.T) {
				image, err := open(t, raw)
				if err != nil {
					t.Fatal(err)
				}
				if c.name == "lz4" { // the size field of zero in the padding belongs to it
					want[len(want)-1].Size += 4
				}
				if diff := cmp.Diff(want, image.Segments); diff != "" {
					t.Errorf("segments (-want +got):\n%s", diff)
				}
				checkMain(t, image, size)
				if _, ok := image.Lookup("kernel/x86/GenuineIntel.bin"); ok != withEarly {
					t.Errorf("microcode is there: %v; want %v", ok, withEarly)
				}
			})
		}
	}
}

func checkMain(t *testing.T, image *initrd.Image, size int) {
	t.Helper()
	files := image.Files()
	rule := files["usr/lib/udev/63-mdclone.rules"]
	if string(rule.Data) != "rule\n" || rule.Size != 5 || rule.Mode != 0o644 {
		t.Errorf("rule = %+v", rule)
	}
	big := files["usr/big"]
	if big.SHA256 != sha256.Sum256(noise(size)) || big.Size != int64(size) || big.Data != nil || big.Mode != 0o755 {
		t.Errorf("usr/big = %v, %d bytes, sum %x, %d held", big.Mode, big.Size, big.SHA256, len(big.Data))
	}
	if got := files["lib"]; got.Mode.Type() != fs.ModeSymlink || got.Target != "usr/lib" {
		t.Errorf("lib = %+v", got)
	}
	if got := files["empty"]; got.Data == nil || got.SHA256 != sha256.Sum256(nil) {
		t.Errorf("empty = %+v", got)
	}
	for _, path := range []string{"lib/udev/63-mdclone.rules", "/usr/lib/udev/../udev/63-mdclone.rules"} {
		if got, ok := image.Lookup(path); !ok || string(got.Data) != "rule\n" {
			t.Errorf("Lookup(%s) = %+v, %v", path, got, ok)
		}
	}
	for _, path := range []string{"nowhere/lost", "usr/lib/udev/63-mdclone.rules/", "empty/x", "etc"} {
		if got, ok := image.Lookup(path); ok {
			t.Errorf("Lookup(%s) = %+v; want nothing", path, got)
		}
	}
	if got, want := image.List("/lib/udev"), []string{"63-mdclone.rules"}; !slices.Equal(got, want) {
		t.Errorf("List = %q; want %q", got, want)
	}
}

func TestManySegments(t *testing.T) {
	// every compression behind every other, a file of the same name in each: the last one counts
	all := compressors()
	for _, first := range all {
		for _, second := range all {
			t.Run(first.name+" "+second.name, func(t *testing.T) {
				a := first.compress(t, archive(t, cpio.StaticFile("x", "old", 0o644), cpio.StaticFile("a", "a", 0o644)))
				b := second.compress(t, archive(t, cpio.StaticFile("x", "new", 0o755), cpio.StaticFile("b", "b", 0o644)))
				raw := append(append(a, pad(4-len(a)%4+4)...), b...)
				image, err := open(t, raw)
				if err != nil {
					t.Fatal(err)
				}
				got := image.Files()
				if string(got["x"].Data) != "new" || got["x"].Mode != 0o755 || string(got["a"].Data)+string(got["b"].Data) != "ab" {
					t.Errorf("files = %+v", got)
				}
			})
		}
	}
}

func TestWithoutPadding(t *testing.T) {
	// lz4 as the kernel reads it has no end of its own and needs padding
	for _, first := range []string{"none", "gzip", "zstd", "xz", "lz4-frame"} {
		a := compressorOf(t, first).compress(t, archive(t, cpio.StaticFile("a", "a", 0o644)))
		b := compressorOf(t, "zstd").compress(t, archive(t, cpio.StaticFile("b", "b", 0o644)))
		image, err := open(t, slices.Concat(a, b))
		if err != nil {
			t.Errorf("%s: %v", first, err)
			continue
		}
		if got := image.Files(); string(got["a"].Data)+string(got["b"].Data) != "ab" {
			t.Errorf("%s: files = %+v", first, got)
		}
	}
}

func TestArchivesInOneStream(t *testing.T) {
	data := slices.Concat(archive(t, cpio.StaticFile("a", "a", 0o644)), pad(512), archive(t, cpio.StaticFile("b", "b", 0o644)))
	image, err := open(t, compressorOf(t, "gzip").compress(t, data))
	if err != nil {
		t.Fatal(err)
	}
	if got := image.Files(); string(got["a"].Data)+string(got["b"].Data) != "ab" {
		t.Errorf("files = %+v", got)
	}
}

func TestTruncated(t *testing.T) {
	data := archive(t, cpio.Directory("usr", 0o755), cpio.StaticFile("usr/x", string(noise(3000)), 0o644))
	for _, c := range compressors() {
		raw := c.compress(t, data)
		for n := 1; n < len(raw); n++ {
			_, err := open(t, raw[:n])
			if err == nil {
				t.Errorf("%s: %d of %d bytes are read without an error", c.name, n, len(raw))
			} else if n >= 6 && !errors.Is(err, initrd.ErrTruncated) {
				t.Errorf("%s: %d of %d bytes: %v; want it to be called truncated", c.name, n, len(raw), err)
			}
		}
	}
}

func TestDamaged(t *testing.T) {
	good := archive(t, cpio.StaticFile("a", "content of a", 0o644))
	header := func(from, to string) []byte { return bytes.Replace(good, []byte(from), []byte(to), 1) }
	gzip := compressorOf(t, "gzip")
	zipped := gzip.compress(t, good)
	flipped := slices.Clone(zipped)
	flipped[len(flipped)-6] ^= 1 // its checksum
	crc := header("070701", "070702")
	cases := []struct {
		name string
		raw  []byte
		want string
	}{
		{"empty", nil, "there is nothing in it"},
		{"zero bytes", pad(1024), "there is nothing in it"},
		{"text", []byte("#!/bin/sh\n"), "segment 1 (unknown) at byte 0: neither a cpio archive nor compressed data"},
		{"old cpio", header("070701", "070707"), "cpio format \"odc\" instead of \"newc\""},
		{"no cpio", append([]byte("0"), pad(200)...), "no cpio header"},
		{"not hexadecimal", header("0000000C", "0000000G"), "field 7 is \"0000000G\""},
		{"name of 0 bytes", header("00000002000", "00000000000"), "a name of 0 bytes"},
		{"long name", header("00000002000", "00F00002000"), "a name of 15728642 bytes"},
		{"checksum", crc, "checksum is 0x471; the header says 0x0"},
		{"size beyond the end", header("0000000C", "07FFFFFF"), "at 0: a: the image ends early (truncated)"},
		{"size beyond the limit", header("0000000C", "FFFFFFFF"), "bytes of content, more than the 134217728 that may be held"},
		{"garbage behind", slices.Concat(zipped, []byte("garbage")), "segment 2 (unknown) at byte"},
		{"not aligned", slices.Concat(good, pad(1), good), "a cpio archive must begin at a multiple of 4 bytes"},
		{"junk in a stream", gzip.compress(t, slices.Concat(good, []byte("junk"))), "in the decompressed data at"},
		{"gzip checksum", flipped, "gzip: invalid checksum"},
		{"bzip2", []byte("BZh91AY&SY"), "bzip2 is not supported, only gzip, zstd, xz and lz4 are"},
		{"lz4 block", []byte("\x02\x21\x4c\x18\xff\xff\xff\x7f0707"), "lz4 block of 2147483647 bytes at byte 4"},
		{"zstd window", []byte("\x28\xb5\x2f\xfd\x00\xff" + strings.Repeat("\x00", 20)), "a window of"},
		{"xz dictionary", xzWith(39), "an xz dictionary of 3221225472 bytes, more than 134217728"},
		{"long link", archive(t, cpio.Symlink("a", strings.Repeat("x", 5000))), "a symbolic link of 5000 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := open(t, c.raw)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open = %v; want %q", err, c.want)
			}
		})
	}
}

// xzWith is the start of an xz stream with this dictionary size (5.3.1), enough to be refused.
func xzWith(bits byte) []byte {
	return slices.Concat([]byte("\xfd7zXZ\x00\x00\x01\x69\x22\xde\x36"), []byte{2, 0, 0x21, 1, bits}, pad(64))
}

func TestReplacing(t *testing.T) {
	hard := func(name, content string) cpio.Record {
		r := cpio.StaticFile(name, content, 0o644)
		r.Ino, r.NLink = 77, 2
		return r
	}
	cases := []struct {
		name    string
		records []cpio.Record
		want    map[string]string // path: content, "-> target", "/" for a folder
	}{
		{
			"a file in place of a link",
			[]cpio.Record{cpio.StaticFile("t", "t", 0o644), cpio.Symlink("a", "t"), cpio.StaticFile("a", "a", 0o644)},
			map[string]string{"t": "t", "a": "a"},
		},
		{
			"a link in place of an empty folder",
			[]cpio.Record{cpio.Directory("a", 0o755), cpio.Symlink("a", "b")},
			map[string]string{"a": "-> b"},
		},
		{
			"no link in place of a full folder",
			[]cpio.Record{cpio.Directory("a", 0o755), cpio.StaticFile("a/x", "x", 0o644), cpio.Symlink("a", "b")},
			map[string]string{"a": "/", "a/x": "x"},
		},
		{
			"a folder again",
			[]cpio.Record{cpio.Directory("a", 0o755), cpio.StaticFile("a/x", "x", 0o644), cpio.Directory("a", 0o700)},
			map[string]string{"a": "/", "a/x": "x"},
		},
		{
			"two names, content with the last",
			[]cpio.Record{hard("a", ""), hard("b", "both")},
			map[string]string{"a": "both", "b": "both"},
		},
		{
			"two names, content with the first",
			[]cpio.Record{hard("a", "both"), hard("b", "")},
			map[string]string{"a": "both", "b": "both"},
		},
		{
			"links in a ring",
			[]cpio.Record{cpio.Symlink("a", "b"), cpio.Symlink("b", "a"), cpio.StaticFile("a/x", "x", 0o644)},
			map[string]string{"a": "-> b", "b": "-> a"},
		},
		{
			"out of the root",
			[]cpio.Record{cpio.StaticFile("../../a", "a", 0o644)},
			map[string]string{"a": "a"},
		},
		{
			"an absolute link",
			[]cpio.Record{cpio.Directory("d", 0o755), cpio.Symlink("l", "/d/../d"), cpio.StaticFile("l/x", "x", 0o644)},
			map[string]string{"d": "/", "l": "-> /d/../d", "d/x": "x"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			image, err := open(t, repeated(t, c.records...))
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for path, e := range image.Files() {
				switch {
				case path == "dev" || path == "dev/console" || path == "root":
				case e.Mode.IsDir():
					got[path] = "/"
				case e.Target != "":
					got[path] = "-> " + e.Target
				default:
					got[path] = string(e.Data)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "initrd.img-1")
	if err := os.WriteFile(name, archive(t, cpio.StaticFile("a", "a", 0o644)), 0o600); err != nil {
		t.Fatal(err)
	}
	image, err := initrd.Read(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := image.Lookup("a"); !ok || e.Size != 1 || e.Data != nil {
		t.Errorf("Lookup = %+v, %v", e, ok)
	}
	if _, err := initrd.Read(filepath.Dir(name), nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Read of a folder = %v", err)
	}
	if _, err := initrd.Read(name+"x", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of nothing = %v", err)
	}
}
