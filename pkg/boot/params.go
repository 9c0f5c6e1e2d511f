package boot

import (
	"errors"
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
	off    bool
	wait   string // of mdclone.wait, "" if it is not given
	backup bool
	// until is when a request for a backup ends, in seconds since 1970, and 0 for never: a boot loader that cannot forget
	// its choice would make one at each boot.
	until     int64
	cloneWait time.Duration // how long the clone drive is waited for
	verify    config.Verify // "" for what is configured, or is called for
	again     string        // why a backup that the parameters ask for is not meant
}

const (
	cloneWaitDefault = time.Minute
	cloneWaitMost    = time.Hour
	// untilMost is how far ahead until may lie; the clock is wrong where it is further.
	untilMost = 24 * time.Hour
)

// expired says why a backup that is asked for is not made any more; "" if it is.
func (p params) expired(now time.Time) string {
	left := time.Unix(p.until, 0).Sub(now)
	switch {
	case p.again != "":
		return p.again
	case p.until == 0 || left >= 0 && left <= untilMost:
		return ""
	case left < 0:
		return "the choice to make a clone at boot was for an earlier boot"
	}
	return "the clock is wrong, or the choice to make a clone at boot was for a later one"
}

func readParams(root string) (params, error) {
	p := params{cloneWait: cloneWaitDefault}
	text, err := os.ReadFile(filepath.Join(root, "proc/cmdline"))
	if err != nil {
		return p, err
	}
	var errs []error
	again, chosen := "", false
	for _, word := range config.KernelParams(string(text)) {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			continue
		}
		// as udev, whose rule holds the arrays, reads it (proc-cmdline.c, systemd 252)
		value = strings.Trim(value, `"'`)
		var err error
		switch key {
		case "mdclone":
			p.off, p.backup = value == "off", value == "backup"
		case crashKernel:
			again = "a kernel that crashed"
		case "mdclone.wait":
			p.wait = value
			if value == "" || value == "0" || value == "never" {
				continue
			}
			if _, err = config.ParseBootWait(value); err != nil {
				p.wait = ""
			}
		case "mdclone.clone-wait":
			p.cloneWait, err = parseCloneWait(value)
		case "mdclone.verify":
			p.verify, err = config.ParseVerify(value)
		case "mdclone.until":
			chosen = true
			if value == "" {
				continue // a boot loader's variable that is not set
			}
			if p.until, err = strconv.ParseInt(value, 10, 64); err != nil || p.until < 1 {
				p.until, err = 1, fmt.Errorf("%q is no time in seconds since 1970", value)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("kernel parameter %s: %w", key, err))
		}
	}
	if again == "" && chosen && kexeced(root) { // a loader that starts all kernels so has not this choice
		again = "kexec"
	}
	if p.backup && again != "" {
		p.again = "no clone is made: " + again + " has started this kernel, with the parameters of another one"
	}
	return p, errors.Join(errs...)
}

// crashKernel is the parameter that a kernel has which was started when another one crashed, with its parameters
// (Documentation/admin-guide/kdump/kdump.rst).
const crashKernel = "elfcorehdr"

// kexeced tells whether kexec has started the kernel, past the boot loader that forgets a choice: x86 has the loader's type, of which
// kexec's is 0xd (Documentation/arch/x86/boot.rst, type_of_loader).
func kexeced(root string) bool {
	text, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/bootloader_type"))
	if err != nil {
		return false
	}
	kind, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && kind>>4 == 0xd
}

func parseCloneWait(text string) (time.Duration, error) {
	n, err := strconv.Atoi(text)
	if d := time.Duration(n) * time.Second; err == nil && d >= 0 && d <= cloneWaitMost {
		return d, nil
	}
	return cloneWaitDefault, fmt.Errorf("%q is no number of seconds from 0 to %d", text, int(cloneWaitMost.Seconds()))
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
