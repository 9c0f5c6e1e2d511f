package initrd_test

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/ulikunitz/xz"
)

// archive is a cpio archive of records, with its trailer.
func archive(t testing.TB, records ...cpio.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	if err := cpio.WriteRecords(w, records); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// repeated is an archive in which a name may come more than once, which one cpio.Writer leaves out.
func repeated(t testing.TB, records ...cpio.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, r := range records {
		if err := cpio.Newc.Writer(&b).WriteRecord(r); err != nil {
			t.Fatal(err)
		}
	}
	return append(b.Bytes(), archive(t)...)
}

// compressor is how one compression is written.
type compressor struct {
	name   string
	writer func(w io.Writer) (io.WriteCloser, error)
}

func compressors() []compressor {
	lz4Writer := func(legacy bool) func(io.Writer) (io.WriteCloser, error) {
		return func(w io.Writer) (io.WriteCloser, error) {
			z := lz4.NewWriter(w)
			return z, z.Apply(lz4.LegacyOption(legacy))
		}
	}
	return []compressor{
		{"none", func(w io.Writer) (io.WriteCloser, error) { return nopCloser{w}, nil }},
		{"gzip", func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }},
		{"zstd", func(w io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(w, zstd.WithEncoderCRC(true), zstd.WithWindowSize(1<<20))
		}},
		{"xz", func(w io.Writer) (io.WriteCloser, error) {
			// several blocks, as xz -T0 makes them
			return xz.WriterConfig{CheckSum: xz.CRC32, BlockSize: 1 << 20, DictCap: 1 << 20}.NewWriter(w)
		}},
		{"lz4", lz4Writer(true)},
		{"lz4-frame", lz4Writer(false)},
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// compress makes a segment.
func (c compressor) compress(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := c.writer(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// compressorOf finds one by name.
func compressorOf(t testing.TB, name string) compressor {
	t.Helper()
	all := compressors()
	i := slices.IndexFunc(all, func(c compressor) bool { return c.name == name })
	if i < 0 {
		t.Fatalf("no compressor %s", name)
	}
	return all[i]
}

// noise is n bytes, always the same, that compress to about half: every other 64 bytes repeat the ones before. It has to
// compress a little, as lz4's old format has no blocks that are not compressed.
func noise(n int) []byte {
	b, x := make([]byte, n), uint32(2463534242)
	for i := range b {
		if i&64 != 0 {
			b[i] = b[i-64]
			continue
		}
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

func pad(n int) []byte { return make([]byte, n) }
