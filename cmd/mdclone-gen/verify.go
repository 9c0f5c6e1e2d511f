package main

import (
	"fmt"
	"strings"

	"mdclone/pkg/config"
	"mdclone/pkg/report"
)

const verifyDescription = `Tells whether the boot images hold what is configured now: mdclone-early byte for byte (but for what strip takes away, which dracut runs), /etc/mdclone/*.conf, the udev rule that the configuration makes and the one that starts arrays, the scripts, the modules md-mod and raid1, the drivers of the usual disks that the kernel has as modules, and the mark by which mdclone-early knows that it is in the initramfs. One line for each difference. Without IMAGE all DIR/boot/initrd.img-* are looked at, but for kept copies and images without a kernel; where systemd-boot starts the machine, what its entries for this machine name, the default one's in any case (that takes root); and DIR/boot/mdclone-rescue.img if there is one. A rescue image must hold the configuration and mdclone-early, and have beside it the kernel that its modules are for.

EXAMPLES
mdclone-gen verify
mdclone-gen verify --root /mnt /mnt/boot/initrd.img-6.1.0-50-amd64

EXIT STATUS
0 everything is as configured; 1 something differs or cannot be read; 2 wrong arguments, or nothing is configured`

type verifyCommand struct {
	options
	Args struct {
		Images []string `positional-arg-name:"IMAGE" description:"a boot image; its path is not below DIR"`
	} `positional-args:"yes"`
	app *app
}

// Execute implements flags.Commander.
func (c *verifyCommand) Execute(args []string) error {
	var doc document
	return c.app.finish(&doc, c.verify(args, &doc))
}

func (c *verifyCommand) verify(args []string, doc *document) error {
	if err := report.NoMore(args); err != nil {
		return err
	}
	m, err := newMachine(c.Root)
	if err != nil {
		return err
	}
	doc.Root, doc.good = m.root, "as configured"
	arrays, err := m.arrays()
	if err != nil {
		return err
	}
	images, err := c.app.bootImages(m, c.Args.Images)
	if err != nil {
		return err
	}
	if len(c.Args.Images) == 0 && len(images) > 0 && m.exists(rescueImage) {
		images = append(images, imageFile(m.path(rescueImage)))
	}
	return c.app.verifyImages(m, arrays, images, doc, "run mdclone-gen install")
}

// arrays reads the configuration; there has to be one.
func (m machine) arrays() ([]config.Array, error) {
	arrays, err := config.Load(m.root)
	if err != nil {
		return nil, report.Fail(report.Usage, "configuration", "%w", err)
	}
	if len(arrays) == 0 {
		return nil, report.Fail(report.Usage, "not-configured", "no array is configured: there is no %s",
			m.path(confPath("NAME"))).
			Hint("run mdclone-early adopt first, or write a NAME.conf with a line \"array = UUID\"")
	}
	return arrays, nil
}

// verifyImages is verify, and the end of install; hint says what to do about a difference.
func (a *app) verifyImages(m machine, arrays []config.Array, images []bootImage, doc *document, hint string) error {
	want, err := m.expect(arrays)
	if err != nil {
		return err
	}
	doc.Reasons = append(doc.Reasons, want.previous...)
	a.checkImages(images, doc, want.check)
	return verdict(m, doc, len(want.previous), hint)
}

// staleRescue warns of a rescue image that is not as configured any more.
func (a *app) staleRescue(m machine, arrays []config.Array) error {
	if !m.exists(rescueImage) {
		return nil
	}
	want, err := m.expect(arrays)
	if err != nil {
		return err
	}
	for _, r := range want.check(imageFile(m.path(rescueImage))).Differences {
		a.log.Warnf("%s: %s; make it again: %s", m.path(rescueImage), r.Text, rescueRecipe(m, m.path(rescueImage)))
	}
	return nil
}

// copyRecipe is how a person gives systemd-boot what is in /boot.
const copyRecipe = "systemd-boot starts copies of what is in /boot: kernel-install add VERSION /boot/vmlinuz-VERSION " +
	"/boot/initrd.img-VERSION makes them again"

func rescueRecipe(m machine, image string) string {
	recipe := "mdclone-gen rescue --output " + image
	if m.root != "/" {
		recipe += " --root " + m.root
	}
	return recipe
}

// verdict sums the differences up; before of them are in the machine, not in its images.
func verdict(m machine, doc *document, before int, hint string) error {
	if len(doc.Images) == 0 {
		return report.Fail(report.Failed, "no-image", "there is no boot image %s", m.path("boot/initrd.img-*")).
			Hint("is a kernel installed? is /boot mounted?")
	}
	bad, entries, rescue := 0, 0, ""
	for _, i := range doc.Images {
		if !i.OK {
			bad++
			if i.entry {
				entries++
			}
			if i.rescue {
				rescue = i.Image
			}
		}
	}
	if bad == 0 && before == 0 {
		return nil
	}
	var parts []string
	if before > 0 {
		parts = append(parts, fmt.Sprintf("%d installed files are missing or stale", before))
	}
	if bad > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d boot images are not as configured", bad, len(doc.Images)))
	}
	switch {
	case rescue != "" && bad == 1 && before == 0:
		hint = "run " + rescueRecipe(m, rescue)
	case rescue != "":
		hint += ", then " + rescueRecipe(m, rescue)
	}
	err := report.Fail(report.Failed, "differs", "%s", strings.Join(parts, "; ")).Hint("%s", hint)
	if entries > 0 {
		return err.Hint(copyRecipe)
	}
	return err
}
