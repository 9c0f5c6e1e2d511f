package vm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"mdclone/pkg/sysroot"
)

// stage is a root directory that is filled from a tree and then packed.
type stage struct {
	dir string
	sysroot.Cutter
}

// newStage fills dir from tree.
func newStage(tree, dir string) *stage {
	s := &stage{dir: dir}
	s.Tree, s.Link, s.Done = tree, s.link, map[string]bool{}
	s.Copy = func(from, to string) error { return copyFile(from, filepath.Join(dir, to)) }
	return s
}

// write makes a file of its own.
func (s *stage) write(path, text string) error {
	path = filepath.Join(s.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// link makes a symbolic link at path; one that is there, or a file, stays.
func (s *stage) link(to, path string) error {
	path = filepath.Join(s.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(to, path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// pack writes the stage to w as a cpio archive in the format of the kernel's initramfs.
func (s *stage) pack(w io.Writer) error {
	out, recorder := cpio.Newc.Writer(w), cpio.NewRecorder()
	err := filepath.WalkDir(s.dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == s.dir {
			return err
		}
		rec, err := recorder.GetRecord(path)
		if err != nil {
			return err
		}
		rec.Name = strings.TrimPrefix(path, s.dir+"/")
		rec.UID, rec.GID = 0, 0
		return out.WriteRecord(cpio.MakeReproducible(rec))
	})
	if err != nil {
		return fmt.Errorf("pack %s: %w", s.dir, err)
	}
	return cpio.WriteTrailer(out)
}

// File is a file that is laid over a guest's initramfs.
type File struct {
	Path string // absolute, in the guest
	Mode uint32 // permission bits; 0 means 0644
	Host string // the file on the host whose content it has, or "" for Data
	Data []byte
}

func (f File) mode() uint32 {
	if f.Mode == 0 {
		return 0o644
	}
	return f.Mode
}

// load is f with its content in Data.
func (f File) load() (File, error) {
	if f.Host == "" {
		return f, nil
	}
	data, err := os.ReadFile(f.Host)
	if err != nil {
		return f, fmt.Errorf("file %s: %w", f.Path, err)
	}
	f.Data, f.Host = data, ""
	return f, nil
}

// loadAll is files with their content, and a hash of all of it.
func loadAll(files []File) (loaded []File, sum string, err error) {
	h := sha256.New()
	for _, f := range files {
		if f, err = f.load(); err != nil {
			return nil, "", err
		}
		loaded = append(loaded, f)
		fmt.Fprintf(h, "%q %o %d\n%s", f.Path, f.mode(), len(f.Data), f.Data)
	}
	return loaded, fmt.Sprintf("%x", h.Sum(nil)), nil
}

// overlay writes files to w as one more cpio archive; the kernel unpacks it over the one before.
func overlay(w io.Writer, files []File) error {
	out := cpio.Newc.Writer(w)
	made := map[string]bool{".": true}
	for _, f := range files {
		f, err := f.load()
		if err != nil {
			return err
		}
		path := sysroot.Merged(f.Path)
		if err := parents(out, filepath.Dir(path), made); err != nil {
			return err
		}
		if err := out.WriteRecord(cpio.StaticFile(path, string(f.Data), uint64(f.mode()))); err != nil {
			return fmt.Errorf("pack %s: %w", f.Path, err)
		}
	}
	return cpio.WriteTrailer(out)
}

// parents writes dir and what is above it, which the kernel does not make by itself.
func parents(out cpio.RecordWriter, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	made[dir] = true
	if err := parents(out, filepath.Dir(dir), made); err != nil {
		return err
	}
	return out.WriteRecord(cpio.Directory(dir, 0o755))
}

// copyFile copies content and permission bits, and makes the directories above.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return errors.Join(out.Close(), os.Chtimes(to, time.Time{}, info.ModTime()))
}
