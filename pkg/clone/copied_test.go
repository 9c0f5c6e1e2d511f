package clone

import (
	"testing"

	"mdclone/pkg/md"
)

func TestCopiedIn(t *testing.T) {
	b := &md.Bitmap{ChunkBytes: 1 << 20, Dirty: md.NewChunks(8)}
	for _, test := range []struct {
		name, text string
		want       []md.Range // nil if it is not known
	}{
		{name: "this stay", text: `{"stay":"a-1","chunk_bytes":1048576,"chunks":[{"First":1,"Last":2},{"First":7,"Last":7}]}`, want: []md.Range{{First: 1, Last: 2}, {First: 7, Last: 7}}},
		{name: "nothing was copied", text: `{"stay":"a-1","chunk_bytes":1048576,"chunks":null}`, want: []md.Range{}},
		{name: "out of range", text: `{"stay":"a-1","chunk_bytes":1048576,"chunks":[{"First":6,"Last":18446744073709551615}]}`, want: []md.Range{{First: 6, Last: 7}}},
		{name: "an earlier stay", text: `{"stay":"a-2","chunk_bytes":1048576,"chunks":[{"First":1,"Last":2}]}`},
		{name: "the bitmap was made anew", text: `{"stay":"a-1","chunk_bytes":65536,"chunks":[{"First":1,"Last":2}]}`},
		{name: "cut", text: `{"stay":"a-1","chu`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := copiedIn([]byte(test.text), "a-1", b)
			if (got != nil) != (test.want != nil) {
				t.Fatalf("copiedIn() = %v; want %v", got, test.want)
			}
			if got == nil {
				return
			}
			ranges := got.Ranges()
			if len(ranges) != len(test.want) {
				t.Fatalf("copiedIn() = %v; want %v", ranges, test.want)
			}
			for i, r := range ranges {
				if r != test.want[i] {
					t.Errorf("copiedIn() = %v; want %v", ranges, test.want)
				}
			}
		})
	}
}
