package clone

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

func chunks(n uint64, set ...uint64) md.Chunks {
	c := md.NewChunks(n)
	for _, i := range set {
		c.Add(i)
	}
	return c
}

func TestSettleWatch(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	type look struct {
		at      float64
		dirty   []uint64
		written bool
		want    bool
	}
	for _, test := range []struct {
		name  string
		looks []look
		clear []uint64
	}{
		{"an idle array", []look{{0, []uint64{1, 2}, false, false}, {2, []uint64{2}, false, false}, {3, nil, false, true}}, []uint64{1, 2}},
		{"a writer elsewhere", []look{{0, []uint64{1, 2, 8}, true, false}, {3, []uint64{8}, true, true}}, []uint64{1, 2}},
		{"a writer on a copied chunk", []look{
			{0, []uint64{1, 2}, true, false},
			{3, []uint64{2}, true, false},
			{7, []uint64{2}, true, false}, // no progress for 4 s: less than three ticks and two seconds
			{8.5, []uint64{2}, true, true},
		}, []uint64{1}},
		{"bits that stay without a writer", []look{
			{0, []uint64{1, 2}, false, false}, {3, []uint64{2}, false, false}, {17, []uint64{2}, false, false}, {19, []uint64{2}, false, true},
		}, []uint64{1}},
		{"seen clear, then written again", []look{{0, []uint64{1, 2}, true, false}, {2, []uint64{2}, true, false}, {3, []uint64{1}, true, true}}, []uint64{2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newSettleWatch(chunks(10, 1, 2), start, time.Second)
			for i, l := range test.looks {
				if got := w.see(chunks(10, l.dirty...), at(l.at), l.written); got != l.want {
					t.Errorf("look %d: see() = %v; want %v", i, got, l.want)
				}
			}
			if diff := cmp.Diff(chunks(10, test.clear...).Ranges(), w.clear.Ranges()); diff != "" {
				t.Errorf("clear (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChooseTouch(t *testing.T) {
	ext4 := user{device: "dm-0", mount: &Mount{Point: "/", Type: "ext4"}}
	onMD := user{device: "md0", mount: &Mount{Point: "/srv", Type: "vfat"}}
	dm0, dm1 := user{device: "dm-0", direct: true}, user{device: "dm-1"}
	for _, test := range []struct {
		name  string
		held  bool
		users []user
		l     layout
		block uint64
		want  touchWay
	}{
		{"nothing on it", false, nil, layoutOther, 512, touchWay{kind: touchExclusive}},
		{"nothing on a PV", false, nil, layoutLVM, 512, touchWay{kind: touchExclusive}},
		{"LVM in use", true, []user{dm0, ext4}, layoutLVM, 512, touchWay{kind: touchSector0}},
		{"btrfs in use", true, []user{{device: "md0", mount: &Mount{Point: "/", Type: "btrfs"}}}, layoutBtrfs, 512, touchWay{kind: touchSector0}},
		{"LVM on 4096-byte blocks, ext4 on an LV", true, []user{dm0, ext4}, layoutLVM, 4096, touchWay{kind: touchFreeze, mount: "/"}},
		{"LUKS, LVM and ext4", true, []user{dm0, dm1, ext4}, layoutOther, 512, touchWay{kind: touchFreeze, mount: "/"}},
		{"dm alone", true, []user{dm0, dm1}, layoutOther, 512, touchWay{kind: touchSuspend, dms: []string{"dm-0"}}},
		{"swap on dm", true, []user{dm0, {device: "dm-0", swap: true}}, layoutOther, 512, touchWay{kind: touchSuspend, dms: []string{"dm-0"}}},
		{"swap on the array", true, []user{{device: "md0", swap: true}}, layoutOther, 512, touchWay{kind: touchNone}},
		{"vfat on the array", true, []user{onMD}, layoutOther, 512, touchWay{kind: touchNone}},
		{"an exclusive opener", true, nil, layoutOther, 512, touchWay{kind: touchNone}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := chooseTouch(test.held, "md0", test.users, test.l, test.block)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(touchWay{})); diff != "" {
				t.Errorf("chooseTouch() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNotOffline(t *testing.T) {
	for _, test := range []struct {
		name       string
		users      []user
		text, hint string
	}{
		{"volumes", []user{{device: "dm-0", direct: true}}, "md0 is in use, so this is not offline: dm-0 is on it", "lvm vgchange -an"},
		{
			"a mount",
			[]user{{device: "dm-0", direct: true}, {device: "dm-0", mount: &Mount{Point: "/"}}},
			"md0 is in use, so this is not offline: dm-0 is on it, mounted on /", "mdclone-gen boot-once backup",
		},
		{"another mount", []user{{device: "md0", mount: &Mount{Point: "/mnt"}}}, "md0 is in use, so this is not offline: mounted on /mnt", "umount /mnt"},
		{"swap", []user{{device: "md0", swap: true}}, "md0 is in use, so this is not offline: md0 is swap", "swapoff"},
		{"an opener", nil, "md0 is in use, so this is not offline: somebody has it open", "lvm vgchange -an"},
	} {
		var got *report.Error
		if !errors.As(notOffline("md0", test.users), &got) || got.Exit != report.Refused || got.Reasons[0].Text != test.text ||
			len(got.Hints) != 1 || !strings.Contains(got.Hints[0], test.hint) {
			t.Errorf("notOffline(%s) = %+v; want %q, hint %q", test.name, got, test.text, test.hint)
		}
	}
}

func TestSniff(t *testing.T) {
	head := func(put map[int]string) []byte {
		b := make([]byte, 68<<10)
		for off, text := range put {
			copy(b[off:], text)
		}
		return b
	}
	for _, test := range []struct {
		name string
		head []byte
		want layout
	}{
		{"zeros", head(nil), layoutOther},
		{"a PV", head(map[int]string{512: "LABELONE", 536: "LVM2 001"}), layoutLVM},
		{"a PV with its label in sector 0", head(map[int]string{0: "LABELONE", 24: "LVM2 001"}), layoutOther},
		{"a label of something else", head(map[int]string{512: "LABELONE", 536: "other"}), layoutOther},
		{"btrfs", head(map[int]string{64<<10 + 64: "_BHRfS_M"}), layoutBtrfs},
		{"a tiny array", make([]byte, 4096), layoutOther},
	} {
		if got := sniff(test.head); got != test.want {
			t.Errorf("sniff(%s) = %v; want %v", test.name, got, test.want)
		}
	}
}

func TestParseMounts(t *testing.T) {
	text := `22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg0-root rw
30 22 0:27 /sub /mnt\040two rw - btrfs /dev/md0 rw,subvol=/sub
31 22 0:5 / /dev rw
garbage
`
	want := []Mount{
		{Device: "253:0", Point: "/", Type: "ext4", Source: "/dev/mapper/vg0-root"},
		{Device: "0:27", Point: "/mnt two", Type: "btrfs", Source: "/dev/md0"},
	}
	if diff := cmp.Diff(want, ParseMounts(text)); diff != "" {
		t.Errorf("ParseMounts() (-want +got):\n%s", diff)
	}
}

func TestChunkFor(t *testing.T) {
	const mib, tib = 1 << 20, 1 << 40
	for _, test := range []struct{ size, want uint64 }{
		{256 * mib, mib}, {tib, mib}, {tib + 1, mib}, {tib + mib, 2 * mib}, {8 * tib, 8 * mib},
	} {
		if got := ChunkFor(test.size); got != test.want {
			t.Errorf("ChunkFor(%d) = %d; want %d", test.size, got, test.want)
		}
	}
}

func TestNameFor(t *testing.T) {
	taken := map[string]md.UUID{"data": {9}, "md1": {9}}
	for _, test := range []struct{ asked, own, kernel, want, code string }{
		{"", "box:root", "md127", "root", ""},
		{"mine", "box:root", "md127", "mine", ""},
		{"42", "box:root", "md127", "42", ""},
		{"md127", "box:root", "md127", "md127", ""},
		{"md3", "box:root", "md127", "", "usage"},
		{"data", "box:root", "md127", "", "name-taken"},
		{"", "box:0", "md0", "md0", ""},
		{"", "", "md0", "md0", ""},
		{"", "box:../etc", "md0", "md0", ""},
		{"", "box:data", "md0", "md0", ""},
		{"", "box:md3", "md0", "md0", ""},
		{"", "box:data", "md1", "array-abcd0000", ""},
	} {
		got, err := nameFor(test.asked, test.own, test.kernel, md.UUID{0xab, 0xcd}, taken)
		if got != test.want || reasonCode(err) != test.code {
			t.Errorf("nameFor(%q, %q, %q) = %q, %v; want %q, %q", test.asked, test.own, test.kernel, got, err, test.want, test.code)
		}
	}
}

func TestBlkidSignature(t *testing.T) {
	for _, test := range []struct{ export, want string }{
		{"DEVNAME=/dev/vdc\nUUID=1\nTYPE=ext4\nUSAGE=filesystem\n", "UUID=1 TYPE=ext4 USAGE=filesystem"},
		{"DEVNAME=/dev/vdc\nPTUUID=2\nPTTYPE=gpt\n", "PTTYPE=gpt"},
		{"DEVNAME=/dev/vdc1\nPART_ENTRY_SCHEME=gpt\nPART_ENTRY_NUMBER=1\n", ""},
		{"", ""},
	} {
		if got := blkidSignature(test.export); got != test.want {
			t.Errorf("blkidSignature(%q) = %q; want %q", test.export, got, test.want)
		}
	}
}

func TestSetting(t *testing.T) {
	for _, test := range []struct {
		text, set, want string
		same            bool
	}{
		{"200000 (system)", "10000000", "system", false},
		{"1000 (local)", "1000", "1000", true},
		{"1", "1", "1", true},
		{"1.000", "1", "1.000", true},
		{"10", "1", "10", false},
		{"100", "1", "100", false},
		{"readonly", "readonly", "readonly", true},
	} {
		if got := setting(test.text); got != test.want {
			t.Errorf("setting(%q) = %q; want %q", test.text, got, test.want)
		}
		if got := sameSetting(test.text, test.set); got != test.same {
			t.Errorf("sameSetting(%q, %q) = %v; want %v", test.text, test.set, got, test.same)
		}
	}
}

func TestSummarySaysWhatTheCloneIs(t *testing.T) {
	r := Result{Array: "root", Device: "/dev/sdc", DirtyBytes: 16 << 20, CopiedBytes: 16 << 20}
	if got := r.Summary(); !strings.Contains(got, "is a clone of the array") {
		t.Errorf("Summary() = %q; want it to say that it is a clone", got)
	}
	r.Attached = true
	if got := r.Summary(); !strings.Contains(got, "attached") || strings.Contains(got, "is a clone") {
		t.Errorf("Summary() = %q; want it to say that it is attached", got)
	}
}

func TestLostMeanwhile(t *testing.T) {
	const in, spare, faulty = "in_sync", "spare", "faulty"
	for _, test := range []struct {
		name        string
		state       string
		a, b, clone string
		bad         string // members with bad blocks
		want        string // reason code
	}{
		{"none", "clean", in, in, in, "", ""},
		{"one, the clone is complete", "clean", faulty, in, in, "", "primary-failed"},
		{"one, the clone is not complete", "clean", in, faulty, spare, "", "primary-failed"},
		{"both, the clone is complete", "clean", faulty, faulty, in, "", "last-copy"},
		{"both, the clone is not complete", "clean", faulty, faulty, spare, "", "last-primary"},
		{"the last one keeps its slot", "broken", faulty, in, spare, "", "last-primary"},
		{"the last one has bad blocks", "active", faulty, in, spare, "b", "last-primary"},
		{"one of two has bad blocks", "active", in, in, spare, "b", ""},
		{"bad blocks, the clone is complete", "active", faulty, in, in, "b", "primary-failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			state := md.State{ArrayState: test.state}
			for slot, m := range []struct{ name, flag string }{{"a", test.a}, {"b", test.b}, {"c", test.clone}} {
				state.Members = append(state.Members, md.MemberState{Name: m.name, Slot: slot, Flags: []string{m.flag}})
			}
			got := ""
			bad := func(name string) bool { return strings.Contains(test.bad, name) }
			if e := lostMeanwhile("md0", "c", state, []string{"a", "b"}, bad); e != nil {
				got = reasonCode(e)
			}
			if got != test.want {
				t.Errorf("lostMeanwhile() = %q; want %q", got, test.want)
			}
		})
	}
}

func TestFailedBehind(t *testing.T) {
	for _, test := range []struct {
		name  string
		state string
		flags map[string]string // of the members that are left
		want  string
	}{
		{"none failed", "active", map[string]string{"a": "in_sync", "b": "in_sync"}, ""},
		{"one failed", "active", map[string]string{"a": "faulty", "b": "in_sync"}, "primary-failed"},
		{"one is gone", "active", map[string]string{"b": "in_sync"}, "primary-failed"},
		{"the last one keeps its slot", "broken", map[string]string{"a": "faulty", "b": "in_sync"}, "last-primary"},
	} {
		state := md.State{ArrayState: test.state}
		for name, flag := range test.flags {
			state.Members = append(state.Members, md.MemberState{Name: name, Flags: []string{flag}})
		}
		got := ""
		if err := failedBehind("md0", "c", state, []string{"a", "b"}); err != nil {
			got = reasonCode(err)
		}
		if got != test.want {
			t.Errorf("%s: failedBehind() = %q; want %q", test.name, got, test.want)
		}
	}
}

// TestWrittenFromClones: a and b are primaries, c and d clones, by their slots.
func TestWrittenFromClones(t *testing.T) {
	for _, test := range []struct {
		slots string // of a, b, c, d; "-" for one that is not in
		want  string
	}{
		{"012-", ""},
		{"0-2-", "a"},
		{"021-", "a"}, // b is written from a
		{"021", "a"},
		{"12-0", "a, b"},
		{"230-", "a, b"},
		{"03-1", "a"},
		{"01--", ""},
	} {
		state := md.State{RaidDisks: 4}
		for i, slot := range test.slots {
			if slot != '-' {
				state.Members = append(state.Members, md.MemberState{Name: string("abcd"[i]), Slot: int(slot - '0'), Flags: []string{"in_sync"}})
			}
		}
		if got := join(writtenFromClones(state, []string{"a", "b"})); got != test.want {
			t.Errorf("writtenFromClones(%s) = %q; want %q", test.slots, got, test.want)
		}
	}
}

func TestFirstInSync(t *testing.T) {
	member := func(name string, slot int, flags ...string) md.MemberState {
		return md.MemberState{Name: name, Slot: slot, Flags: flags}
	}
	for _, test := range []struct {
		members []md.MemberState
		want    string
	}{
		{nil, ""},
		{[]md.MemberState{member("c", 2, "in_sync", "write_mostly"), member("b", 1, "in_sync"), member("a", 0, "faulty")}, "b"},
		{[]md.MemberState{member("c", 1, "in_sync"), member("b", 2, "in_sync"), member("a", 0, "spare")}, "c"},
	} {
		if got := firstInSync(md.State{Members: test.members}); got != test.want {
			t.Errorf("firstInSync(%v) = %q; want %q", test.members, got, test.want)
		}
	}
}

// TestMayFail is the last look before a member is failed.
func TestMayFail(t *testing.T) {
	const in, spare, faulty = "in_sync", "spare", "faulty"
	for _, test := range []struct {
		name        string
		a, b, clone string
		want, peer  string // reason code, or the primary that is looked at from then on
	}{
		{"all are there", in, in, in, "", "a"},
		{"one is lost, the clone is not complete", faulty, in, spare, "", "b"},
		{"one is lost, the clone is complete", in, faulty, in, "primary-failed", ""},
		{"the clone is the last good copy", faulty, faulty, in, "last-copy", ""},
		{"no good copy is left", faulty, faulty, spare, "last-primary", ""},
	} {
		var state md.State
		for slot, m := range []struct{ name, flag string }{{"a", test.a}, {"b", test.b}, {"c", test.clone}} {
			state.Members = append(state.Members, md.MemberState{Name: m.name, Slot: slot, Flags: []string{m.flag}})
		}
		s := &session{Target: &Target{}, drive: Drive{Name: "c"}, peers: []string{"a", "b"}}
		got, err := "", s.mayFail(state)
		if err != nil {
			got = reasonCode(err)
		}
		if got != test.want || s.peer != test.peer {
			t.Errorf("%s: mayFail() = %q, %q looked at; want %q, %q", test.name, got, s.peer, test.want, test.peer)
		}
	}
}
