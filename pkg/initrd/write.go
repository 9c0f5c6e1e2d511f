package initrd

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/u-root/u-root/pkg/cpio"
)

// Archive is an initramfs that a boot loader can load after another one: the kernel unpacks one after the other
// (init/initramfs.c, Linux 6.12). It holds files, by path, which root alone can read, and folders, with those above them,
// and is not compressed. The same arguments make the same bytes.
func Archive(files map[string][]byte, folders ...string) ([]byte, error) {
	entries := map[string]Entry{}
	for _, dir := range folders {
		entries[dir] = Entry{Mode: fs.ModeDir | 0o755}
	}
	for name, data := range files {
		entries[name] = Entry{Mode: 0o600, Data: data}
	}
	return Pack(entries)
}

// Pack is an archive, not compressed, of entries by path: folders, links (Target) and files (Data), and the folders that they
// are in. The same entries make the same bytes.
func Pack(entries map[string]Entry) ([]byte, error) {
	all := maps.Clone(entries)
	for name := range entries {
		for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = Entry{Mode: fs.ModeDir | 0o755}
			}
		}
	}
	var folders, rest []cpio.Record // the kernel drops what is in a folder that is not there yet
	for _, name := range slices.Sorted(maps.Keys(all)) {
		e := all[name]
		switch perm := uint64(e.Mode.Perm()); {
		case e.Mode.IsDir():
			folders = append(folders, cpio.Directory(name, perm))
		case e.Mode.Type() == fs.ModeSymlink:
			rest = append(rest, cpio.Symlink(name, e.Target))
		case e.Mode.IsRegular():
			rest = append(rest, cpio.StaticFile(name, string(e.Data), perm))
		default:
			return nil, fmt.Errorf("make an archive: %s is a %v", name, e.Mode)
		}
	}
	records := append(folders, rest...)
	for i := range records {
		records[i] = cpio.MakeReproducible(records[i])
		records[i].Ino = uint64(i + 1)
	}
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	err := cpio.WriteRecords(w, records)
	if err == nil {
		err = cpio.WriteTrailer(w)
	}
	if err != nil {
		return nil, fmt.Errorf("make an archive: %w", err)
	}
	return b.Bytes(), nil
}
