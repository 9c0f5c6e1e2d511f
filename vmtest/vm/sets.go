package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Sets are states in which a machine's disks may be found, all made in one bare guest and kept.
type Sets struct {
	Suite string // of the bare guest
	Base  Machine
	Key   string   // changes whenever Do does
	Names []string // of the states

	// Do makes them. disks are the guest's names of each state's disks, by serial. The power is cut afterwards: what still
	// runs then, is cut off.
	Do func(ctx context.Context, v *VM, disks map[string]map[string]string) error
}

// Sets returns the machine in each of the states.
func (l *Lab) Sets(ctx context.Context, s Sets) (map[string]Machine, error) {
	dir, err := l.entry(ctx, entryName("sets", s.Suite, s.Base.Layout, nil), key(s.Base.id, s.Key, s.Names, "1"), func(dir string) error { return l.makeSets(ctx, s, dir) })
	if err != nil {
		return nil, err
	}
	out := map[string]Machine{}
	for _, name := range s.Names {
		m := s.Base
		m.Dir, m.Disks = dir, nil
		for _, d := range s.Base.Disks {
			m.Disks = append(m.Disks, Disk{Serial: d.Serial, Path: setDisk(dir, name, d.Serial), Format: "qcow2"})
		}
		out[name] = m
	}
	return out, nil
}

func setDisk(dir, set, serial string) string { return filepath.Join(dir, set+"-"+serial+".qcow2") }

func (l *Lab) makeSets(ctx context.Context, s Sets, dir string) error {
	c := Config{Suite: s.Suite, Dir: dir}
	for _, name := range s.Names {
		for _, d := range s.Base.Disks {
			layer, err := d.Overlay(ctx, setDisk(dir, name, d.Serial))
			if err != nil {
				return err
			}
			// on SCSI, as a PC has too few slots for so many virtio disks
			layer.Serial, layer.Bus = name+"-"+d.Serial, SCSI
			c.Disks = append(c.Disks, layer)
		}
	}
	v, err := l.Start(ctx, c)
	if err != nil {
		return err
	}
	disks, err := s.find(ctx, v)
	if err == nil {
		err = s.Do(ctx, v, disks)
	}
	if err != nil {
		return joinClose(fmt.Errorf("make states: %w", err), v)
	}
	return errors.Join(v.Kill(), os.Remove(filepath.Join(dir, "initrd")))
}

func (s Sets) find(ctx context.Context, v *VM) (map[string]map[string]string, error) {
	disks := map[string]map[string]string{}
	for _, name := range s.Names {
		disks[name] = map[string]string{}
		for _, d := range s.Base.Disks {
			found, err := v.DiskName(ctx, name+"-"+d.Serial)
			if err != nil {
				return nil, err
			}
			disks[name][d.Serial] = found
		}
	}
	return disks, nil
}

// Written tells whether anything was written to d, an Overlay, since it was made. Its machine must have ended.
func (d Disk) Written(ctx context.Context) (bool, error) {
	out, err := output(ctx, "qemu-img", "map", "--output=json", d.Path)
	if err != nil {
		return false, fmt.Errorf("look at disk %s: %w", d.Serial, err)
	}
	// where a range's content comes from: from d itself at depth 0, from the image below at 1
	var ranges []struct {
		Depth   int  `json:"depth"`
		Present bool `json:"present"`
	}
	if err := json.Unmarshal([]byte(out), &ranges); err != nil {
		return false, fmt.Errorf("look at disk %s: %w", d.Serial, err)
	}
	return slices.ContainsFunc(ranges, func(r struct {
		Depth   int  `json:"depth"`
		Present bool `json:"present"`
	},
	) bool {
		return r.Depth == 0 && r.Present
	}), nil
}
