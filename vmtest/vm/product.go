package vm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// agent builds the guests' agent, in the cache and once, and returns its path.
func (l *Lab) agent(ctx context.Context) (string, error) {
	l.build.Lock()
	defer l.build.Unlock()
	var err error
	if l.built == "" {
		l.built, err = l.goBuild(ctx, filepath.Join(l.cache, "bin-"+key(l.module)), "vmtest/agent")
	}
	return l.built, err
}

// The programs where a guest has them.
const (
	earlyProgram  = "/usr/sbin/mdclone-early"
	genProgram    = "/usr/sbin/mdclone-gen"
	rescueProgram = "/usr/lib/mdclone/mdclone-rescue"
)

// Product builds the programs into dir and returns them as they are put into a guest.
func (l *Lab) Product(ctx context.Context, dir string) ([]File, error) {
	var files []File
	for _, path := range []string{earlyProgram, genProgram, rescueProgram} {
		host, err := l.goBuild(ctx, dir, "cmd/"+filepath.Base(path))
		if err != nil {
			return nil, err
		}
		files = append(files, File{Path: path, Mode: 0o755, Host: host})
	}
	return files, nil
}

// Helper builds vmtest's own program of that name into dir and returns it as it is put into a guest.
func (l *Lab) Helper(ctx context.Context, dir, name string) (File, error) {
	host, err := l.goBuild(ctx, dir, "vmtest/"+name)
	return File{Path: "/usr/sbin/" + name, Mode: 0o755, Host: host}, err
}

// goBuild builds the command in the module's directory pkg, static, into dir.
func (l *Lab) goBuild(ctx context.Context, dir, pkg string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, filepath.Base(pkg))
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	_, err = output(ctx, "env", "-C", l.module, "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64",
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "./"+pkg)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", pkg, err)
	}
	return path, nil
}
