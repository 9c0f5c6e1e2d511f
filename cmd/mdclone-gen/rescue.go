package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"mdclone/pkg/config"
	"mdclone/pkg/initrd"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysroot"
)

const rescueDescription = `Makes a rescue image: an initramfs that starts with one kernel of the machine, assembles the arrays in /etc/mdclone from their own disks, never from a clone, starts nothing that is on them, and shows a menu on each console: clone now, status, verify, a shell, reboot. It holds mdclone-early, mdadm, that kernel's modules for md and the usual disks, and the configuration. The kernel is copied beside it, as FILE with .vmlinuz for .img: what boots one needs the other, so neither is replaced before both are on the disk.

As /boot/mdclone-rescue.img it gets an entry in GRUB's menu, if mdclone-gen install has been run. Make it again after a change of the configuration; mdclone-gen verify looks at it too. --iso makes a medium of it too, with GRUB, which a BIOS starts where grub-pc-bin is installed, and UEFI without Secure Boot where grub-efi-amd64-bin is: write it onto a USB drive with dd.

A kernel that is older than an array needs is refused; the image looks at that too when it starts.

EXAMPLES
mdclone-gen rescue --output /boot/mdclone-rescue.img
mdclone-gen rescue --output /root/rescue.img --iso /root/rescue.iso
mdclone-gen rescue --output /media/usb/rescue.img --kernel 6.12.57+deb13-amd64

EXIT STATUS
0 done; 1 failed; 2 wrong arguments, not run as root, or nothing is configured; 3 refused: the kernel is too old for an array, FILE is something else than a rescue image, the ISO is there (--force), or another mdclone-gen works on the machine`

type rescueCommand struct {
	options
	Output string `long:"output" value-name:"FILE" required:"yes" description:"the image to write; its path is not below DIR"`
	ISO    string `long:"iso" value-name:"FILE" description:"also make a medium of it, to burn or to write onto a USB drive; takes grub-mkrescue"`
	Kernel string `long:"kernel" value-name:"VERSION" description:"the kernel it is for; else the running one, or with --root the newest"`
	Force  bool   `long:"force" description:"write over files that are no rescue images, and over an ISO that is there"`
	app    *app
}

// Execute implements flags.Commander.
func (c *rescueCommand) Execute(args []string) error {
	var doc document
	return c.app.finish(&doc, c.rescue(args, &doc))
}

func (c *rescueCommand) rescue(args []string, doc *document) error {
	if err := report.NoMore(args); err != nil {
		return err
	}
	if c.Output == "" {
		return report.Fail(report.Usage, "usage", "--output wants the name of a file")
	}
	m, err := newMachine(c.Root)
	if err != nil {
		return err
	}
	if m.root == "/" && c.app.euid() != 0 {
		return report.Fail(report.Usage, "not-root", "reading this machine's disks takes root").Hint("run it with sudo")
	}
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	doc.Root = m.root
	arrays, err := m.arrays()
	if err != nil {
		return err
	}
	if err := c.replaceable(); err != nil {
		return err
	}
	if err := c.isoReplaceable(); err != nil {
		return err
	}
	release, err := c.app.kernelOf(m, c.Kernel)
	if err != nil {
		return err
	}
	if m.root == "/" {
		if err := c.app.newEnough(arrays, release); err != nil {
			return err
		}
	}
	kernel, err := os.ReadFile(m.path("boot/vmlinuz-" + release))
	if err != nil {
		return fmt.Errorf("copy the kernel: %w", err)
	}
	entries, err := c.app.rescueEntries(m, arrays, release)
	if err != nil {
		return err
	}
	entries[rescueKernel] = initrd.Entry{Mode: 0o644, Data: []byte(sum(kernel) + "  " + release + "\n")}
	image, err := compressed(entries, m.readsZstd(release))
	if err != nil {
		return err
	}
	return c.write(m, image, kernel, release, doc)
}

// replaceable refuses to write over what is no rescue image, or the kernel beside one.
func (c *rescueCommand) replaceable() error {
	kernel := kernelFile(c.Output)
	for _, name := range []string{c.Output, kernel} {
		if c.ISO != "" && filepath.Clean(c.ISO) == filepath.Clean(name) {
			return report.Fail(report.Usage, "usage", "%s is named twice", c.ISO)
		}
	}
	there, err := plainFile(c.Output)
	if err != nil {
		return err
	}
	kernelThere, err := plainFile(kernel)
	switch {
	case err != nil || c.Force || !there && !kernelThere:
		return err
	case !there:
		return report.Fail(report.Refused, "other-file", "%s is there, and no rescue image beside it", kernel).Hint("--force writes over it")
	}
	image, err := initrd.Read(c.Output, nil)
	if err == nil && exists(image, config.RescueProgram) {
		return nil
	}
	return report.Fail(report.Refused, "other-file", "%s is there, and is no rescue image", c.Output).Hint("--force writes over it")
}

// isoReplaceable refuses to write over anything: what is on a medium is not looked at.
func (c *rescueCommand) isoReplaceable() error {
	if c.ISO == "" {
		return nil
	}
	there, err := plainFile(c.ISO)
	if err != nil || !there || c.Force {
		return err
	}
	return report.Fail(report.Refused, "other-file", "%s is there", c.ISO).Hint("--force writes over it")
}

// plainFile tells whether a file is there, and refuses what is none: a drive, above all.
func plainFile(name string) (there bool, err error) {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return true, report.Fail(report.Refused, "no-file", "%s is there, and is no plain file", name).
			Hint("make a file, and write that onto a drive with dd")
	}
	return true, nil
}

// kernelFile is the kernel's name beside an image.
func kernelFile(image string) string { return strings.TrimSuffix(image, ".img") + ".vmlinuz" }

// write puts image and kernel there, and the entry into GRUB's menu where that looks for them.
func (c *rescueCommand) write(m machine, image, kernel []byte, release string, doc *document) error {
	// the image first: a kernel alone would be taken for somebody else's by the next run
	files := []output{{c.Output, image}, {kernelFile(c.Output), kernel}}
	if c.ISO != "" {
		data, err := c.app.iso(m, image, kernel)
		if err != nil {
			return err
		}
		files = append(files, output{c.ISO, data})
	}
	if err := c.app.stopped(); err != nil {
		return err
	}
	if err := writeTogether(files); err != nil {
		return err
	}
	for _, f := range files {
		doc.Written = append(doc.Written, f.name)
	}
	c.app.log.Infof("%s starts with Linux %s, which is copied beside it", c.Output, release)
	output, err := filepath.Abs(c.Output)
	if err != nil || output != m.path(rescueImage) || !m.usesGrub() || !m.hasMenu() || m.root != "/" && c.app.euid() != 0 {
		return err
	}
	return c.app.updateMenu(m)
}

// kernelOf chooses the kernel: wanted, the running one, or the newest that there is.
func (a *app) kernelOf(m machine, wanted string) (string, error) {
	releases, err := sysroot.Kernels(m.root)
	if err != nil {
		return "", err
	}
	have := map[string]bool{}
	newest := ""
	for _, r := range releases {
		have[r] = m.exists("boot/vmlinuz-" + r)
		if have[r] && (newest == "" || sysroot.Newer(r, newest)) {
			newest = r
		}
	}
	if wanted == "" && m.root == "/" {
		if running, err := md.Release(); err == nil && have[running] {
			wanted = running
		}
	}
	switch {
	case wanted == "" && newest == "":
		return "", report.Fail(report.Failed, "no-kernel", "there is no kernel with its modules in %s", m.root)
	case wanted == "":
		return newest, nil
	case !have[wanted]:
		return "", report.Fail(report.Usage, "no-kernel", "there is no kernel %s with its modules in %s (there is %s)", wanted, m.root,
			cmp.Or(strings.Join(releases, ", "), "none"))
	}
	return wanted, nil
}

// newEnough refuses a kernel that cannot assemble one of the arrays.
func (a *app) newEnough(arrays []config.Array, release string) error {
	found, err := a.members()
	if err != nil {
		return err
	}
	for _, conf := range arrays {
		if why := md.TooNewFor(release, conf.UUID, found); why != "" {
			return report.Fail(report.Refused, "kernel-too-old", "array %s cannot be assembled by %s", conf.Name, why).
				Hint("choose a newer kernel with --kernel")
		}
	}
	return nil
}

// readsZstd tells whether a kernel takes an initramfs that is compressed with zstd: it came with Linux 5.9, and can be left out.
func (m machine) readsZstd(release string) bool {
	settings, err := os.ReadFile(m.path("boot/config-" + release))
	return err != nil || bytes.Contains(settings, []byte("CONFIG_RD_ZSTD=y\n"))
}

// compressed is an image of entries.
func compressed(entries map[string]initrd.Entry, useZstd bool) ([]byte, error) {
	archive, err := initrd.Pack(entries)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	var z io.WriteCloser
	if useZstd {
		z, err = zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	} else {
		z, err = gzip.NewWriterLevel(&b, gzip.BestCompression)
	}
	if err != nil {
		return nil, err
	}
	_, err = z.Write(archive)
	err = errors.Join(err, z.Close()) // which writes the rest
	return b.Bytes(), err
}
