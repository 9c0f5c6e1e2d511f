package main

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	udevrules "mdclone/udev-rules"
)

var update = flag.Bool("update", false, "write the golden files anew")

func uuid(t *testing.T, s string) md.UUID {
	t.Helper()
	u, err := md.ParseUUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestRule(t *testing.T) {
	array := uuid(t, "8e5c6b62:12345678:9abcdef0:12345678")
	boot := uuid(t, "00112233:44556677:8899aabb:ccddeeff")
	clone, other := uuid(t, "0f0e0d0c-0b0a-0908-0706-050403020100"), uuid(t, "11111111222222223333333344444444")
	cases := []struct {
		name   string
		arrays []config.Array
	}{
		{"one-array", []config.Array{
			{Name: "root", UUID: array, Clones: []md.UUID{clone}, CloneMaxSectorsKB: 1280},
		}},
		{"two-arrays-two-clones", []config.Array{
			{Name: "boot", UUID: boot, Clones: []md.UUID{other}, MaxSectorsKB: 512, CloneMaxSectorsKB: 1280},
			{Name: "root", UUID: array, Clones: []md.UUID{clone, other}},
		}},
		{"no-clone-yet", []config.Array{{Name: "root", UUID: array}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := rule(c.arrays)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", c.name+".rules")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("rule (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRuleOrder checks what the file's name is for: its place among the rules of Debian, Fedora and dracut.
func TestRuleOrder(t *testing.T) {
	want := []string{
		"60-persistent-storage.rules", "63-md-raid-arrays.rules", udevrules.Name, "64-lvm.rules",
		"64-md-raid-assembly.rules", "65-md-incremental-imsm.rules", "69-dm-lvm.rules", "69-lvm.rules",
	}
	if !slices.IsSorted(want) {
		t.Errorf("%q does not sort where it must", udevrules.Name)
	}
}

// TestRuleLines checks what udev takes badly: a rule is one line, and every GOTO needs its LABEL.
func TestRuleLines(t *testing.T) {
	text, err := rule([]config.Array{{Name: "a", UUID: md.UUID{1}, Clones: []md.UUID{{2}}, MaxSectorsKB: 64}})
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]bool{}
	var jumps []string
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		for _, part := range strings.Split(line, ", ") {
			key, value, ok := strings.Cut(part, "\"")
			if !ok || !strings.HasSuffix(value, "\"") {
				t.Errorf("line %d: %q is not KEY=\"VALUE\"", i+1, part)
			}
			switch strings.TrimSuffix(key, "=") {
			case "GOTO":
				jumps = append(jumps, value)
			case "LABEL":
				labels[value] = true
			}
		}
	}
	for _, j := range jumps {
		if !labels[j] {
			t.Errorf("GOTO=\"%s has no label", j)
		}
	}
	if len(jumps) < 4 {
		t.Errorf("%d jumps; want at least 4", len(jumps))
	}
}
