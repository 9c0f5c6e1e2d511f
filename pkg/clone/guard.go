package clone

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/dm"
	"mdclone/pkg/limits"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
	"mdclone/pkg/sysfs"
)

// Freezing a file system, suspending a dm device or making an array read-only and then dying would hang the machine. So
// a second process is started first that undoes it as soon as our end of its pipe closes, however we end. Undoing where
// there is nothing to undo does nothing.

// GuardCommand is the hidden command that is that second process: GuardCommand thaw MOUNTPOINT | resume MAJOR:MINOR... |
// write FILE VALUE [FILE VALUE]... | restore ARRAY | unprobe LOOP...
const GuardCommand = "undo-when-parent-ends"

const (
	fiFreeze = 0xc0045877 // FIFREEZE (include/uapi/linux/fs.h, Linux 6.12)
	fiThaw   = 0xc0045878 // FITHAW
)

// frozenAtMost bounds a freeze or suspension whose parent lives but does not come back (stopped, or blocked on memory).
const frozenAtMost = 10 * time.Second

// disarm, written to a guard before its pipe closes, tells it that there is nothing of ours to undo.
const disarm = 'n'

// Guard runs that second process: it reads stdin until it ends, then undoes. It says on stdout when it is ready.
func Guard(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) < 2 {
		return errors.New("nothing to guard")
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	// what is paged out cannot be read in while the disk below is suspended
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
		return fmt.Errorf("mlockall: %w", err)
	}
	undo, bound, closer, err := undoing(args)
	if err != nil {
		return err
	}
	defer closer.Close()
	if _, err := io.WriteString(stdout, "ready\n"); err != nil {
		return err
	}
	ended := make(chan bool)
	go func() {
		word, _ := io.ReadAll(stdin) // any end of the pipe is the end
		ended <- len(word) == 0 || word[0] != disarm
	}()
	select {
	case armed := <-ended:
		if !armed {
			return nil
		}
	case <-bound: // what is being frozen only now is undone when they have ended
		err := undo()
		if armed := <-ended; !armed {
			return err
		}
		return errors.Join(err, undo())
	}
	return undo()
}

// undoing prepares what a guard does in the end: all that it needs is open before.
func undoing(args []string) (undo func() error, bound <-chan time.Time, closer io.Closer, err error) {
	switch args[0] {
	case "thaw":
		dir, err := os.Open(args[1])
		return func() error { return thaw(int(dir.Fd())) }, time.After(frozenAtMost), dir, err
	case "resume":
		control, err := dm.Open("/")
		undo = func() error {
			var errs []error
			for _, dev := range args[1:] {
				errs = append(errs, control.Resume(dev))
			}
			return errors.Join(errs...)
		}
		return undo, time.After(frozenAtMost), control, err
	case "write":
		files, err := openAll(args[1:])
		undo = func() error {
			var errs []error
			for i, f := range files {
				_, err := f.WriteString(args[2+2*i])
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		}
		return undo, nil, files, err
	case "restore":
		array, err := md.ParseUUID(args[1])
		return func() error { return NewEnv(report.Log{W: os.Stderr}, nil).restoreAfter(array) }, nil, io.NopCloser(nil), err
	case "unprobe":
		loops, err := numbers(args[1:])
		return func() error { return limits.RemoveScratch(sysfs.New(), loops) }, nil, io.NopCloser(nil), err
	}
	return nil, nil, nil, fmt.Errorf("cannot guard %q", args[0])
}

// openFiles are the attributes that a guard will write.
type openFiles []*os.File

// openAll opens the files of FILE VALUE pairs.
func openAll(pairs []string) (openFiles, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("%q is no list of files and values", pairs)
	}
	var out openFiles
	for i := 0; i < len(pairs); i += 2 {
		f, err := os.OpenFile(pairs[i], os.O_WRONLY, 0)
		if err != nil {
			return nil, errors.Join(err, out.Close())
		}
		out = append(out, f)
	}
	return out, nil
}

// Close closes all of them.
func (o openFiles) Close() error {
	var errs []error
	for _, f := range o {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func thaw(fd int) error {
	if err := md.IoctlPlain(fd, fiThaw); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: not frozen
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}

// guard is the second process, seen from the first.
type guard struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	says bytes.Buffer // its stderr; to be read when it has ended
}

// startGuard returns when the guard is ready.
func startGuard(args ...string) (*guard, error) { return startGuardWith(nil, args...) }

// startGuardWith starts one that holds files open too, until it ends.
func startGuardWith(files []*os.File, args ...string) (*guard, error) {
	g := &guard{cmd: exec.Command("/proc/self/exe", append([]string{GuardCommand}, args...)...)}
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of reach of Ctrl-C on our terminal
	g.cmd.ExtraFiles = files
	g.cmd.Stderr = &g.says
	var err error
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	var ready [6]byte
	if _, err := io.ReadFull(out, ready[:]); err != nil {
		return nil, errors.Join(fmt.Errorf("guard %s does not begin: %w", strings.Join(args, " "), err), g.end())
	}
	return g, nil
}

// end has the guard undo, and waits for it.
func (g *guard) end() error {
	closed, ended := g.in.Close(), g.cmd.Wait()
	return errors.Join(closed, guardError(g.cmd.Args[2], g.says.String(), ended))
}

// guardError is how a guard ended, with what it said of that.
func guardError(what, said string, err error) error {
	if err == nil {
		return nil
	}
	text := "guard " + what
	for line := range strings.Lines(said) {
		text += ": " + strings.TrimPrefix(strings.TrimSpace(line), "mdclone: error: ")
	}
	return fmt.Errorf("%s: %w", text, err)
}

// dismiss ends the guard without undoing.
func (g *guard) dismiss() error {
	_, err := g.in.Write([]byte{disarm})
	return errors.Join(err, g.end())
}

// errNotOurs says that something was frozen or suspended by others already: undoing it is theirs.
var errNotOurs = errors.New("it is frozen or suspended already, or being changed")

// guarded runs do with a guard in place; do returns errNotOurs if there is nothing to undo. What do has undone itself, others may
// have done anew since.
func guarded(args []string, do func() error) error {
	signal.Ignore(syscall.SIGTSTP) // a stop in between would leave it frozen until the guard's bound
	defer signal.Reset(syscall.SIGTSTP)
	g, err := startGuard(args...)
	if err != nil {
		return err
	}
	if err = do(); err == nil || errors.Is(err, errNotOurs) {
		return errors.Join(err, g.dismiss())
	}
	return errors.Join(err, g.end())
}

// freezeAndThaw makes the file system at a mount point write its superblock.
func freezeAndThaw(mount string) error {
	dir, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer dir.Close()
	return guarded([]string{"thaw", mount}, func() error {
		err := md.IoctlPlain(int(dir.Fd()), fiFreeze)
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("freeze %s: %w", mount, errNotOurs)
		}
		if err != nil {
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
	control, err := dm.Open(e.Root)
	if err != nil {
		return err
	}
	defer control.Close()
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
		return fmt.Errorf("mlockall: %w", err)
	}
	defer func() { _ = unix.Munlockall() }()
	return guarded(append([]string{"resume"}, devs...), func() error {
		for _, dev := range devs {
			if free, err := control.Free(dev); err != nil || !free {
				return errors.Join(fmt.Errorf("suspend dm %s: %w", dev, errNotOurs), err)
			}
		}
		var errs []error
		suspended, start := 0, time.Now()
		for _, dev := range devs {
			if err := control.Suspend(dev); err != nil {
				errs = append(errs, err)
				break
			}
			suspended++
		}
		if took := time.Since(start); len(errs) == 0 && took > frozenAtMost/2 { // the guard may resume them in mid-write
			errs = append(errs, fmt.Errorf("suspending dm devices took %s", took.Round(time.Second)))
		}
		if len(errs) == 0 {
			errs = append(errs, do())
		}
		for _, dev := range devs[:suspended] {
			errs = append(errs, control.Resume(dev))
		}
		return errors.Join(errs...)
	})
}
