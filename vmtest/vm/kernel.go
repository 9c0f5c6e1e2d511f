package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"mdclone/pkg/sysroot"
)

// Offsets in a bzImage (Documentation/arch/x86/boot.rst, Linux 6.12, "The real-mode kernel header").
const (
	offSetupSects    = 0x1f1
	offHeader        = 0x202 // "HdrS"
	offPayloadOffset = 0x248
	offPayloadLength = 0x24c
)

// unpackKernel writes the ELF image inside tree's bzImage of release to the file to. QEMU starts it through its PVH
// entry, and the emulated machine need not uncompress it, which takes as long as half of a boot.
func unpackKernel(ctx context.Context, tree, release, to string) error {
	_, from, err := sysroot.Find(tree, "boot/vmlinuz-"+release, "usr/lib/modules/"+release+"/vmlinuz")
	if err != nil {
		return err
	}
	image, err := os.ReadFile(filepath.Join(tree, from))
	if err != nil {
		return err
	}
	payload, err := kernelPayload(image)
	if err != nil {
		return fmt.Errorf("unpack kernel %s: %w", from, err)
	}
	var elf []byte
	switch {
	case bytes.HasPrefix(payload, []byte("\x28\xb5\x2f\xfd")):
		elf, err = unzstd(payload)
	case bytes.HasPrefix(payload, []byte("\xfd7zXZ\x00")):
		elf, err = unxz(ctx, payload)
	case bytes.HasPrefix(payload, []byte("\x02\x21\x4c\x18")):
		elf, err = io.ReadAll(lz4.NewReader(bytes.NewReader(payload)))
	default:
		err = fmt.Errorf("unknown compression: %.6q", payload)
	}
	if err != nil {
		return fmt.Errorf("unpack kernel %s: %w", from, err)
	}
	if !bytes.HasPrefix(elf, []byte("\x7fELF")) {
		return fmt.Errorf("unpack kernel %s: the content is no ELF image: %.4q", from, elf)
	}
	return os.WriteFile(to, elf, 0o644)
}

// kernelPayload is the compressed part of a bzImage, without the uncompressed length that ends it.
func kernelPayload(image []byte) ([]byte, error) {
	if len(image) < offPayloadLength+4 || string(image[offHeader:offHeader+4]) != "HdrS" {
		return nil, errors.New("not a bzImage")
	}
	setup := (uint64(image[offSetupSects]) + 1) * 512
	start := setup + uint64(binary.LittleEndian.Uint32(image[offPayloadOffset:]))
	end := start + uint64(binary.LittleEndian.Uint32(image[offPayloadLength:]))
	if end > uint64(len(image)) || end < start+4 {
		return nil, fmt.Errorf("payload at %d to %d of %d bytes", start, end, len(image))
	}
	return image[start : end-4], nil
}

func unzstd(payload []byte) ([]byte, error) {
	r, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(1<<28))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.DecodeAll(payload, nil)
}

// unxz runs xz: the kernel's build uses a filter of xz's (x86 BCJ) that the Go library lacks.
func unxz(ctx context.Context, payload []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "xz", "--decompress", "--stdout")
	cmd.Stdin = bytes.NewReader(payload)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("xz: %w: %s", err, stderr.String())
	}
	return out, nil
}
