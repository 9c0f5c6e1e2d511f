package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Start starts a virtual machine and waits until its agent is up.
func (l *Lab) Start(ctx context.Context, c Config) (*VM, error) {
	return l.begin(ctx, c, (*VM).Ready)
}

// Launch starts a virtual machine and returns once its initramfs is at work, or may be.
func (l *Lab) Launch(ctx context.Context, c Config) (*VM, error) {
	return l.begin(ctx, c, (*VM).unpacked)
}

// begin starts a virtual machine and waits until it is as far as there tells; once more where the emulator failed before that.
func (l *Lab) begin(ctx context.Context, c Config, there func(*VM, context.Context) error) (*VM, error) {
	for again := 2; ; again-- {
		v, err := l.launch(ctx, c)
		if err != nil {
			return nil, err
		}
		if err = there(v, ctx); err == nil {
			return v, nil
		}
		if again == 0 || !crashedByEmulator(v.Console()) {
			l.log("console:\n%s", v.Console())
			return nil, errors.Join(err, v.Close())
		}
		l.log("QEMU has crashed the kernel; once more")
		if err := v.Close(); err != nil {
			return nil, err
		}
	}
}

// crashedByEmulator tells whether the kernel met a breakpoint of its own that was gone already, in a thread of its own, or
// could not unpack what it could at other times: QEMU before 8.1 (Debian 12 has 7.2) may translate code that another processor
// is changing (accel/tcg: "Always lock pages before translation").
func crashedByEmulator(console string) bool {
	const unpacking = "Initramfs unpacking failed: "
	breakpoint := strings.Contains(console, "Oops: int3") &&
		(strings.Contains(console, "Comm: swapper/") || strings.Contains(console, "Comm: kworker/"))
	return breakpoint || strings.Contains(console, unpacking)
}

// unpackedAtMost is many times what the kernel takes to its first program.
const unpackedAtMost = 20 * time.Second

// diskStats is what QEMU tells of a disk's use.
type diskStats struct {
	Stats struct {
		Reads int `json:"rd_operations"`
	} `json:"stats"`
}

func (d diskStats) read() bool { return d.Stats.Reads > 0 }

// unpacked waits until a disk was read, which is when programs of the initramfs have found it. That is not announced, and where
// there is no disk, or a prompt before it is looked for, it does not happen: then the machine is left to whoever wants it.
func (v *VM) unpacked(ctx context.Context) error {
	for end := time.Now().Add(unpackedAtMost); time.Now().Before(end); {
		answer, err := v.monitor.do(ctx, "query-blockstats", nil)
		var disks []diskStats
		if err == nil {
			err = json.Unmarshal(answer, &disks)
		}
		if err == nil && crashedByEmulator(v.Console()) {
			err = errors.New("the kernel is hurt")
		}
		if err != nil {
			return fmt.Errorf("boot: %w", v.why(err))
		}
		if len(disks) == 0 || slices.ContainsFunc(disks, diskStats.read) {
			return nil
		}
		select {
		case <-v.done:
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// launch starts a virtual machine and returns at once.
func (l *Lab) launch(ctx context.Context, c Config) (*VM, error) {
	if c.Firmware {
		if len(c.Files) > 0 || len(c.Args) > 0 || len(c.Load) > 0 {
			return nil, errors.New("boot: a machine that starts by itself takes no files, parameters or modules")
		}
	} else if c.Image == (Image{}) {
		var err error
		if c, err = l.bareConfig(ctx, c); err != nil {
			return nil, err
		}
	}
	if len(c.Files) > 0 {
		layers := []string{c.Image.Initrd}
		if c.Fio {
			layers = append(layers, c.Image.fioLayer())
		}
		c.Image.Initrd = filepath.Join(c.Dir, "initrd")
		if err := layOver(layers, c.Files, c.Image.Initrd); err != nil {
			return nil, err
		}
	}
	args, err := qemuArgs(c, l.accel)
	if err != nil {
		return nil, err
	}
	v, err := launch(args, l.log)
	if err != nil {
		return nil, err
	}
	if _, err := v.monitor.do(ctx, "qmp_capabilities", nil); err != nil {
		return nil, joinClose(fmt.Errorf("boot: %w", err), v)
	}
	return v, nil
}

// bareConfig adds to c what makes it a bare guest.
func (l *Lab) bareConfig(ctx context.Context, c Config) (Config, error) {
	if c.Suite == "" {
		c.Suite = "bookworm"
	}
	var err error
	if c.Image, err = l.Guest(ctx, c.Suite); err != nil {
		return c, err
	}
	agent, err := l.agent(ctx)
	if err != nil {
		return c, err
	}
	load := slices.Clone(c.Load)
	if c.has(SCSI) {
		load = append(load, "virtio_scsi", "sd_mod")
	}
	if c.has(USB) {
		load = append(load, "xhci_pci", "usb_storage", "sd_mod")
	}
	c.Files = append([]File{
		{Path: "/init", Mode: 0o755, Host: agent},
		{Path: "/mods/more", Data: []byte(strings.Join(load, "\n"))},
	}, c.Files...)
	c.Args = append([]string{"loglevel=4", "ipv6.disable=1", "apparmor=0"}, c.Args...)
	return c, nil
}

// layOver writes one initramfs to path: the layers, and files over them. Each begins at a multiple of four bytes, as the
// kernel wants it.
func layOver(layers []string, files []File, path string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	for _, layer := range layers {
		if err := appendFile(out, layer); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	if err := overlay(out, files); err != nil {
		return errors.Join(fmt.Errorf("lay over %s: %w", layers[0], err), out.Close())
	}
	return out.Close()
}

func appendFile(out io.Writer, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.Copy(out, in)
	if err == nil {
		_, err = out.Write(make([]byte, -n&3))
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	return nil
}
