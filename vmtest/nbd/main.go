// Command nbd puts a network block device over another block device, and answers EIO to each request that is longer than it is
// told: nbd /dev/nbd0 /dev/md0 64 refuses what is longer than 64 KiB, with 0 it refuses nothing. It is for guests of the VM
// tests and runs until it is ended.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"mdclone/pkg/md"
)

// ioctls of nbd, and what it says on its socket (include/uapi/linux/nbd.h, Linux 6.12).
const (
	setSock       = 0xab00
	setBlockSize  = 0xab01
	doIt          = 0xab03
	setSizeBlocks = 0xab07

	requestMagic = 0x25609513
	replyMagic   = 0x67446698
	commandRead  = 0
	commandWrite = 1
)

const sector = 512

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "nbd: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("want an nbd device, the device below, and KiB")
	}
	most, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	d, err := md.OpenDisk(args[1], unix.O_RDWR)
	if err != nil {
		return err
	}
	defer d.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	ended := make(chan error, 2)
	go func() { ended <- attach(args[0], fds[0], d.Size()) }()
	go func() { ended <- serve(os.NewFile(uintptr(fds[1]), "kernel"), below(d.FD()), most<<10) }()
	return <-ended
}

// attach sets the nbd device up on its end of the socket, and returns when that has ended.
func attach(path string, sock int, bytes int64) error {
	dev, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer dev.Close()
	for _, do := range []struct {
		request uint
		value   int
	}{{setSock, sock}, {setBlockSize, sector}, {setSizeBlocks, int(bytes / sector)}, {doIt, 0}} {
		if err := unix.IoctlSetInt(int(dev.Fd()), do.request, do.value); err != nil {
			return fmt.Errorf("ioctl %#x of %s: %w", do.request, path, err)
		}
	}
	return nil
}

// below is what requests are carried out on: by O_DIRECT, and nothing is flushed.
type below int

func (d below) ReadAt(b []byte, off int64) (int, error)  { return unix.Pread(int(d), b, off) }
func (d below) WriteAt(b []byte, off int64) (int, error) { return unix.Pwrite(int(d), b, off) }

type disk interface {
	io.ReaderAt
	io.WriterAt
}

// request is one of the kernel's, struct nbd_request.
type request struct {
	Magic, Command uint32
	Handle         [8]byte
	Offset         uint64
	Length         uint32
}

type reply struct {
	Magic, Error uint32
	Handle       [8]byte
}

// serve answers the kernel's requests until it ends; those of more than most bytes with EIO, 0 for no bound.
func serve(kernel io.ReadWriter, d disk, most int) error {
	for {
		var q request
		if err := binary.Read(kernel, binary.BigEndian, &q); err != nil {
			return err
		}
		if q.Magic != requestMagic {
			return fmt.Errorf("a request begins with %#x", q.Magic)
		}
		b := md.AlignedBuffer(int(q.Length))
		a := reply{Magic: replyMagic, Handle: q.Handle}
		write := q.Command == commandWrite
		if write {
			if _, err := io.ReadFull(kernel, b); err != nil {
				return err
			}
		}
		var n int
		switch {
		case most > 0 && len(b) > most:
		case write:
			n, _ = d.WriteAt(b, int64(q.Offset)) // what is not written is an error
		case q.Command == commandRead:
			n, _ = d.ReadAt(b, int64(q.Offset))
		default:
			return fmt.Errorf("unexpected command %#x", q.Command)
		}
		if n != len(b) {
			a.Error = uint32(unix.EIO)
		}
		if err := binary.Write(kernel, binary.BigEndian, a); err != nil {
			return err
		}
		if q.Command == commandRead && a.Error == 0 {
			if _, err := kernel.Write(b); err != nil {
				return err
			}
		}
	}
}
