// Package hooks holds what mdclone puts into the generators of boot images and of GRUB's menu, and into systemd for the time
// after them.
package hooks

import (
	"bytes"
	"embed"
	"path"
	"strings"
)

// DiskModules are drivers of the usual disks, which are always in the boot image: the clone's is not loaded while that is
// made, as the drive is usually not plugged in. A kernel has some of them.
func DiskModules() []string {
	return strings.Fields(`virtio_pci virtio_mmio virtio_blk virtio_scsi nvme ahci ata_piix ata_generic sata_sil24 sata_nv sata_via
		sata_mv sd_mod xhci_pci xhci_pci_renesas ehci_pci ohci_pci uhci_hcd usb_storage uas sdhci_pci sdhci_acpi mmc_block mpt3sas
		megaraid_sas hpsa aacraid smartpqi isci mptspi mptsas vmw_pvscsi hv_storvsc xen_blkfront`)
}

// withModules puts them into a script.
func withModules(script []byte) []byte {
	return bytes.ReplaceAll(script, []byte("@disk-modules@"), []byte(strings.Join(DiskModules(), " ")))
}

// InitramfsToolsPath is where initramfs-tools looks for a package's hook, below the root of the machine. It takes files
// that are executable and named with letters, digits, dot, dash and underscore only (initramfs-tools(7)).
const InitramfsToolsPath = "usr/share/initramfs-tools/hooks/mdclone"

//go:embed initramfs-tools/mdclone
var initramfsTools []byte

// InitramfsTools is the hook for initramfs-tools 0.142 and later.
func InitramfsTools() []byte { return withModules(initramfsTools) }

// dracutDir is where dracut looks for modules, below the root of the machine. The number says nothing about the order: the
// module names those that it needs.
const dracutDir = "usr/lib/dracut/modules.d/70mdclone"

//go:embed dracut/70mdclone
var dracut embed.FS

// Dracut is the module for dracut 106 and later, by its files' paths below the root of the machine.
func Dracut() map[string][]byte {
	files := map[string][]byte{}
	for _, name := range []string{"module-setup.sh", "mdclone-settled.sh", "mdclone-finished.sh", "mdclone-pre-pivot.sh", "no-resume.conf"} {
		data, err := dracut.ReadFile("dracut/70mdclone/" + name)
		if err != nil {
			panic(err) // it is embedded
		}
		files[path.Join(dracutDir, name)] = withModules(data)
	}
	return files
}

// DracutInImage are those of its files that are in an image: by the path below the root of the machine, that below the root of
// the image (inst_hook, dracut 106 to 112).
func DracutInImage() map[string]string {
	const inImage = "var/lib/dracut/hooks/"
	const resume = "usr/lib/systemd/system/systemd-hibernate-resume.service.d/mdclone.conf"
	return map[string]string{
		dracutDir + "/mdclone-settled.sh":   inImage + "initqueue/settled/10-mdclone-settled.sh",
		dracutDir + "/mdclone-finished.sh":  inImage + "initqueue/finished/10-mdclone-finished.sh",
		dracutDir + "/mdclone-pre-pivot.sh": inImage + "pre-pivot/90-mdclone-pre-pivot.sh",
		dracutDir + "/no-resume.conf":       resume,
	}
}

//go:embed systemd/mdclone-report.service
var reportUnit []byte

//go:embed systemd/wants.conf
var reportWanted []byte

// Units are the files that systemd needs to report what the initramfs did, by their path below the root of the machine.
func Units() map[string][]byte {
	const dir = "usr/lib/systemd/system/"
	return map[string][]byte{
		dir + "mdclone-report.service":           append([]byte(nil), reportUnit...),
		dir + "multi-user.target.d/mdclone.conf": append([]byte(nil), reportWanted...),
	}
}

// GrubPath is the script that grub-mkconfig runs after those of GRUB itself, below the root of the machine. What it makes
// is the last of the menu, so that the numbers of the others stay.
const GrubPath = "etc/grub.d/42_mdclone"

//go:embed grub/42_mdclone
var grub []byte

// Grub is that script, for the grub-mkconfig of GRUB 2.06 and later.
func Grub() []byte { return append([]byte(nil), grub...) }
