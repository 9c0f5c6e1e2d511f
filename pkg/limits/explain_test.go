package limits

import (
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
