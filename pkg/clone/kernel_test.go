package clone

import (
	"testing"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
)

func TestHowToAssembleNamesNoClone(t *testing.T) {
	conf := config.Array{Name: "root", UUID: md.UUID{1}, Clones: []md.UUID{{0xc}}}
	found := []md.Found{
		{Path: "/dev/sda", Member: member(0, 0xa, 60)},
		{Path: "/dev/sdb", Member: member(1, 0xb, 60)},
		{Path: "/dev/sdc", Member: member(2, 0xc, 70)},
		{Path: "/dev/sdd", Member: &md.Member{Super: &md.Superblock{Array: md.UUID{9}}}},
		{Path: "/dev/sde", Member: &md.Member{Super: &md.Superblock{Array: md.UUID{1}, WriteMostly: true}}}, // a clone of a later configuration
	}
	want := "if these are all of its own disks: mdadm --assemble --run /dev/md/root /dev/sda /dev/sdb"
	if got := howToAssemble(conf, found); got != want {
		t.Errorf("howToAssemble() = %q; want %q", got, want)
	}
	if got, want := howToAssemble(conf, found[2:]), "none of its own disks is here"; got != want {
		t.Errorf("howToAssemble(the clone alone) = %q; want %q", got, want)
	}
}
