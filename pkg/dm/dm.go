// Package dm makes the few device-mapper ioctls that this product needs (include/uapi/linux/dm-ioctl.h, Linux 6.12).
package dm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"mdclone/pkg/sysfs"
)

// control is device-mapper's own node, below the root directory.
const control = "dev/mapper/control"

// header is struct dm_ioctl. Its uuid field is one byte longer here: the byte after it is padding.
type header struct {
	version     [3]uint32
	dataSize    uint32
	dataStart   uint32
	targetCount uint32
	_           int32 // open_count
	flags       uint32
	_           uint32 // event_nr
	_           uint32
	dev         uint64
	name        [128]byte
	uuid        [129]byte
	_           [7]byte
}

// linear is a table of one linear target: struct dm_target_spec and its parameters.
type linear struct {
	header
	_      uint64 // sector_start
	length uint64 // sectors
	_      int32  // status
	next   uint32
	kind   [16]byte
	params [64]byte
}

// The ioctls, _IOWR(0xfd, n, struct dm_ioctl), and flags.
const (
	devCreate       = 0xc138fd03
	devRemove       = 0xc138fd04
	devSuspend      = 0xc138fd06
	devStatus       = 0xc138fd07
	tableLoad       = 0xc138fd09
	suspendFlag     = 1 << 1
	inactivePresent = 1 << 6
	deferredRemove  = 1 << 17
)

// Control is an open device-mapper.
type Control struct{ file *os.File }

// Open opens device-mapper on the machine whose root directory is given; opening the node loads the module where the
// node is there.
func Open(root string) (*Control, error) {
	f, err := os.OpenFile(filepath.Join(root, control), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &Control{f}, nil
}

// Close closes it.
func (c *Control) Close() error { return c.file.Close() }

// Free tells whether nobody has the device "MAJOR:MINOR" suspended or a new table loaded for it, which a resume would
// bring in.
func (c *Control) Free(dev string) (bool, error) {
	h, err := at(dev)
	if err == nil {
		err = call(c, devStatus, &h, &h)
	}
	if err != nil {
		return false, fmt.Errorf("look at dm %s: %w", dev, err)
	}
	return h.flags&(suspendFlag|inactivePresent) == 0, nil
}

// Suspend suspends the device "MAJOR:MINOR".
func (c *Control) Suspend(dev string) error { return c.suspend(dev, suspendFlag, "suspend") }

// Resume resumes it, with the table that was loaded last. For one that runs already it does nothing.
func (c *Control) Resume(dev string) error { return c.suspend(dev, 0, "resume") }

func (c *Control) suspend(dev string, flags uint32, word string) error {
	h, err := at(dev)
	if err == nil {
		h.flags = flags
		err = call(c, devSuspend, &h, &h)
	}
	if err != nil {
		return fmt.Errorf("%s dm %s: %w", word, dev, err)
	}
	return nil
}

// CreateLinear makes and starts the device name over the first sectors of the device below ("9:0") and returns its own
// "MAJOR:MINOR". unix.EBUSY says that there is one of that name. One that fails is not left behind.
func (c *Control) CreateLinear(name, below string, sectors uint64) (dev string, err error) {
	var l linear
	copy(l.name[:len(l.name)-1], name)
	copy(l.uuid[:len(l.uuid)-2], name)
	if err := call(c, devCreate, &l.header, &l.header); err != nil {
		return "", fmt.Errorf("create dm %s: %w", name, err)
	}
	// huge_decode_dev (include/linux/kdev_t.h)
	dev = fmt.Sprintf("%d:%d", l.dev>>8&0xfff, l.dev&0xff|l.dev>>12&^0xff)
	l.header = header{name: l.name, targetCount: 1}
	l.length, l.next = sectors, uint32(unsafe.Sizeof(l)-unsafe.Sizeof(l.header))
	copy(l.kind[:], "linear")
	copy(l.params[:len(l.params)-1], below+" 0")
	err = call(c, tableLoad, &l.header, &l)
	if err == nil {
		err = c.Resume(dev)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("load the table of dm %s: %w", name, err), c.Remove(name))
	}
	return dev, nil
}

// Remove removes the device name: at once, or as soon as it is not open any more. unix.ENXIO says that there is none.
func (c *Control) Remove(name string) error {
	h := header{flags: deferredRemove}
	copy(h.name[:len(h.name)-1], name)
	if err := call(c, devRemove, &h, &h); err != nil {
		return fmt.Errorf("remove dm %s: %w", name, err)
	}
	return nil
}

// at is a request about the device "MAJOR:MINOR".
func at(dev string) (header, error) {
	major, minor, _ := strings.Cut(dev, ":")
	ma, err1 := strconv.ParseUint(major, 10, 12)
	mi, err2 := strconv.ParseUint(minor, 10, 20)
	return header{dev: mi&0xff | ma<<8 | (mi&^0xff)<<12}, errors.Join(err1, err2) // huge_encode_dev
}

// call makes one ioctl; h is the header at the beginning of whole.
func call[T any](c *Control, request uintptr, h *header, whole *T) error {
	h.version = [3]uint32{4, 0, 0}
	h.dataSize, h.dataStart = uint32(unsafe.Sizeof(*whole)), uint32(unsafe.Sizeof(*h))
	_, err := sysfs.Again(func() (struct{}, error) {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, c.file.Fd(), request, uintptr(unsafe.Pointer(whole)))
		if e != 0 {
			return struct{}{}, e
		}
		return struct{}{}, nil
	})
	runtime.KeepAlive(c)
	return err
}
