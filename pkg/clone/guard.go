package clone

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Freezing a file system or suspending a dm device and then dying would hang the machine. So a second process is
// started first that undoes both as soon as our end of its pipe closes, however we end. Both undo calls do nothing where
// there is nothing to undo.

// GuardCommand is the hidden command that is that second process: GuardCommand thaw MOUNTPOINT | resume MAJOR:MINOR...
const GuardCommand = "undo-when-parent-ends"

const (
	fiFreeze = 0xc0045877 // FIFREEZE (include/uapi/linux/fs.h, Linux 6.12)
	fiThaw   = 0xc0045878 // FITHAW
)

// Guard runs that second process: it reads stdin until it ends, then undoes. It says on stdout when it is ready.
func Guard(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) < 2 {
		return errors.New("nothing to guard")
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// what is paged out cannot be read in while the disk below is suspended
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
		return fmt.Errorf("mlockall: %w", err)
	}
	var undo func() error
	switch args[0] {
	case "thaw":
		dir, err := os.Open(args[1])
		if err != nil {
			return err
		}
		defer dir.Close()
		undo = func() error { return thaw(int(dir.Fd())) }
	case "resume":
		control, err := os.OpenFile(dmControl, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer control.Close()
		undo = func() error {
			var errs []error
			for _, dev := range args[1:] {
				errs = append(errs, dmSuspend(int(control.Fd()), dev, false))
			}
			return errors.Join(errs...)
		}
	default:
		return fmt.Errorf("cannot guard %q", args[0])
	}
	if _, err := io.WriteString(stdout, "ready\n"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, stdin)
	return errors.Join(undo(), err)
}

func thaw(fd int) error {
	if err := unix.IoctlSetInt(fd, fiThaw, 0); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: not frozen
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}

// guarded runs do with the second process in place.
func guarded(args []string, do func() error) error {
	cmd := exec.Command("/proc/self/exe", append([]string{GuardCommand}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of reach of Ctrl-C on our terminal
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var ready [6]byte
	if _, err := io.ReadFull(out, ready[:]); err != nil {
		_ = in.Close()
		return errors.Join(fmt.Errorf("guard %s: %w", strings.Join(args, " "), err), cmd.Wait())
	}
	err = do()
	return errors.Join(err, in.Close(), cmd.Wait())
}

// freezeAndThaw makes the file system at a mount point write its superblock.
func freezeAndThaw(mount string) error {
	dir, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer dir.Close()
	return guarded([]string{"thaw", mount}, func() error {
		if err := unix.IoctlSetInt(int(dir.Fd()), fiFreeze, 0); err != nil {
			return fmt.Errorf("freeze %s: %w", mount, err)
		}
		return thaw(int(dir.Fd()))
	})
}

// whileSuspended runs do while dm devices, given by kernel name, are suspended.
func (e *Env) whileSuspended(dms []string, do func() error) error {
	var devs []string
	for _, n := range dms {
		dev, err := e.FS.Read("class/block", n, "dev")
		if err != nil {
			return err
		}
		devs = append(devs, dev)
	}
	control, err := os.OpenFile(filepath.Join(e.Root, dmControl), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
		return fmt.Errorf("mlockall: %w", err)
	}
	defer func() { _ = unix.Munlockall() }()
	return guarded(append([]string{"resume"}, devs...), func() error {
		var errs []error
		suspended := 0
		for _, dev := range devs {
			if err := dmSuspend(int(control.Fd()), dev, true); err != nil {
				errs = append(errs, err)
				break
			}
			suspended++
		}
		if len(errs) == 0 {
			errs = append(errs, do())
		}
		for _, dev := range devs[:suspended] {
			errs = append(errs, dmSuspend(int(control.Fd()), dev, false))
		}
		return errors.Join(errs...)
	})
}

const dmControl = "/dev/mapper/control"

// dmRequest is struct dm_ioctl (include/uapi/linux/dm-ioctl.h, Linux 6.12).
type dmRequest struct {
	version     [3]uint32
	dataSize    uint32
	dataStart   uint32
	targetCount uint32
	openCount   int32
	flags       uint32
	eventNr     uint32
	_           uint32
	dev         uint64
	name        [128]byte
	uuid        [129]byte
	_           [7]byte
}

const (
	dmDevSuspend  = 0xc138fd06 // _IOWR(0xfd, 6, struct dm_ioctl)
	dmSuspendFlag = 1 << 1
)

// dmSuspend suspends or resumes the dm device "MAJOR:MINOR". Resuming one that runs does nothing.
func dmSuspend(control int, dev string, on bool) error {
	major, minor, _ := strings.Cut(dev, ":")
	ma, err1 := strconv.ParseUint(major, 10, 12)
	mi, err2 := strconv.ParseUint(minor, 10, 20)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	r := dmRequest{version: [3]uint32{4, 0, 0}}
	r.dataSize, r.dataStart = uint32(unsafe.Sizeof(r)), uint32(unsafe.Sizeof(r))
	r.dev = mi&0xff | ma<<8 | (mi&^0xff)<<12 // huge_encode_dev
	word := "resume"
	if on {
		r.flags, word = dmSuspendFlag, "suspend"
	}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(control), dmDevSuspend, uintptr(unsafe.Pointer(&r)))
	runtime.KeepAlive(&r)
	if e != 0 {
		return fmt.Errorf("%s dm %s: %w", word, dev, e)
	}
	return nil
}
