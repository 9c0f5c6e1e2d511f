package vm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

// keep is how many entries of one name the cache holds: an older source tree's stay usable for a while.
const keep = 3

// key is a short hash of what an entry is made from.
func key(parts ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprintf("%#v", parts)))
	return fmt.Sprintf("%x", sum[:6])
}

// entry returns the directory of the cache entry name with key, which build fills if it is not there. Of several
// processes that want the same entry one builds and the others wait.
func (l *Lab) entry(ctx context.Context, name, key string, build func(dir string) error) (string, error) {
	unlock, err := lock(ctx, filepath.Join(l.cache, name+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	dir := filepath.Join(l.cache, name+"-"+key)
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err == nil {
		return dir, nil
	}
	l.log("build %s (%s)", name, key)
	unfinished := dir + ".part"
	if err := os.RemoveAll(unfinished); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	if err := os.Mkdir(unfinished, 0o755); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	if err := build(unfinished); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	l.log("built %s in %.1f s", name, time.Since(now).Seconds())
	return dir, l.prune(name)
}

// prune removes the entries of name that were used longest ago.
func (l *Lab) prune(name string) error {
	dirs, err := filepath.Glob(filepath.Join(l.cache, name+"-????????????"))
	if err != nil {
		return err
	}
	used := map[string]time.Time{}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		used[dir] = info.ModTime()
	}
	sort.Slice(dirs, func(i, j int) bool { return used[dirs[i]].After(used[dirs[j]]) })
	for _, dir := range dirs[min(keep, len(dirs)):] {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("prune the cache: %w", err)
		}
	}
	return nil
}

// lock takes the lock file at path, waiting for another process as long as ctx allows.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	got := make(chan error, 1)
	go func() {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		for errors.Is(err, unix.EINTR) {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		got <- err
	}()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() { <-got; f.Close() }()
		return nil, fmt.Errorf("wait for the lock %s: %w", path, ctx.Err())
	}
}
