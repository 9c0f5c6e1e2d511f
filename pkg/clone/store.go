package clone

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// writeDurably replaces a file by text so that after a power cut either the old or the new one is there, and the new one
// once this has returned.
func writeDurably(path string, text []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := renameio.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	return syncDir(dir)
}

// removeDurably removes a file; one that is not there is removed already.
func removeDurably(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename or removal in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
