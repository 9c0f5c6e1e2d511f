package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"mdclone/pkg/config"
)

// manifestPath is the list of what install wrote, for uninstall.
const manifestPath = config.VarDir + "/installed"

// manifest is that list. Paths are relative to the root.
type manifest struct {
	Comment string          `json:"comment"`
	Files   []manifestEntry `json:"files"`
	Folders []string        `json:"folders"` // that were not there before, outer ones first
}

type manifestEntry struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // of what was written
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// find is the entry of path; nil if install did not write it.
func (l *manifest) find(path string) *manifestEntry {
	i := slices.IndexFunc(l.Files, func(e manifestEntry) bool { return e.Path == path })
	if i < 0 {
		return nil
	}
	return &l.Files[i]
}

// add notes that data is written to path.
func (l *manifest) add(path string, data []byte) {
	if e := l.find(path); e != nil {
		e.SHA256 = sum(data)
		return
	}
	l.Files = append(l.Files, manifestEntry{Path: path, SHA256: sum(data)})
}

// addFolders notes folders that were made.
func (l *manifest) addFolders(made []string) {
	for _, f := range made {
		if !slices.Contains(l.Folders, f) {
			l.Folders = append(l.Folders, f)
		}
	}
	slices.Sort(l.Folders)
}

// manifest reads the list; found is false if there is none.
func (m machine) manifest() (l manifest, found bool, err error) {
	text, err := os.ReadFile(m.path(manifestPath))
	if errors.Is(err, fs.ErrNotExist) {
		return manifest{}, false, nil
	}
	if err != nil {
		return manifest{}, false, err
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return manifest{}, false, fmt.Errorf("read %s: %w", m.path(manifestPath), err)
	}
	for _, e := range l.Files {
		if !fs.ValidPath(e.Path) {
			return manifest{}, false, fmt.Errorf("read %s: %q is not a path below the root", m.path(manifestPath), e.Path)
		}
	}
	for _, f := range l.Folders {
		if !fs.ValidPath(f) {
			return manifest{}, false, fmt.Errorf("read %s: %q is not a path below the root", m.path(manifestPath), f)
		}
	}
	return l, true, nil
}

// save writes the list if it is not there already.
func (m machine) save(l manifest) error {
	made, err := m.mkdirs(config.VarDir)
	l.addFolders(made)
	if err != nil {
		return err
	}
	l.Comment = "what mdclone-gen install wrote; mdclone-gen uninstall removes it"
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if old, err := os.ReadFile(m.path(manifestPath)); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return m.write(manifestPath, text, 0o644)
}
