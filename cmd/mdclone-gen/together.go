package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// output is a file that is to be written.
type output struct {
	name string
	data []byte
}

// writeTogether replaces files that are of no use without each other: all are whole and on the disk before the first takes its
// place. What is in them is no secret.
func writeTogether(files []output) (err error) {
	var pending []*renameio.PendingFile
	defer func() { // of those that have taken their places nothing is left to clean
		for _, p := range pending {
			err = errors.Join(err, p.Cleanup())
		}
	}()
	for _, f := range files {
		p, err := renameio.NewPendingFile(f.name, renameio.WithTempDir(filepath.Dir(f.name)), renameio.WithStaticPermissions(0o644))
		if err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
		pending = append(pending, p)
		if _, err = p.Write(f.data); err == nil {
			err = p.Sync()
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	for i, p := range pending {
		if err := p.CloseAtomicallyReplace(); err != nil {
			return fmt.Errorf("write %s: %w", files[i].name, err)
		}
	}
	for _, f := range files {
		if err := syncFile(filepath.Dir(f.name)); err != nil {
			return err
		}
	}
	return nil
}
