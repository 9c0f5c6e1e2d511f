package vm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Layer is something that was done once in a running machine, and is kept for the tests that begin there.
type Layer struct {
	Name   string   // of the cache entry
	Base   Machine  // where it begins
	Key    string   // changes whenever Do does
	Clones []string // serials of empty disks to add, as large as the members

	// Do does it. The machine is shut down afterwards. What it writes into dir is found in the Dir of the result.
	Do func(ctx context.Context, v *VM, dir string) error
}

// Layer returns the machine as it is after y, from the cache where it can. It boots as Base does: a new initramfs on the
// disks is not taken from there.
func (l *Lab) Layer(ctx context.Context, y Layer) (Machine, error) {
	k := key(y.Base.id, y.Key, y.Clones, "1")
	dir, err := l.entry(ctx, y.Name, k, func(dir string) error { return l.addLayer(ctx, y, dir) })
	if err != nil {
		return Machine{}, err
	}
	id, err := os.ReadFile(filepath.Join(dir, "id"))
	if err != nil {
		return Machine{}, fmt.Errorf("read the layer: %w", err)
	}
	m := Machine{Image: y.Base.Image, Release: y.Base.Release, Layout: y.Base.Layout, Dir: dir, id: string(id), args: y.Base.args}
	for _, d := range y.Base.Disks {
		m.Disks = append(m.Disks, Disk{Serial: d.Serial, Path: filepath.Join(dir, d.Serial+".qcow2"), Format: "qcow2"})
	}
	for _, name := range y.Clones {
		m.Disks = append(m.Disks, Disk{Serial: name, Path: filepath.Join(dir, name+".img")})
	}
	return m, nil
}

func (l *Lab) addLayer(ctx context.Context, y Layer, dir string) error {
	c, err := y.Base.Config(ctx, dir)
	if err != nil {
		return err
	}
	for _, name := range y.Clones {
		d, err := NewDisk(dir, name, MachineDisk)
		if err != nil {
			return err
		}
		c.Disks = append(c.Disks, d)
	}
	v, err := l.Start(ctx, c)
	if err != nil {
		return err
	}
	if err = y.Do(ctx, v, dir); err == nil {
		err = v.PowerOff(ctx)
	}
	if err != nil {
		return joinClose(err, v)
	}
	return writeAll(dir, map[string]string{"id": newID()})
}
