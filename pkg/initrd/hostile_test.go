package initrd_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"

	"mdclone/pkg/initrd"
)

// TestNoFieldSizesMemory: a small image takes little memory, whatever sizes its fields name. What a decoder may need for a
// window is refused above a bound (TestDamaged), and the fields of an image that is read to its end are believed up to there.
func TestNoFieldSizesMemory(t *testing.T) {
	const most = 9 << 20 // a block of lz4's old format is 8 MiB
	good := archive(t, cpio.StaticFile("a", "content of a", 0o644))
	header := func(from, to string) []byte { return bytes.Replace(good, []byte(from), []byte(to), 1) }
	cases := map[string][]byte{
		"size of 128 MiB":            header("0000000C", "08000000"),
		"size of 4 GiB":              header("0000000C", "FFFFFFFF"),
		"name of 4 GiB":              header("00000002000", "FFFFFFFF000"),
		"link of 4 GiB":              bytes.Replace(archive(t, cpio.Symlink("a", "bbbbbbbbbbbb")), []byte("0000000C"), []byte("FFFFFFFF"), 1),
		"folder of 4 GiB":            bytes.Replace(archive(t, cpio.Directory("usr", 0o755)), []byte("00000000"), []byte("FFFFFFFF"), 9),
		"lz4 block of 4 GiB":         slices.Concat([]byte("\x02\x21\x4c\x18\xff\xff\xff\xff"), good),
		"lz4 block of 8 MiB":         slices.Concat([]byte("\x02\x21\x4c\x18\x00\x00\x80\x00"), good),
		"zstd window of 2 GiB":       slices.Concat([]byte("\x28\xb5\x2f\xfd\x00\xa8"), pad(20)),
		"zstd content of 2^64 bytes": slices.Concat([]byte("\x28\xb5\x2f\xfd\xe0"), binary.LittleEndian.AppendUint64(nil, 1<<64-1), pad(20)),
		"zstd block of 2 MiB":        []byte("\x28\xb5\x2f\xfd\x00\x00\xff\xff\xff"),
		"xz dictionary of 3 GiB":     xzWith(39),
		"xz index of 2^63 records":   slices.Concat([]byte("\xfd7zXZ\x00\x00\x01\x69\x22\xde\x36\x00"), bytes.Repeat([]byte{0xff}, 8), []byte{0x7f}, pad(32)),
		"lz4 frame block of 2 GiB":   slices.Concat([]byte("\x04\x22\x4d\x18\x60\x70\x73"), []byte("\xff\xff\xff\x7f"), good),
	}
	for name, raw := range cases {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := initrd.Open(bytes.NewReader(raw), int64(len(raw)), func(string) bool { return true })
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > most || err == nil {
			t.Errorf("%s: Open() of %d bytes = %v, allocates %d; want an error, %d at most", name, len(raw), err, n, uint64(most))
		}
	}
}
