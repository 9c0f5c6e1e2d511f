package clone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// Lock makes this the only process that works on an array. A lock on the array's own node would do without a file, but
// an open node makes "readonly" answer EBUSY.
func (e *Env) Lock(array md.UUID) (unlock func(), err error) {
	if err := os.MkdirAll(e.RunDir(), 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(e.RunDir(), "lock-"+strings.ReplaceAll(array.String(), ":", ""))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		owner := make([]byte, 16)
		n, _ := f.ReadAt(owner, 0)
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, report.Fail(report.Refused, "locked", "another mdclone-early works on array %s (process %s)", array,
				strings.TrimSpace(string(owner[:n])))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// the number is for the message above only; a full /run is no reason to stop
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return func() { _ = f.Close() }, nil
}
