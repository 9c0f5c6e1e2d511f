package clone

import (
	"testing"

	"mdclone/pkg/md"
)

func TestTwinOf(t *testing.T) {
	d := Drive{Name: "vdc", Member: member(2, 0xc, 50)}
	found := []md.Found{{Name: "vda", Member: member(0, 0xa, 60)}, {Name: "vdc", Member: d.Member}}
	if got := twinOf(d, found); got != "" {
		t.Errorf("twinOf() = %q; want none", got)
	}
	if got := twinOf(d, append(found, md.Found{Name: "vdd", Member: member(2, 0xc, 40)})); got != "vdd" {
		t.Errorf("twinOf() = %q; want the copy, vdd", got)
	}
}
