package clone

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"mdclone/pkg/md"
)

func seed(f *testing.F, v any) {
	f.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:len(text)/2])
}

// FuzzEntry reads whatever a ledger file holds, and judges a drive by it: the verdict must end, whatever ranges it names.
func FuzzEntry(f *testing.F) {
	u := md.UUID{1, 2}
	seed(f, Entry{Clone: u, Slot: 2, Super: []byte("x"), Dirty: []md.Range{{First: 0, Last: 3}, {First: 1 << 63, Last: 1<<64 - 2}}})
	seed(f, Entry{Clone: u, Dirty: []md.Range{{First: 5, Last: 1<<64 - 1}}})
	seed(f, Entry{})
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := decodeEntry(text, u)
		if err != nil {
			return
		}
		if x.Clone != u {
			t.Errorf("the entry is about %s", x.Clone)
		}
		primary := &md.Member{Super: &md.Superblock{}, Bitmap: &md.Bitmap{ChunkBytes: x.ChunkBytes, Dirty: md.NewChunks(9)}}
		outdatedByLedger(Facts{Ledger: x, Primaries: []*md.Member{primary}})
	})
}

func FuzzTunables(f *testing.F) {
	seed(f, tunables{Array: md.UUID{1}, Changed: []tunable{{"bitmap/time_base", "5", "1"}, {"array_state", "active", "readonly"}}})
	seed(f, tunables{Changed: []tunable{{"../../../etc/passwd", "x", "y"}}})
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := decodeTunables(text)
		if err != nil {
			return
		}
		for _, c := range got.Changed {
			if path := filepath.Join("/sys/block/md0/md", c.Attr); !strings.HasPrefix(path+"/", "/sys/block/md0/md/") {
				t.Errorf("a record leads to %s", path)
			}
		}
	})
}

func FuzzParseMounts(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
	f.Add("1 2 0:35 / / rw - btrfs /dev/sda\n\n-\n- - - - - - -")
	f.Fuzz(func(t *testing.T, text string) {
		if got := ParseMounts(text); len(got) > strings.Count(text, "\n")+1 {
			t.Errorf("%d mounts in %d lines", len(got), strings.Count(text, "\n")+1)
		}
		onSwap(text, "vda")
	})
}
