package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"mdclone/pkg/report"
)

// isoMenu is grub.cfg on the medium. The kernel drops a console that the machine does not have.
const isoMenu = `set timeout=3
insmod all_video
menuentry 'mdclone rescue' {
	linux /boot/mdclone-rescue.vmlinuz console=ttyS0,115200 console=tty0
	initrd /boot/mdclone-rescue.img
}
`

// mkrescue makes a medium that BIOS and UEFI start from, as far as GRUB's parts for them are installed.
const mkrescue = "usr/bin/grub-mkrescue"

// iso makes a medium of image and kernel, that can be burnt or written onto a USB drive as it is.
func (a *app) iso(m machine, image, kernel []byte) (data []byte, err error) {
	for _, p := range []struct{ path, pkg string }{
		{mkrescue, "grub-common"}, {"usr/bin/xorriso", "xorriso"}, {"usr/bin/mformat", "mtools"},
	} {
		if !m.exists(p.path) {
			return nil, report.Fail(report.Failed, "no-iso", "--iso needs %s", m.path(p.path)).
				Hint("install the package %s; with grub-pc-bin a BIOS can start the medium, with grub-efi-amd64-bin UEFI", p.pkg)
		}
	}
	if err := m.inside("tmp"); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(m.path("tmp"), "mdclone-rescue-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.MkdirAll(filepath.Join(dir, "tree/boot/grub"), 0o755); err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{
		"grub/grub.cfg": []byte(isoMenu), "mdclone-rescue.img": image, "mdclone-rescue.vmlinuz": kernel,
	} {
		if err := os.WriteFile(filepath.Join(dir, "tree/boot", name), content, 0o644); err != nil {
			return nil, err
		}
	}
	inside := "/" + strings.TrimPrefix(strings.TrimPrefix(dir, m.root), "/")
	if err := a.command(m.root, "/"+mkrescue, "--output="+inside+"/iso", inside+"/tree"); err != nil {
		return nil, report.Fail(report.Failed, "no-iso", "grub-mkrescue in %s: %w", m.root, err).Hint("its own messages above say why")
	}
	return os.ReadFile(filepath.Join(dir, "iso"))
}
