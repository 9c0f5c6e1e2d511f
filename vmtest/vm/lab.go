package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Lab builds what virtual machines boot from, keeps it in a cache and starts them.
type Lab struct {
	cache  string // directory
	source Source
	accel  string // QEMU's -accel
	module string // root directory of this Go module
	build  sync.Mutex
	built  string // path of the agent, "" before it is built; guarded by build
	log    func(format string, args ...any)
}

// tools are the programs that a lab runs on the host, with the Debian package that has each.
var tools = map[string]string{
	"qemu-system-x86_64": "qemu-system-x86",
	"qemu-img":           "qemu-utils",
	"mmdebstrap":         "mmdebstrap",
	"depmod":             "kmod",
	"mke2fs":             "e2fsprogs",
	"xz":                 "xz-utils",
}

// NewLab makes a lab that tells log what it does. The cache is ${MDCLONE_CACHE}, else mdclone in the user's cache
// directory; the accelerator is ${MDCLONE_ACCEL}, else QEMU's emulation, since a /dev/kvm that exists need not work.
func NewLab(ctx context.Context, log func(format string, args ...any)) (*Lab, error) {
	for tool, pkg := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("virtual machines need %s, in the Debian package %s: %w", tool, pkg, err)
		}
	}
	l := &Lab{cache: os.Getenv("MDCLONE_CACHE"), accel: os.Getenv("MDCLONE_ACCEL"), log: log}
	if l.accel == "" {
		l.accel = "tcg,thread=multi"
	}
	if l.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find the cache: %w", err)
		}
		l.cache = filepath.Join(dir, "mdclone")
	}
	if err := os.MkdirAll(l.cache, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	var err error
	if l.source, err = HostSource(); err != nil {
		return nil, err
	}
	mod, err := output(ctx, "go", "env", "GOMOD")
	if err != nil {
		return nil, err
	}
	if filepath.Base(mod) != "go.mod" {
		return nil, errors.New("find the source: not inside a Go module")
	}
	l.module = filepath.Dir(mod)
	return l, nil
}

// output runs a program on the host and returns what it prints, trimmed; its stderr is part of the error.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(stderr.String(), 4000))
	}
	return strings.TrimSpace(string(out)), nil
}

// tail is the end of s, at most n bytes.
func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}
