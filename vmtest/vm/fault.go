package vm

import (
	"context"
	"encoding/json"
	"fmt"
)

// Unreadable returns the disk with one sector that cannot be read until Readable is called. Its image is raw.
func (d Disk) Unreadable(sector int64) Disk {
	d.Block = map[string]any{"driver": "raw", "file": map[string]any{
		"driver":       "blkdebug",
		"inject-error": []any{map[string]any{"event": "none", "iotype": "read", "errno": 5, "sector": sector}},
		"image":        map[string]any{"driver": "file", "filename": d.Path, "node-name": d.sound()},
	}}
	return d
}

// AwaitReadErrors waits until each of the disks has failed a read since the call.
func (v *VM) AwaitReadErrors(ctx context.Context, disks ...Disk) error {
	from := v.monitor.count()
	for _, d := range disks {
		if _, err := v.monitor.await(ctx, from, func(e Event) bool {
			var data struct {
				Node string `json:"node-name"`
			}
			return e.Name == "BLOCK_IO_ERROR" && json.Unmarshal(e.Data, &data) == nil && data.Node == d.node()
		}); err != nil {
			return fmt.Errorf("wait for an error of disk %s: %w", d.Serial, err)
		}
	}
	return nil
}

// Readable ends what Unreadable began.
func (v *VM) Readable(ctx context.Context, d Disk) error {
	d.Block = map[string]any{"driver": "raw", "file": d.sound()}
	block, err := d.blockdev()
	if err == nil {
		_, err = v.monitor.do(ctx, "blockdev-reopen", map[string]any{"options": []any{block}})
	}
	if err != nil {
		return fmt.Errorf("make disk %s readable: %w", d.Serial, err)
	}
	return nil
}

// sound is the node below what makes it unreadable.
func (d Disk) sound() string { return "sound-" + d.Serial }
