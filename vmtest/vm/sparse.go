package vm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copySparse writes the file from into the file to, at offset, without its holes: there to must have zeros.
func copySparse(from, to string, offset int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for end := int64(0); ; {
		data, err := in.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no data any more
			return out.Close()
		}
		if err == nil {
			end, err = in.Seek(data, unix.SEEK_HOLE)
		}
		if err == nil {
			_, err = io.Copy(io.NewOffsetWriter(out, offset+data), io.NewSectionReader(in, data, end-data))
		}
		if err != nil {
			return errors.Join(fmt.Errorf("copy %s into %s: %w", from, to, err), out.Close())
		}
	}
}

// newID is a random name.
func newID() string { return rand.Text() }
