package initrd

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/u-root/u-root/pkg/cpio"
)

// Archive is an initramfs that a boot loader can load after another one: the kernel unpacks one after the other
// (init/initramfs.c, Linux 6.12). It holds files, by path, which root alone can read, and folders, with those above them,
// and is not compressed. The same arguments make the same bytes.
func Archive(files map[string][]byte, folders ...string) ([]byte, error) {
	parents := map[string]bool{}
	add := func(dir string) {
		for ; dir != "." && dir != "/"; dir = path.Dir(dir) {
			parents[dir] = true
		}
	}
	for _, dir := range folders {
		add(dir)
	}
	for name := range files {
		add(path.Dir(name))
	}
	var records []cpio.Record
	for _, dir := range slices.Sorted(maps.Keys(parents)) { // each after the one that it is in
		records = append(records, cpio.Directory(dir, 0o755))
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		records = append(records, cpio.StaticFile(name, string(files[name]), 0o600))
	}
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
