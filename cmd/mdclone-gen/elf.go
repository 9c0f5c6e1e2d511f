package main

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"fmt"
)

// loaded is a hash of what the kernel loads of a program: where it starts, its segments, and the sections in them. That is
// what strip leaves alone, which dracut runs on all programs of an image; it moves headers, which are loaded too.
func loaded(program []byte) (sum [32]byte, err error) {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	fmt.Fprintln(h, f.Class, f.Data, f.Machine, f.Type, f.Entry)
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			fmt.Fprintln(h, p.Flags, p.Vaddr, p.Memsz)
		}
	}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		fmt.Fprintln(h, s.Name, s.Type, s.Flags, s.Addr, s.Size)
		if s.Type == elf.SHT_NOBITS {
			continue
		}
		data, err := s.Data()
		if err != nil {
			return sum, err
		}
		_, _ = h.Write(data) // a hash does not fail
	}
	h.Sum(sum[:0])
	return sum, nil
}
