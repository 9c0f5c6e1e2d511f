package vmtest

import (
	"context"
	"testing"
	"time"

	"mdclone/vmtest/vm"
)

// Patience bounds every wait of a test. It is many times what a wait takes: a verdict never depends on the host's speed.
const Patience = 10 * time.Minute

// Machine is a virtual machine of one test. Its methods end the test where the machine cannot do what it is asked for.
type Machine struct {
	*vm.VM
	t   testing.TB
	ctx context.Context
}

// Lab makes a lab that writes to the test's log.
func Lab(t testing.TB) *vm.Lab {
	t.Helper()
	l, err := vm.NewLab(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Boot starts a virtual machine for the test and waits until it is up. It ends with the test, and a test that failed
// prints its whole console.
func Boot(t testing.TB, c vm.Config) *Machine {
	t.Helper()
	return BootIn(t, Lab(t), c)
}

// BootMachine starts a machine from new layers over its disks; change may alter what is started.
func BootMachine(t testing.TB, l *vm.Lab, base vm.Machine, change func(*vm.Config)) *Machine {
	t.Helper()
	c, err := base.Config(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&c)
	}
	return BootIn(t, l, c)
}

// BootIn is Boot in a lab that is there.
func BootIn(t testing.TB, l *vm.Lab, c vm.Config) *Machine {
	t.Helper()
	return begin(t, l.Start, c)
}

// LaunchIn is BootIn that does not wait for the agent (vm.Lab.Launch); the machine is up after Up.
func LaunchIn(t testing.TB, l *vm.Lab, c vm.Config) *Machine {
	t.Helper()
	return begin(t, l.Launch, c)
}

func begin(t testing.TB, start func(context.Context, vm.Config) (*vm.VM, error), c vm.Config) *Machine {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	v, err := start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{VM: v, t: t, ctx: t.Context()}
	t.Cleanup(func() {
		if t.Failed() {
			if where := v.Autopsy(); where != "" {
				t.Logf("the guest hangs; its processors:\n%s", where)
			}
		}
		if err := v.Close(); err != nil {
			t.Errorf("Close() = %v; want nil", err)
		}
		if t.Failed() {
			t.Logf("console:\n%s", v.Console())
		}
	})
	return m
}

// Up waits until the machine's agent is there.
func (m *Machine) Up() {
	m.t.Helper()
	if err := m.VM.Ready(m.Context()); err != nil {
		m.t.Fatal(err)
	}
}

// NewDisk makes an empty disk of mib MiB in the test's own directory.
func NewDisk(t testing.TB, name string, mib int64) vm.Disk {
	t.Helper()
	d, err := vm.NewDisk(t.TempDir(), name, mib<<20)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// In is m for a subtest: what fails, fails t.
func (m *Machine) In(t testing.TB) *Machine { return &Machine{VM: m.VM, t: t, ctx: t.Context()} }

// Context bounds one wait.
func (m *Machine) Context() context.Context {
	ctx, cancel := context.WithTimeout(m.ctx, Patience)
	m.t.Cleanup(cancel)
	return ctx
}

// Try runs a command and returns how it ended, whatever that is.
func (m *Machine) Try(argv ...string) vm.Result {
	m.t.Helper()
	r, err := m.VM.Run(m.Context(), argv...)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// Must runs a command that must succeed and returns its stdout.
func (m *Machine) Must(argv ...string) string {
	m.t.Helper()
	r := m.Try(argv...)
	if err := r.Err(); err != nil {
		m.t.Fatal(err)
	}
	return r.Stdout
}

// Script runs a bash script, of which every command must succeed, and returns its stdout.
func (m *Machine) Script(script string) string {
	m.t.Helper()
	return m.Must("bash", "-euo", "pipefail", "-c", script)
}

// Plugged plugs d in and returns its name in the guest, such as vdc.
func (m *Machine) Plugged(d vm.Disk) string {
	m.t.Helper()
	name, err := m.VM.Plug(m.Context(), d)
	if err != nil {
		m.t.Fatal(err)
	}
	return name
}

// Unplugged takes the disk with serial away.
func (m *Machine) Unplugged(serial string) {
	m.t.Helper()
	if err := m.VM.Unplug(m.Context(), serial); err != nil {
		m.t.Fatal(err)
	}
}

// File returns the content of a file in the guest.
func (m *Machine) File(path string) string {
	m.t.Helper()
	content, err := m.VM.ReadFile(m.Context(), path)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(content)
}
