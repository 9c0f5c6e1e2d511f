package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// memory is a disk that is not there.
type memory []byte

func (m memory) ReadAt(b []byte, off int64) (int, error)  { return copy(b, m[off:]), nil }
func (m memory) WriteAt(b []byte, off int64) (int, error) { return copy(m[off:], b), nil }

// talk is a socket: what the kernel says, and what it is answered.
type talk struct {
	io.Reader
	bytes.Buffer
}

func (t *talk) Read(b []byte) (int, error) { return t.Reader.Read(b) }

func TestServe(t *testing.T) {
	disk := make(memory, 64<<10)
	var said bytes.Buffer
	ask := func(command uint32, offset, length int, data byte) {
		q := request{Magic: requestMagic, Command: command, Offset: uint64(offset), Length: uint32(length)}
		if err := binary.Write(&said, binary.BigEndian, q); err != nil {
			t.Fatal(err)
		}
		if command == commandWrite {
			said.Write(bytes.Repeat([]byte{data}, length))
		}
	}
	ask(commandWrite, 4096, 8192, 1)
	ask(commandWrite, 4096, 8704, 2) // longer by a sector
	ask(commandRead, 4096, 8192, 0)
	ask(commandRead, 0, 16384, 0)
	s := &talk{Reader: &said}
	if err := serve(s, disk, 8<<10); !errors.Is(err, io.EOF) {
		t.Errorf("serve() = %v; want the end of the connection", err)
	}
	for i, want := range []uint32{0, uint32(unix.EIO), 0, uint32(unix.EIO)} {
		var a reply
		if err := binary.Read(&s.Buffer, binary.BigEndian, &a); err != nil || a.Magic != replyMagic || a.Error != want {
			t.Fatalf("answer %d: %+v, %v; want error %d", i, a, err, want)
		}
		if i == 2 {
			if got := s.Buffer.Next(8192); !bytes.Equal(got, bytes.Repeat([]byte{1}, 8192)) {
				t.Error("what was written is not read back")
			}
		}
	}
	if s.Buffer.Len() != 0 {
		t.Errorf("%d bytes more are answered", s.Buffer.Len())
	}
}
