package clone

import (
	"strings"
	"testing"

	"mdclone/pkg/md"
)

func TestCanaryGone(t *testing.T) {
	dirty := md.NewChunks(10)
	for _, i := range []uint64{0, 3, 9} {
		dirty.Add(i)
	}
	b := &md.Bitmap{ChunkBytes: 1 << 20, Dirty: dirty}
	for _, test := range []struct {
		name string
		x    Entry
		want string // "" if it is there
	}{
		{"there", Entry{ChunkBytes: 1 << 20, Dirty: []md.Range{{First: 0, Last: 0}, {First: 9, Last: 9}}}, ""},
		{"none was left", Entry{ChunkBytes: 1 << 20}, ""},
		{"the first is gone", Entry{ChunkBytes: 1 << 20, Dirty: []md.Range{{First: 0, Last: 1}}}, "chunk 1 "},
		{"the last is gone", Entry{ChunkBytes: 1 << 20, Dirty: []md.Range{{First: 0, Last: 0}, {First: 8, Last: 9}}}, "chunk 8 "},
		{"behind the end", Entry{ChunkBytes: 1 << 20, Dirty: []md.Range{{First: 10, Last: 10}}}, "chunk 10 "},
		{"other chunks", Entry{ChunkBytes: 2 << 20, Dirty: []md.Range{{First: 0, Last: 0}}}, "made anew"},
		{"of before chunks were recorded", Entry{Dirty: []md.Range{{First: 3, Last: 3}}}, ""},
	} {
		got := canaryGone(&test.x, b)
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: canaryGone() = %q; want %q in it", test.name, got, test.want)
		}
	}
}

func TestDoubtOthers(t *testing.T) {
	e, a := fakeEnv(t)
	own, other, kept, in := md.UUID{1}, md.UUID{2}, md.UUID{3}, md.UUID{4}
	gone := []md.Range{{First: 7, Last: 7}}
	for _, x := range []Entry{
		{Clone: own, Dirty: gone},
		{Clone: other, Dirty: gone},
		{Clone: kept, Dirty: []md.Range{{First: 0, Last: 0}}},
		{Clone: in, Dirty: gone, Attached: true},
	} {
		if err := e.record(x); err != nil {
			t.Fatal(err)
		}
	}
	s := &session{Target: &Target{env: e, Array: a}}
	s.Conf.Clones = []md.UUID{own, other, kept, in, {5}}
	s.drive.Member = &md.Member{Super: &md.Superblock{Device: own}}
	dirty := md.NewChunks(8)
	dirty.Add(0)
	if err := s.doubtOthers(&md.Bitmap{Dirty: dirty}); err != nil {
		t.Fatal(err)
	}
	for u, want := range map[md.UUID]bool{own: false, other: true, kept: false, in: false} {
		if x, err := e.entry(u); err != nil || (x.Doubt != "") != want {
			t.Errorf("clone %s: %+v, %v; want a doubt: %v", u, x, err, want)
		}
	}
}
