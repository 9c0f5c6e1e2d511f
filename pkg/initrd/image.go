// Package initrd reads initramfs images as the kernel does (init/initramfs.c, Linux 6.12): several segments one behind
// the other, each a cpio archive, compressed or not, with zero bytes between them. A later file replaces an earlier one,
// a path leads through the symbolic links that were there before it, and a file whose folder is missing is dropped.
//
// Memory is bounded whatever the image says: nothing is allocated for a size field before that many bytes were read, but
// for a decoder's window, of 128 MiB at most.
package initrd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrTruncated is what an image that ends in the middle of something is.
var ErrTruncated = errors.New("the image ends early (truncated)")

// Entry is one file, folder, symbolic link or device of an image.
type Entry struct {
	Mode   fs.FileMode // type and permissions
	Size   int64       // bytes of a regular file
	Target string      // of a symbolic link
	SHA256 [32]byte    // of a regular file
	Data   []byte      // of a regular file that Open's keep chose; nil for all others
}

// Segment is one piece of an image.
type Segment struct {
	Offset      int64  // bytes from the start of the image
	Size        int64  // bytes in the image, without the zero bytes that follow
	Compression string // "none", "gzip", "zstd", "xz", "lz4" (as the kernel reads it) or "lz4-frame" (which it does not)
}

// Image is an unpacked image; of its files' content only what was asked for is held.
type Image struct {
	Segments []Segment
	root     *node
}

// Read opens the image file called name. See Open for keep.
func Read(name string, keep func(path string) bool) (*Image, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", name)
	}
	image, err := Open(f, info.Size(), keep)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return image, nil
}

// Open reads a whole image of size bytes. keep chooses the regular files whose content is held, by their path without a
// leading slash and without symbolic links ("usr/sbin/mdclone-early"); nil holds none. A file with several names is held
// if any of the names up to the one that carries the content is chosen.
func Open(r io.ReaderAt, size int64, keep func(path string) bool) (*Image, error) {
	x := newExtractor(keep)
	segments, err := x.segments(r, size)
	if err != nil {
		return nil, err
	}
	return &Image{Segments: segments, root: x.root}, nil
}

// Files is every entry by its path without a leading slash and without symbolic links on the way: in an image whose lib
// is a link to usr/lib, lib/udev is usr/lib/udev.
func (i *Image) Files() map[string]Entry {
	all := map[string]Entry{}
	i.root.walk("", func(path string, n *node) { all[path] = n.entry() })
	return all
}

// Lookup finds what a program in the booted image would see at path, following symbolic links.
func (i *Image) Lookup(path string) (Entry, bool) {
	n := i.root.lookup(path)
	if n == nil {
		return Entry{}, false
	}
	return n.entry(), true
}

// List is the names in a folder, sorted; nil if there is no such folder.
func (i *Image) List(folder string) []string {
	n := i.root.lookup(folder)
	if n == nil || n.children == nil {
		return nil
	}
	return n.names()
}
