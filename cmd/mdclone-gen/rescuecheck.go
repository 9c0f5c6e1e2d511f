package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"mdclone/pkg/initrd"
	"mdclone/pkg/report"
)

// besideRescue compares the kernel beside a rescue image with the one that its modules are for. Images of older versions do not
// say which that is.
func besideRescue(image *initrd.Image, name string) []report.Reason {
	record, _ := image.Lookup(rescueKernel)
	kernel := kernelFile(name)
	data, err := os.ReadFile(kernel)
	if r := kernelDiffers(string(record.Data), kernel, data, err); r != nil {
		return []report.Reason{*r}
	}
	return nil
}

// kernelDiffers tells what is wrong with a kernel of which the image has that record; data and err are what came of reading it.
func kernelDiffers(record, kernel string, data []byte, err error) *report.Reason {
	want, release, known := strings.Cut(strings.TrimSpace(record), "  ")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &report.Reason{Code: "missing", Text: "its kernel, " + kernel + ", is not there"}
	case err != nil:
		return &report.Reason{Code: "unreadable", Text: "its kernel: " + err.Error()}
	case known && sum(data) != want:
		return &report.Reason{Code: "stale", Text: kernel + " is another kernel than Linux " + release + ", which its modules are for"}
	}
	return nil
}
