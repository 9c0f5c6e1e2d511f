package clone

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// TestBySysfs: to who may not read the disks, the slots tell of a clone only where they leave nothing open.
func TestBySysfs(t *testing.T) {
	in := func(slot int, flags ...string) md.MemberState {
		return md.MemberState{Name: "vd" + string(rune('a'+slot)), Slot: slot, Flags: flags}
	}
	const unknown = "unknown"
	for _, test := range []struct {
		name    string
		members []md.MemberState // besides vda and vdb
		slots   int
		clones  int
		state   State
		device  string // unknown for null
	}{
		{"in", []md.MemberState{in(2, "in_sync", "write_mostly")}, 3, 1, InSync, "/dev/vdc"},
		{"being copied to", []md.MemberState{in(2, "spare", "write_mostly")}, 3, 1, Syncing, "/dev/vdc"},
		{"a disk that is no clone in its slot", []md.MemberState{in(2, "in_sync")}, 3, 1, "", unknown},
		{"away, or plugged in", nil, 3, 1, "", unknown},
		{"failed", []md.MemberState{in(2, "faulty", "write_mostly")}, 3, 1, "", unknown},
		{"pulled out", []md.MemberState{{Name: "vdc", Slot: 2, Flags: []string{"in_sync", "write_mostly"}, Gone: true}}, 3, 1, "", unknown},
		{"both of two", []md.MemberState{in(2, "in_sync", "write_mostly"), in(3, "in_sync", "write_mostly")}, 4, 2, InSync, unknown},
		{"one of two is copied to", []md.MemberState{in(2, "in_sync", "write_mostly"), in(3, "spare", "write_mostly")}, 4, 2, "", unknown},
		{"one of two", []md.MemberState{in(3, "in_sync", "write_mostly")}, 4, 2, "", unknown},
		{"not assembled", nil, 0, 1, "", unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := DriveStatus{Device: new(string), State: Absent, CopyBytes: new(uint64), Reasons: []report.Reason{}}
			members := append([]md.MemberState{in(0, "in_sync"), in(1, "in_sync")}, test.members...)
			c.bySysfs(md.State{RaidDisks: test.slots, Members: members}, test.clones)
			device := unknown
			if c.Device != nil {
				device = *c.Device
			}
			if c.State != test.state || device != test.device || c.CopyBytes != nil {
				t.Errorf("bySysfs() = %q at %s, %v to copy; want %q at %s, which is not known", c.State, device, c.CopyBytes, test.state, test.device)
			}
		})
	}
}

func TestUnknownIsNull(t *testing.T) {
	text, err := json.Marshal(DriveStatus{})
	for _, want := range []string{`"state":null`, `"device":null`, `"copy_bytes":null`, `"detached_at":null`} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("JSON of what is not known: %s, %v; want %s in it", text, err, want)
		}
	}
}

// TestDamagedRecordIsAReason: it hides neither the clone nor those beside it.
func TestDamagedRecordIsAReason(t *testing.T) {
	e, a := fakeEnv(t)
	bad, good := md.UUID{1}, md.UUID{2}
	for _, u := range []md.UUID{bad, good} {
		if err := e.record(Entry{Clone: u, FirstCopy: u != good}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(e.entryPath(bad), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	target := &Target{env: e, Array: a, Conf: config.Array{Clones: []md.UUID{bad, good}}}
	c := target.recorded(bad, ArrayStatus{})
	if len(c.Reasons) != 1 || c.Reasons[0].Code != "ledger-damaged" || len(c.Hints) != 1 || c.State != Absent {
		t.Errorf("recorded() = %+v; want the damage as its reason, with a hint", c)
	}
	if c := target.recorded(good, ArrayStatus{}); len(c.Reasons) > 0 {
		t.Errorf("recorded() of the other = %v; want nothing", c.Reasons)
	}
}

func TestUnreadOf(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "/etc/mdclone/root.conf", Err: fs.ErrPermission}
	files, err := unreadOf([]error{denied})
	if diff := cmp.Diff([]string{"/etc/mdclone/root.conf"}, files); diff != "" || err != nil {
		t.Errorf("unreadOf(permission denied) = %v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []error{errors.New("line 1: bad"), &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}} {
		if _, err := unreadOf([]error{denied, bad}); report.CodeOf(err) != report.Usage {
			t.Errorf("unreadOf(%v) = %v; want an error of usage", bad, err)
		}
	}
}

func TestConfOf(t *testing.T) {
	confs := []config.Array{{Name: "boot", UUID: md.UUID{1}}, {Name: "root", UUID: md.UUID{2}}}
	for which, want := range map[string]string{"root": "root", md.UUID{1}.String(): "boot", "md0": "", md.UUID{3}.String(): "", "": ""} {
		if got, ok := confOf(which, confs); got.Name != want || ok != (want != "") {
			t.Errorf("confOf(%q) = %q, %v; want %q", which, got.Name, ok, want)
		}
	}
}
