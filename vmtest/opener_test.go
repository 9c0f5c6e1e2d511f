//go:build vmtest

package vmtest

import (
	"testing"

	"mdclone/vmtest/vm"
)

// plainOpener has a program that has the array open without claiming it, as those that export it do: what it writes must not be
// written over, and what it may write is no array at rest.
func (r *rig) plainOpener(t *testing.T) {
	p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", "exec 3<>/dev/md0; echo open; exec sleep 100000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitStdout(r.Context(), "open"); err != nil {
		t.Fatal(err)
	}
	r.quiet()
	r.untouched(func() { code(t, r.account(3, "backup", "--offline"), "in-use") })
	before := r.requestsTo("md0")
	if got := r.account(0, "backup"); got.Offline {
		t.Errorf("backup: %+v; want no clone of an array at rest", got)
	}
	if after := r.requestsTo("md0"); after != before {
		t.Errorf("backup wrote to the array %d times beside that program; want never", after-before)
	}
	r.stopProcess(p)
	r.sh("write /dev/md0 1 45; clean")
	if got := r.taken("vda", "--offline"); !got.Offline {
		t.Errorf("backup --offline: %+v; want it offline", got)
	}
}
