package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"mdclone/pkg/config"
)

// params are the kernel's parameters that count here.
type params struct {
	off  bool
	wait string // of mdclone.wait, "" if it is not given
}

func readParams(root string) (params, error) {
	var p params
	text, err := os.ReadFile(filepath.Join(root, "proc/cmdline"))
	if err != nil {
		return p, err
	}
	for _, word := range strings.Fields(string(text)) {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "mdclone":
			p.off = value == "off"
		case "mdclone.wait":
			p.wait = value
		}
	}
	if p.wait == "" || p.wait == "0" || p.wait == "never" {
		return p, nil
	}
	if _, err := config.ParseBootWait(p.wait); err != nil {
		p.wait = ""
		return p, fmt.Errorf("kernel parameter mdclone.wait: %w", err)
	}
	return p, nil
}

// patience is how long the primaries of an array are waited for; ok is false for never.
func (b *Boot) patience(conf config.Array) (d time.Duration, ok bool) {
	seconds, ok := conf.BootWait.Seconds()
	switch b.params.wait {
	case "":
	case "never":
		ok = false
	default:
		n, err := strconv.Atoi(b.params.wait)
		seconds, ok = n, err == nil
	}
	return time.Duration(seconds) * time.Second, ok
}

func (b *Boot) waitText(conf config.Array) string {
	d, _ := b.patience(conf)
	return fmt.Sprintf("up to %d s", int(d.Seconds()))
}
