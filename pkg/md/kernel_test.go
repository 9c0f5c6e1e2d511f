package md

import "testing"

func TestTooNewFor(t *testing.T) {
	array, other := UUID{1}, UUID{2}
	blocks := &Member{Super: &Superblock{Array: array, LogicalBlock: 512}}
	lockless := &Member{Super: &Superblock{Array: array}, BitmapErr: ErrLocklessBitmap}
	plain := &Member{Super: &Superblock{Array: array}}
	another := &Member{Super: &Superblock{Array: other, LogicalBlock: 512}}
	for _, test := range []struct {
		m       *Member
		release string
		old     bool
	}{
		{plain, "5.10.0-36-amd64", false},
		{another, "5.10.0-36-amd64", false},
		{blocks, "6.12.57+deb13-amd64", true},
		{blocks, "6.18.9", true},
		{blocks, "6.19-rc1", false},
		{blocks, "7.2.0", false},
		{blocks, "some kernel", false},
		{lockless, "6.17.0", true},
		{lockless, "6.18.0", false},
	} {
		if why := TooNewFor(test.release, array, []Found{{Member: plain}, {Member: test.m}}); (why != "") != test.old {
			t.Errorf("TooNewFor(%q) = %q; want a reason: %v", test.release, why, test.old)
		}
	}
}

func TestLosesMarks(t *testing.T) {
	for release, want := range map[string]bool{
		"5.11.22": false, "5.12.0": true, "5.15.0-130-generic": true, "5.16.0": false, "6.12.57+deb13-amd64": false, "5.10.0-36-amd64": false, "": false,
	} {
		if got := LosesMarks(release); got != want {
			t.Errorf("LosesMarks(%q) = %v; want %v", release, got, want)
		}
	}
}

func TestOlderThan(t *testing.T) {
	for _, test := range []struct {
		release string
		want    bool
	}{
		{"6.12.57+deb13-amd64", true},
		{"6.18.0", true},
		{"6.19-rc1", false},
		{"6.19.3", false},
		{"7.2.13+deb14-amd64", false},
		{"5.10.0", true},
		{"", false},
		{"next", false},
	} {
		if got := olderThan(test.release, 6, 19); got != test.want {
			t.Errorf("olderThan(%q, 6, 19) = %v; want %v", test.release, got, test.want)
		}
	}
}
