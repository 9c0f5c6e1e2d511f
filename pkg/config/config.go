// Package config reads and writes /etc/mdclone/NAME.conf: one file an array, INI, read by both programs and embedded in
// the initramfs.
//
//	array = 8e5c6b62:12345678:9abcdef0:12345678
//	clone = 0f0e0d0c:0b0a0908:07060504:03020100
//	max-sectors-kb = auto
//	clone-max-sectors-kb = 1280
//	verify = changed
//	boot-wait = 20
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"github.com/jessevdk/go-flags"

	"mdclone/pkg/md"
)

// MaxSectorsAuto stands for "max-sectors-kb = auto": the smallest limit among the members and the recorded clones.
const MaxSectorsAuto = 0

// Verify is how much is compared after a sync.
type Verify string

// The values of "verify =" and --verify.
const (
	VerifyNone    Verify = "none"    // nothing
	VerifyChanged Verify = "changed" // what the sync copied
	VerifyFull    Verify = "full"    // the whole mirror
)

// Array is one configured array.
type Array struct {
	Name              string    // the file's name without .conf
	UUID              md.UUID   // the array's
	Clones            []md.UUID // device UUIDs of the recorded clone drives; may be empty
	MaxSectorsKB      uint64    // KiB; MaxSectorsAuto if not fixed by the user
	CloneMaxSectorsKB uint64    // KiB; the smallest limit seen on a clone drive when it was adopted; 0 if unknown
	Verify            Verify    // default of backup's --verify
	BootWait          BootWait
}

// BootWait is how long the initramfs waits for an array's primaries while its clone is there: seconds, or BootWaitNever.
// 0 is the default.
type BootWait int

// BootWaitNever means that the clone alone is never started by itself.
const BootWaitNever BootWait = -1

const (
	bootWaitDefault = 20
	bootWaitMost    = 600
)

// Seconds is how long to wait; ok is false for never.
func (w BootWait) Seconds() (seconds int, ok bool) {
	switch {
	case w == BootWaitNever:
		return 0, false
	case w == 0:
		return bootWaitDefault, true
	}
	return int(w), true
}

// ParseBootWait reads "never" or a number of seconds from 1 to 600.
func ParseBootWait(s string) (BootWait, error) {
	switch s {
	case "":
		return 0, nil
	case "never":
		return BootWaitNever, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > bootWaitMost {
		return 0, fmt.Errorf("%q is neither never nor a number of seconds from 1 to %d", s, bootWaitMost)
	}
	return BootWait(n), nil
}

// HasClone tells whether u is one of the recorded clones.
func (a Array) HasClone(u md.UUID) bool { return slices.Contains(a.Clones, u) }

// PinKB is the limit that can be written before the members are known (udev's ATTR line): the user's own, else the
// clone's, else 0 for "only the program can tell".
func (a Array) PinKB() uint64 {
	if a.MaxSectorsKB != MaxSectorsAuto {
		return a.MaxSectorsKB
	}
	return a.CloneMaxSectorsKB
}

// Load reads every NAME.conf below root, sorted by name. No directory or no file is an empty list, not an error. Two
// files for one array are an error, and so is one clone in two: each is a member of one array.
func Load(root string) ([]Array, error) {
	all, errs := LoadEach(root)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return all, nil
}

// sizeMax is more than any configuration takes, in bytes.
const sizeMax = 64 << 10

// read reads a plain file. What is none is not waited for (a pipe) or read without an end (a device).
func read(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no plain file", name)
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, sizeMax+1))
	if err == nil && len(text) > sizeMax {
		err = fmt.Errorf("%s is larger than %d KiB", name, sizeMax>>10)
	}
	if err == nil && bytes.ContainsRune(text, 0) {
		err = fmt.Errorf("%s is no text", name)
	}
	// what some editors put before the text
	return bytes.TrimPrefix(text, []byte("\ufeff")), err
}

// ini is the file as go-flags sees it; text, so that our own errors say what is wrong.
type ini struct {
	Array             []string `long:"array"`
	Clone             []string `long:"clone"`
	MaxSectorsKB      string   `long:"max-sectors-kb"`
	CloneMaxSectorsKB string   `long:"clone-max-sectors-kb"`
	Verify            string   `long:"verify"`
	BootWait          string   `long:"boot-wait"`
}

// Parse reads one file's text.
func Parse(name string, text []byte) (Array, error) {
	if err := CheckName(name); err != nil {
		return Array{}, err
	}
	var f ini
	parser := flags.NewNamedParser("mdclone", flags.None)
	if _, err := parser.AddGroup("mdclone", "", &f); err != nil {
		return Array{}, err
	}
	if err := flags.NewIniParser(parser).Parse(bytes.NewReader(text)); err != nil {
		var at *flags.IniError
		if errors.As(err, &at) {
			return Array{}, fmt.Errorf("line %d: %s", at.LineNumber, at.Message)
		}
		return Array{}, err
	}
	return f.array(name)
}

func (f ini) array(name string) (Array, error) {
	a := Array{Name: name, Verify: VerifyChanged}
	var err error
	switch len(f.Array) {
	case 1:
		if a.UUID, err = md.ParseUUID(f.Array[0]); err != nil {
			return Array{}, fmt.Errorf("array: %w", err)
		}
	case 0:
		return Array{}, errors.New("no \"array = UUID\" line")
	default:
		return Array{}, errors.New("more than one \"array =\" line; one file is one array")
	}
	for _, text := range f.Clone {
		u, err := md.ParseUUID(text)
		if err != nil {
			return Array{}, fmt.Errorf("clone: %w", err)
		}
		if a.HasClone(u) {
			return Array{}, fmt.Errorf("clone: %s is given twice", u)
		}
		a.Clones = append(a.Clones, u)
	}
	if a.MaxSectorsKB, err = kb("max-sectors-kb", f.MaxSectorsKB); err != nil {
		return Array{}, err
	}
	if a.CloneMaxSectorsKB, err = kb("clone-max-sectors-kb", f.CloneMaxSectorsKB); err != nil {
		return Array{}, err
	}
	if f.Verify != "" {
		if a.Verify, err = ParseVerify(f.Verify); err != nil {
			return Array{}, err
		}
	}
	if a.BootWait, err = ParseBootWait(f.BootWait); err != nil {
		return Array{}, fmt.Errorf("boot-wait: %w", err)
	}
	return a, nil
}

// ParseVerify reads "none", "changed" or "full".
func ParseVerify(s string) (Verify, error) {
	switch v := Verify(s); v {
	case VerifyNone, VerifyChanged, VerifyFull:
		return v, nil
	}
	return "", fmt.Errorf("verify: %q is not none, changed or full", s)
}

// ParseKB reads a limit in KiB, or "auto". The kernel refuses less than a page (block/blk-sysfs.c,
// queue_max_sectors_store, Linux 6.12).
func ParseKB(s string) (uint64, error) {
	if s == "" || s == "auto" {
		return MaxSectorsAuto, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n < 4 {
		return 0, fmt.Errorf("%q is neither auto nor a number of KiB from 4 on", s)
	}
	return n, nil
}

func kb(key, s string) (uint64, error) {
	n, err := ParseKB(s)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", key, err)
	}
	return n, nil
}

// CheckName refuses a NAME that is not a plain file name of letters, digits, dot, dash and underscore.
func CheckName(name string) error {
	if name == "" || len(name) > 64 || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") {
		return fmt.Errorf("%q is not a name for an array (1 to 64 letters, digits, . - _)", name)
	}
	for _, r := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r) {
			return fmt.Errorf("%q is not a name for an array (1 to 64 letters, digits, . - _)", name)
		}
	}
	return nil
}

// Text is the file that Parse reads back.
func (a Array) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: written by mdclone-early adopt; may be edited, then run mdclone-gen install\n", a.Name)
	fmt.Fprintf(&b, "array = %s\n", a.UUID)
	for _, u := range a.Clones {
		fmt.Fprintf(&b, "clone = %s\n", u)
	}
	limit := "auto"
	if a.MaxSectorsKB != MaxSectorsAuto {
		limit = strconv.FormatUint(a.MaxSectorsKB, 10)
	}
	fmt.Fprintf(&b, "max-sectors-kb = %s\n", limit)
	if a.CloneMaxSectorsKB != 0 {
		fmt.Fprintf(&b, "clone-max-sectors-kb = %d\n", a.CloneMaxSectorsKB)
	}
	fmt.Fprintf(&b, "verify = %s\n", a.Verify)
	switch a.BootWait {
	case 0:
	case BootWaitNever:
		b.WriteString("boot-wait = never\n")
	default:
		fmt.Fprintf(&b, "boot-wait = %d\n", a.BootWait)
	}
	return b.Bytes()
}

// Save writes NAME.conf below root, atomically. One that is there keeps its mode.
func (a Array) Save(root string) error {
	return a.write(root, (*renameio.PendingFile).CloseAtomicallyReplace)
}

// Create is Save for an array that has none yet: a file that is there is left alone, and the error is fs.ErrExist.
func (a Array) Create(root string) error {
	return a.write(root, func(f *renameio.PendingFile) error {
		if err := f.Sync(); err != nil {
			return err
		}
		err := os.Link(f.Name(), filepath.Join(root, Dir, a.Name+".conf"))
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) { // a file system without links
			return f.CloseAtomicallyReplace()
		}
		return err
	})
}

// write makes the file, whatever the umask: every user may read what is configured.
func (a Array) write(root string, place func(*renameio.PendingFile) error) error {
	if err := CheckName(a.Name); err != nil {
		return err
	}
	dir := filepath.Join(root, Dir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
			return err
		}
	}
	f, err := renameio.NewPendingFile(filepath.Join(dir, a.Name+".conf"), renameio.WithTempDir(dir), renameio.WithPermissions(0o644),
		renameio.WithExistingPermissions(), renameio.IgnoreUmask())
	if err != nil {
		return err
	}
	if _, err = f.Write(a.Text()); err == nil {
		err = place(f)
	}
	return errors.Join(err, f.Cleanup())
}
