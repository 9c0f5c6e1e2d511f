package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"mdclone/pkg/initrd"
)

// ledgerDir is what mdclone-early remembers of each clone, in a file NAME.json, below the root.
const ledgerDir = stateDir + "/ledger"

// stateImage is one more initrd with the ledger, below the root: the file system that the ledger is in is not there yet
// when a clone is made before anything runs.
const stateImage = "boot/mdclone-state.img"

// state makes that initrd. One from an older moment does no harm: what does not match the drive is not taken for true.
func (m machine) state() ([]byte, error) {
	entries, err := os.ReadDir(m.path(ledgerDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		name := path.Join(ledgerDir, e.Name())
		if files[name], err = os.ReadFile(m.path(name)); err != nil {
			return nil, err
		}
	}
	return initrd.Archive(files, ledgerDir)
}

// writeState puts it where GRUB finds it.
func (m machine) writeState() error {
	if err := m.inside("boot"); err != nil {
		return err
	}
	data, err := m.state()
	if err != nil {
		return fmt.Errorf("put the ledger into an initrd: %w", err)
	}
	return m.write(stateImage, data, 0o600)
}
