package vm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mdclone/vmtest/wire"
)

// Config is a virtual machine to start.
type Config struct {
	Suite string // the Debian suite whose bare guest boots, if Image is zero; bookworm by default
	Image Image  // what boots instead
	// Firmware lets the machine start by itself, from a disk whose device has a bootindex: nothing of the above counts then,
	// nor do Files, Args and Load.
	Firmware bool
	Files    []File   // laid over the initramfs, besides the agent in a bare guest
	Args     []string // more kernel parameters
	Load     []string // more modules that a bare guest loads at boot
	Fio      bool     // fio in a bare guest, whose boot takes longer then

	Disks  []Disk // named vda, vdb, ... in this order, by bus
	Memory int    // MiB, 1024 by default
	CPUs   int    // 1 by default: of emulated ones, beside other machines, more take longer for the same

	SCSI     bool     // a SCSI controller even if no disk is on it yet
	USB      bool     // likewise USB
	Watchdog bool     // an i6300esb, which powers the machine off
	QEMU     []string // more arguments for QEMU

	Dir string // a directory for what belongs to this run, which must exist
}

// The ids of the controllers.
const (
	scsiBus = "hba-scsi"
	usbBus  = "hba-usb"
)

// The file descriptors that QEMU inherits: one end each of a pair of sockets.
const (
	fdConsole = 3 + iota
	fdQMP
	fdAgent
)

// has tells whether the machine has a controller for bus.
func (c Config) has(bus Bus) bool {
	return bus == SCSI && c.SCSI || bus == USB && c.USB ||
		slices.ContainsFunc(c.Disks, func(d Disk) bool { return d.bus() == bus })
}

// kernelArgs are every machine's kernel parameters. With no_timer_check a busy host does not make the kernel think that
// the machine's timer is broken, and panic (arch/x86/kernel/apic/io_apic.c, Linux 6.12). With norandmaps the emulator need not
// translate a program anew each time it is started, which a boot by shell scripts does thousands of times: QEMU before 8.0 keeps
// all those translations of one page, and then takes minutes to write to it. SysRq is what Autopsy asks by.
var kernelArgs = []string{
	"console=ttyS0", "panic=-1", "no_timer_check", "norandmaps", "mitigations=off", "cryptomgr.notests", "sysrq_always_enabled",
}

// cpu has what Debian's programs and disk encryption use, and a source of randomness; what QEMU can emulate beyond that costs
// time at each boot.
const cpu = "Westmere,+rdrand"

// CommandLine is the kernel's, of a machine that does not start by itself.
func (c Config) CommandLine() string {
	return strings.Join(append(slices.Clone(kernelArgs), c.Args...), " ")
}

// qemuArgs is QEMU's command line for c: a pure function of it.
func qemuArgs(c Config, accel string) ([]string, error) {
	memory, cpus := 1024, 1
	if c.Memory != 0 {
		memory = c.Memory
	}
	if c.CPUs != 0 {
		cpus = c.CPUs
	}
	args := []string{
		"-machine", "pc", "-accel", accel, "-cpu", cpu, "-smp", strconv.Itoa(cpus), "-m", strconv.Itoa(memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", fdConsole), "-serial", "chardev:console",
		"-serial", "null", // ttyS1, which nobody sees
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", fdQMP), "-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("socket,id=agent,fd=%d", fdAgent),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=" + wire.Port,
	}
	if !c.Firmware {
		args = append(args, "-kernel", c.Image.Kernel, "-initrd", c.Image.Initrd, "-append", c.CommandLine())
	}
	if c.Watchdog {
		args = append(args, "-device", "i6300esb", "-action", "watchdog=poweroff")
	}
	if c.has(SCSI) {
		args = append(args, "-device", "virtio-scsi-pci,id="+scsiBus)
	}
	if c.has(USB) {
		args = append(args, "-device", "qemu-xhci,p2=8,p3=0,id="+usbBus)
	}
	for _, d := range c.Disks {
		block, err := d.blockdev()
		if err != nil {
			return nil, err
		}
		device, err := d.device()
		if err != nil {
			return nil, err
		}
		for _, o := range []struct {
			option string
			value  map[string]any
		}{{"-blockdev", block}, {"-device", device}} {
			text, err := json.Marshal(o.value)
			if err != nil {
				return nil, fmt.Errorf("disk %s: %w", d.Serial, err)
			}
			args = append(args, o.option, string(text))
		}
	}
	return append(args, c.QEMU...), nil
}
