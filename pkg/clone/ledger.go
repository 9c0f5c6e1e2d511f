package clone

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Entry is what the ledger remembers of one clone: the second line of defence behind what the disks themselves say. It
// may be missing (rescue, early boot) or have been put back with the file system it lies in.
type Entry struct {
	Clone     md.UUID `json:"clone"`
	Array     md.UUID `json:"array"`
	FirstCopy bool    `json:"first_copy"` // the first full copy has finished
	Attached  bool    `json:"attached"`   // it was let into the array and has not left in good order since
	// Joined names that stay in the array, see Env.stay: of another one nothing is known.
	Joined   string `json:"joined,omitempty"`
	Complete bool   `json:"complete"` // it held all data when it left
	// DetachedAt is when it last left, or zero.
	DetachedAt    time.Time     `json:"detached_at"`
	Slot          int           `json:"slot"`
	Events        uint64        `json:"events"`         // of the clone's superblock
	Updated       uint64        `json:"updated"`        // its utime
	Super         []byte        `json:"superblock"`     // its 4 KiB
	EventsCleared uint64        `json:"events_cleared"` // of the primaries' bitmap
	ChunkBytes    uint32        `json:"chunk_bytes"`    // of that bitmap
	Dirty         []md.Range    `json:"dirty"`          // chunks that stay dirty until it is back: the canary
	DirtyBytes    uint64        `json:"dirty_bytes"`    // marked changed when it left, though it had it: another clone was away
	Verified      config.Verify `json:"verified"`
	// Doubt is why all of it must be compared before it counts as a clone again; "" for none. It stays until a
	// comparison of everything has found no difference.
	Doubt string `json:"doubt"`
}

// Untouched tells whether a drive's superblock is byte for byte what it was when the drive left.
func (e *Entry) Untouched(m *md.Member) bool {
	return !e.Attached && bytes.Equal(e.Super, m.Raw)
}

// stay names a drive's present stay in the array: the boot, and the inode of its directory there, of which each member gets
// a new one (fs/kernfs/dir.c, kernfs_ino, Linux 6.12).
func (e *Env) stay(a md.Array, name string) (string, error) {
	boot, err := os.ReadFile(filepath.Join(e.Root, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return "", err
	}
	var dir unix.Stat_t
	if err := unix.Stat(e.FS.Path(a.Attr("dev-"+name)), &dir); err != nil {
		return "", fmt.Errorf("%s in %s: %w", name, a.Name, err)
	}
	return fmt.Sprintf("%s-%d", bytes.TrimSpace(boot), dir.Ino), nil
}

// ledgerDamaged is the reason of an entry that cannot be read as one.
const ledgerDamaged = "ledger-damaged"

func (e *Env) entryPath(u md.UUID) string {
	return filepath.Join(e.VarDir(), config.LedgerDir, u.Hex()+".json")
}

// entry reads a clone's entry; nil without one.
func (e *Env) entry(u md.UUID) (*Entry, error) {
	return readEntry(e.entryPath(u), u)
}

// readEntry reads one from a file; nil if there is none.
func readEntry(name string, u md.UUID) (*Entry, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	x, err := decodeEntry(text, u)
	if err != nil {
		return nil, report.Fail(report.Failed, ledgerDamaged, "what is recorded of clone %s cannot be read: %s: %w", u, name, err).
			Hint("rm %s (that clone is then compared in full when it is back)", name)
	}
	return x, nil
}

// decodeEntry reads the text of the entry of clone u.
func decodeEntry(text []byte, u md.UUID) (*Entry, error) {
	var x Entry
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, err
	}
	if x.Clone != u {
		return nil, fmt.Errorf("is about another drive, %s", x.Clone)
	}
	for _, r := range x.Dirty {
		if r.Last < r.First || r.Last == math.MaxUint64 {
			return nil, fmt.Errorf("chunks %d to %d are no range", r.First, r.Last)
		}
	}
	return &x, nil
}

// mayRecord makes sure, before anything is changed, that the ledger can be written.
func (e *Env) mayRecord() error {
	// as large as all that a run writes, with what a file system takes for itself
	return e.mayWrite("no-ledger", filepath.Join(e.VarDir(), config.LedgerDir), 64<<10)
}

// mayConfigure is mayRecord for the configuration.
func (e *Env) mayConfigure() error {
	return e.mayWrite("no-configuration", filepath.Join(e.Root, config.Dir), 4<<10)
}

// mayWrite refuses where no file of that size can be written in dir.
func (e *Env) mayWrite(code, dir string, size int) error {
	probe := filepath.Join(dir, ".probe")
	if err := errors.Join(writeDurably(probe, make([]byte, size)), removeDurably(probe)); err != nil {
		refusal := report.Fail(report.Refused, code, "what happens to the clone cannot be recorded: %w", err)
		if errors.Is(err, unix.EROFS) { // as in an emergency shell
			return refusal.Hint("mount what holds %s read-write, as mount -o remount,rw / does with the root file system", dir)
		}
		return refusal.Hint("make sure that %s can be written, and has room", dir)
	}
	return nil
}

// record writes a clone's entry, atomically and through to the disk.
func (e *Env) record(x Entry) error {
	text, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return err
	}
	return writeDurably(e.entryPath(x.Clone), append(text, '\n'))
}
