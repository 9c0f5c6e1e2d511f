package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"mdclone/pkg/md"
)

// Layout is how a machine's disks are laid out. The zero Layout is two disks and metadata 1.2, without partitions: root is
// on ext4 on LVM on the array.
type Layout struct {
	Metadata    string // of the array: 1.0, 1.1 or, by default, 1.2
	Partition   bool   // a member is the one partition of its disk
	Partitioned bool   // LVM is on the second partition of the array
	LUKS        bool   // there is encryption between array and LVM; Passphrase opens it. Not with Partitioned
	Plain       bool   // root is straight on the array, without LVM. Not with the two above
	Primaries   int    // 2 by default, or 1
}

// Passphrase opens the encryption of a Layout.
const Passphrase = "secret"

const (
	luksUUID = "6d64636c-6f6e-6500-6c75-6b7300000001"
	rootUUID = "6d64636c-6f6e-6500-726f-6f7400000001"
	// partitionStart is where a member's partition begins, luksPayload where in the array the encrypted data do, in bytes.
	partitionStart, luksPayload = 1 << 20, 2 << 20
)

// String names the layout, as part of other names: it is empty for the zero Layout.
func (y Layout) String() string {
	var name strings.Builder
	for _, part := range []struct {
		has  bool
		name string
	}{
		{y.Metadata != "", y.Metadata},
		{y.Partition, "partition"},
		{y.Partitioned, "partitioned"},
		{y.LUKS, "luks"},
		{y.Plain, "plain"},
		{y.Primaries != 0, fmt.Sprint(y.Primaries)},
	} {
		if part.has {
			name.WriteString("-" + part.name)
		}
	}
	return name.String()
}

// Node is the name of the member on a disk of that name.
func (y Layout) Node(disk string) string {
	if y.Partition {
		return disk + "1"
	}
	return disk
}

func (y Layout) metadata() string {
	if y.Metadata == "" {
		return "1.2"
	}
	return y.Metadata
}

// members are the serials of the machine's own disks.
func (y Layout) members() []string {
	if y.Primaries == 1 {
		return members[:1]
	}
	return members
}

// start is where a member begins on its disk, in bytes.
func (y Layout) start() int64 {
	if y.Partition {
		return partitionStart
	}
	return 0
}

// readMember reads the metadata of the member on a disk's image.
func (y Layout) readMember(path string) (*md.Member, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int64(MachineDisk) - y.start()
	return md.ReadMember(io.NewSectionReader(f, y.start(), size), size)
}

// Inside is where the root file system begins in what lies on the array: on the array itself, or on its encryption, in
// bytes.
func (m Machine) Inside() (int64, error) {
	member, err := m.Layout.readMember(m.Disks[0].Path)
	if err != nil {
		return 0, err
	}
	return m.Layout.inside(m.Volume, member), nil
}

func (y Layout) inside(volume int64, member *md.Member) int64 {
	inside := volume - y.start() - int64(member.Super.DataOffset)*512
	if y.LUKS {
		inside -= luksPayload
	}
	return inside
}

// script makes the storage, as buildStorage says, on the disks of the guest.
func (y Layout) script() string {
	var first, below, above, more string
	volume, fill := "/dev/md0", buildVolume
	if y.Plain {
		fill = "start=0 # %s\n"
	}
	if y.Partition {
		first = "for d in /dev/vd?; do echo start=2048,type=fd | sfdisk -q --label dos $d; done\n"
		more = fmt.Sprintf("start=$((start + %d))\n", partitionStart/512)
	}
	if y.Partitioned {
		below = "printf ',16M\\n,\\n' | sfdisk -q --label gpt /dev/md0\n"
		volume = "/dev/md0p2"
		more += "start=$((start + $(cat /sys/block/md0/md0p2/start)))\n"
	}
	if y.LUKS {
		// a version that qemu-img can write into, and a key that takes no time to make
		below = fmt.Sprintf("modprobe dm_crypt\nprintf %[1]s | cryptsetup luksFormat -q --type luks1 --key-file=- "+
			"--pbkdf-force-iterations 1000 --offset %[2]d --uuid=%[3]s /dev/md0\n"+
			"printf %[1]s | cryptsetup open --key-file=- /dev/md0 crypt0\n", Passphrase, luksPayload/512, luksUUID)
		volume = "/dev/mapper/crypt0"
		above = "cryptsetup close crypt0\n"
		more += fmt.Sprintf("start=$((start + %d))\n", luksPayload/512)
	}
	return fmt.Sprintf(buildStorage, first, y.Node("vd?"), y.metadata(), below+fmt.Sprintf(fill, volume)+above+more, y.Node("vda"))
}

// files are those of the root file system that tell of the layout, where it is not what settings say.
func (y Layout) files() []File {
	var files []File
	if y.Metadata != "" {
		files = append(files, mdadmConf(y.metadata()))
	}
	if y.Plain {
		files = append(files, fstab(y.root()))
	}
	if y.LUKS {
		files = append(files, File{Path: "/etc/crypttab", Data: []byte("crypt0 UUID=" + luksUUID + " none luks,initramfs\n")})
	}
	return files
}

// packages are those that a machine needs for it, and what the name of its root directory is made of.
func (y Layout) packages(system string) (name string, packages []string) {
	switch {
	case y.LUKS && HasDracut(system):
		return "-luks", []string{"cryptsetup", "systemd-cryptsetup"}
	case y.LUKS:
		return "-luks", []string{"cryptsetup-initramfs"}
	}
	return "", nil
}

// root is what the root file system is on, as the kernel and fstab are told.
func (y Layout) root() string {
	if y.Plain {
		return "UUID=" + rootUUID
	}
	return "/dev/mapper/vg0-root"
}

// args are the kernel parameters that a machine needs for it.
func (y Layout) args(system string) []string { return append(y.storageArgs(system), "root="+y.root()) }

// storageArgs are those that say what is to be started, which dracut wants to know.
func (y Layout) storageArgs(system string) []string {
	if !HasDracut(system) {
		return nil
	}
	args := []string{"rd.md.uuid=" + MachineArray}
	if !y.Plain {
		args = append(args, "rd.lvm.lv=vg0/root")
	}
	if y.LUKS {
		args = append(args, "rd.luks.uuid="+luksUUID)
	}
	return args
}

// fill writes the file system fs onto a member's disk, where its volume begins at start.
func (y Layout) fill(ctx context.Context, fs, disk string, start int64) error {
	if !y.LUKS {
		return copySparse(fs, disk, start)
	}
	member, err := y.readMember(disk)
	if err != nil {
		return err
	}
	inside := y.inside(start, member)
	abs, err := filepath.Abs(disk)
	if err != nil {
		return err
	}
	_, err = output(ctx, "qemu-img", "convert", "-n", "-f", "raw", "--object", "secret,id=key,data="+Passphrase, "--target-image-opts", fs,
		fmt.Sprintf("driver=raw,offset=%d,size=%d,file.driver=luks,file.key-secret=key,file.file.driver=raw,file.file.offset=%d,"+
			"file.file.size=%d,file.file.file.driver=file,file.file.file.filename=%s", inside, machineRoot, start-inside-luksPayload,
			inside+luksPayload+machineRoot, abs))
	return err
}
