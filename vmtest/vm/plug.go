package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"mdclone/vmtest/wire"
)

// Plug attaches d and waits until the guest has it. It returns the guest's name for it, such as vdc.
func (v *VM) Plug(ctx context.Context, d Disk) (string, error) {
	if err := v.Attach(ctx, d); err != nil {
		return "", err
	}
	return v.DiskName(ctx, d.Serial)
}

// Attach plugs d in and does not wait: it works before the guest's agent is up.
func (v *VM) Attach(ctx context.Context, d Disk) error {
	block, err := d.blockdev()
	if err != nil {
		return err
	}
	device, err := d.device()
	if err != nil {
		return err
	}
	if _, err := v.monitor.do(ctx, "blockdev-add", block); err != nil {
		return fmt.Errorf("plug %s: %w", d.Serial, err)
	}
	if _, err := v.monitor.do(ctx, "device_add", device); err != nil {
		return fmt.Errorf("plug %s: %w", d.Serial, err)
	}
	return nil
}

// DiskName waits until the guest has a disk with serial and returns the guest's name for it.
func (v *VM) DiskName(ctx context.Context, serial string) (string, error) {
	f, err := v.agent.do(ctx, wire.Frame{Op: wire.Appear, Path: serial}, nil)
	if err != nil {
		return "", fmt.Errorf("wait for disk %s: %w", serial, err)
	}
	return f.Text, nil
}

// Unplug takes the disk with serial away and waits until the guest has let it go.
func (v *VM) Unplug(ctx context.Context, serial string) error {
	if err := v.Detach(ctx, serial); err != nil {
		return err
	}
	if _, err := v.agent.do(ctx, wire.Frame{Op: wire.Vanish, Path: serial}, nil); err != nil {
		return fmt.Errorf("unplug %s: %w", serial, err)
	}
	return nil
}

// Detach takes the disk with serial away and waits until the guest's kernel has let it go. The agent need not be up.
func (v *VM) Detach(ctx context.Context, serial string) error {
	from := v.monitor.count()
	_, err := v.monitor.do(ctx, "device_del", map[string]any{"id": serial})
	if err == nil {
		_, err = v.monitor.await(ctx, from, func(e Event) bool {
			var data struct {
				Device string `json:"device"`
			}
			return e.Name == "DEVICE_DELETED" && json.Unmarshal(e.Data, &data) == nil && data.Device == serial
		})
	}
	if err == nil {
		_, err = v.monitor.do(ctx, "blockdev-del", map[string]any{"node-name": Disk{Serial: serial}.node()})
	}
	if err != nil {
		return fmt.Errorf("unplug %s: %w", serial, err)
	}
	return nil
}

// AwaitEvent waits for an event of QEMU's with this name, such as BLOCK_IO_ERROR, and returns its data. Events that came
// before the call count too.
func (v *VM) AwaitEvent(ctx context.Context, name string) (json.RawMessage, error) {
	e, err := v.monitor.await(ctx, 0, func(e Event) bool { return e.Name == name })
	if err != nil {
		return nil, fmt.Errorf("wait for %s: %w", name, err)
	}
	return e.Data, nil
}

// ReadFile returns the content of a file in the guest.
func (v *VM) ReadFile(ctx context.Context, path string) ([]byte, error) {
	var buf bytes.Buffer
	if _, err := v.agent.do(ctx, wire.Frame{Op: wire.Read, Path: path}, &buf); err != nil {
		return nil, fmt.Errorf("read from the guest: %w", err)
	}
	return buf.Bytes(), nil
}

// WriteFile writes a file in the guest, and makes the directories above it. An existing file keeps its mode.
func (v *VM) WriteFile(ctx context.Context, path string, content []byte, mode uint32) error {
	r := bytes.NewReader(content)
	chunk := make([]byte, wire.Chunk)
	for first := true; ; first = false {
		n, err := io.ReadFull(r, chunk)
		if n == 0 && !first {
			return nil
		}
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		req := wire.Frame{Op: wire.Write, Path: path, Mode: mode, Append: !first, Body: chunk[:n]}
		if _, err := v.agent.do(ctx, req, nil); err != nil {
			return fmt.Errorf("write to the guest: %w", err)
		}
	}
}
