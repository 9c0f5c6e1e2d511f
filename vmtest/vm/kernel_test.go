package vm

import (
	"encoding/binary"
	"testing"
)

func TestKernelPayload(t *testing.T) {
	bzImage := func(offset, length uint32) []byte {
		image := make([]byte, 2*512+100)
		image[offSetupSects] = 1
		copy(image[offHeader:], "HdrS")
		binary.LittleEndian.PutUint32(image[offPayloadOffset:], offset)
		binary.LittleEndian.PutUint32(image[offPayloadLength:], length)
		copy(image[2*512+10:], "payload")
		return image
	}
	if got, err := kernelPayload(bzImage(10, 11)); string(got) != "payload" || err != nil {
		t.Errorf("kernelPayload = %q, %v; want payload", got, err)
	}
	for name, image := range map[string][]byte{
		"no header":         make([]byte, 2048),
		"short":             []byte("HdrS"),
		"payload too long":  bzImage(10, 1000),
		"payload too short": bzImage(10, 3),
		"offset overflows":  bzImage(0xffffffff, 0xffffffff),
	} {
		if got, err := kernelPayload(image); err == nil {
			t.Errorf("%s: kernelPayload = %q, nil; want an error", name, got)
		}
	}
}
