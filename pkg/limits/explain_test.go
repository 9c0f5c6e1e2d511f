package limits

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/md"
)

func TestExplain(t *testing.T) {
	full := Queue{MaxSectorsKB: 1280, MaxHWSectorsKB: 2048, LogicalBlock: 512, MaxSegments: 128, MaxSegmentSize: 65536}
	with := func(change func(*Queue)) Queue { q := full; change(&q); return q }
	small := with(func(q *Queue) { q.MaxSectorsKB = 120 })
	stack := func(array Queue, holder Queue, members ...Queue) Stack {
		s := Stack{Array: Device{"md0", array}, Holders: []Device{{"dm-0", holder}}}
		for i, q := range members {
			s.Members = append(s.Members, Device{string(rune('a' + i)), q})
		}
		return s
	}
	for _, test := range []struct {
		name            string
		stack           Stack
		pinned, cloneKB uint64
		want            []string // codes
		auto            uint64
	}{
		{"all alike", stack(full, full, full, full), 1280, 0, nil, 1280},
		{"no member", stack(full, full), 0, 0, nil, 0},
		{"no member but a clone", stack(full, full), 0, 120, nil, 120},
		{"pinned below", stack(small, small, full, full), 120, 0, nil, 1280},
		{"pinned for the clone", stack(small, small, full, full), 120, 120, []string{"clone-lowers"}, 120},
		{"the user's own pin, above the clone's", stack(small, small, full, full), 120, 64, nil, 64},
		{"the clone takes more", stack(full, full, full, full), 1280, 4096, nil, 1280},
		{"a member that joined online", stack(small, full, full, full, small), 120, 0, []string{"member-lowers", "late"}, 120},
		{"it left", stack(small, full, full, full), 1280, 0, []string{"stays-low", "late"}, 1280},
		{"it left, with a pin", stack(small, small, full, full), 120, 0, nil, 1280},
		{"two of them", stack(small, small, full, small, small), 120, 0, []string{"member-lowers", "member-lowers"}, 120},
		{"hardware limit", stack(
			with(func(q *Queue) { q.MaxHWSectorsKB = 120 }), full, full, with(func(q *Queue) { q.MaxHWSectorsKB = 120 }),
		), 1280, 0, []string{"member-lowers", "late"}, 1280},
		{"segments", stack(with(func(q *Queue) { q.MaxSegments = 1 }), with(func(q *Queue) { q.MaxSegments = 1 }), full, full), 1280, 0, []string{"stays-low"}, 1280},
		{
			"segment size", stack(with(func(q *Queue) { q.MaxSegmentSize = 4096 }), full, full, with(func(q *Queue) { q.MaxSegmentSize = 4096 })),
			1280, 0,
			[]string{"member-lowers", "late"},
			1280,
		},
		{"4096-byte blocks below 512", stack(
			with(func(q *Queue) { q.LogicalBlock = 4096 }), full, full, with(func(q *Queue) { q.LogicalBlock = 4096 }),
		), 1280, 0, []string{"logical-block", "logical-block"}, 1280},
		{"4096-byte blocks all over", stack(
			with(func(q *Queue) { q.LogicalBlock = 4096 }), with(func(q *Queue) { q.LogicalBlock = 4096 }), with(func(q *Queue) { q.LogicalBlock = 4096 }),
		), 1280, 0, nil, 1280},
	} {
		var got []string
		for _, f := range test.stack.Explain(test.pinned, test.cloneKB) {
			got = append(got, f.Code)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: Explain() (-want +got):\n%s\n%v", test.name, diff, test.stack.Explain(test.pinned, test.cloneKB))
		}
		if auto := test.stack.Auto(test.cloneKB); auto != test.auto {
			t.Errorf("%s: Auto(%d) = %d; want %d", test.name, test.cloneKB, auto, test.auto)
		}
	}
}

func TestExplainSaysHowLong(t *testing.T) {
	const (
		raised = "mdclone-early pin raises it"
		anew   = "it stays so until the array is assembled anew"
	)
	queue := func(kb, hw, segments uint64) Queue {
		return Queue{MaxSectorsKB: kb, MaxHWSectorsKB: hw, MaxSegments: segments, MaxSegmentSize: 65536, LogicalBlock: 512}
	}
	full, small, weak := queue(1280, 2048, 128), queue(120, 2048, 128), queue(120, 120, 128)
	for _, test := range []struct {
		name            string
		array, member   Queue // beside one that is full
		pinned, cloneKB uint64
		want            []string // how each finding ends
	}{
		{"a member lowers", small, small, 120, 0, []string{"once it has left " + raised}},
		{"a member lowers, configured is more", small, small, 512, 64, []string{"once it has left " + raised}},
		{"a member lowers, configured is less", small, small, 64, 0, []string{"take 1280"}},
		{"the recorded clone is in", small, small, 120, 120, []string{"take 1280"}},
		{"a member that the clone takes more than", small, small, 120, 512, []string{"once it has left " + raised}},
		{"a member's hardware lowers", weak, weak, 120, 0, []string{"once it has left " + anew, "once it has left " + anew}},
		{"it left", small, full, 1280, 0, []string{"lowered it, and " + raised}},
		{"it left, no pin", small, full, 0, 0, []string{"lowered it, and " + raised}},
		{"it left, configured is less", small, full, 64, 0, []string{"lowered it"}},
		{"it left, and its hardware's limit stays", weak, full, 1280, 0, []string{"lowered it, and " + anew, "lowered it, and " + anew}},
		{"segments", queue(1280, 2048, 1), queue(1280, 2048, 1), 1280, 0, []string{"once it has left " + anew}},
		{"segments, it left", queue(1280, 2048, 1), full, 1280, 0, []string{"lowered it, and " + anew}},
	} {
		got := Stack{Array: Device{"md0", test.array}, Members: []Device{{"a", full}, {"b", test.member}}}.Explain(test.pinned, test.cloneKB)
		if !slices.EqualFunc(got, test.want, func(f Finding, end string) bool { return strings.HasSuffix(f.Text, end) }) {
			t.Errorf("%s: Explain() = %q; want endings %q", test.name, got, test.want)
		}
	}
}

func TestReadStackAndBelow(t *testing.T) {
	f := machine(t)
	s, err := ReadStack(md.Array{FS: f, Name: "md0"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range append(s.Members, s.Holders...) {
		names = append(names, d.Name)
	}
	if diff := cmp.Diff([]string{"vda", "vdb1", "dm-0", "dm-1"}, names); diff != "" {
		t.Errorf("members and holders (-want +got):\n%s", diff)
	}
	for name, want := range map[string][]string{"md0": {"md0"}, "md0p1": {"md0"}, "dm-1": {"md0"}, "vda": nil, "none": nil} {
		got, err := Below(f, name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Below(%s) (-want +got):\n%s", name, diff)
		}
	}
}
