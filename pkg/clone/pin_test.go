package clone

import (
	"testing"

	"mdclone/pkg/config"
	"mdclone/pkg/limits"
	"mdclone/pkg/md"
)

func TestLowered(t *testing.T) {
	for _, test := range []struct {
		wanted, members uint64
		want            string // "" for nothing
	}{
		{99999, 1280, "wanted 99999, the members take 1280"},
		{1280, 1280, ""},
		{64, 1280, ""},
		{0, 1280, ""},
		{512, 0, ""}, // no member tells
	} {
		got := lowered(limits.PinResult{Wanted: test.wanted, Members: test.members})
		if (len(got) > 0) != (test.want != "") || len(got) > 0 && got[0].Text != test.want {
			t.Errorf("lowered(%d of %d) = %v; want %q", test.wanted, test.members, got, test.want)
		}
	}
}

func TestWantedKB(t *testing.T) {
	stack := limits.Stack{Members: []limits.Device{{Name: "vda", Queue: limits.Queue{MaxSectorsKB: 1280}}}}
	for _, test := range []struct {
		conf        config.Array
		typed, want uint64
	}{
		{config.Array{}, 0, 1280},
		{config.Array{CloneMaxSectorsKB: 512}, 0, 512},
		{config.Array{CloneMaxSectorsKB: 512, MaxSectorsKB: 256}, 0, 256},
		{config.Array{CloneMaxSectorsKB: 512, MaxSectorsKB: 256}, 128, 128},
		{config.Array{}, 128, 128},
	} {
		test.conf.UUID = md.UUID{7}
		target := &Target{env: &Env{Root: t.TempDir()}, Conf: test.conf}
		for _, typed := range []uint64{test.typed, 0} {
			if err := target.HoldAt(typed); err != nil {
				t.Fatal(err)
			}
			if got := target.wantedKB(stack); typed == test.typed && got != test.want {
				t.Errorf("wantedKB of %+v, typed %d = %d; want %d", test.conf, typed, got, test.want)
			}
		}
		if got := target.pinnedKB(test.conf.MaxSectorsKB); got != test.conf.MaxSectorsKB {
			t.Errorf("%d KiB are held after a pin without a limit", got)
		}
	}
}
