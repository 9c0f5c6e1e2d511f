//go:build vmtest

package vmtest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDecodersAgainstMdadm makes arrays of each metadata version with each release's own mdadm and kernel, and requires
// that our reading of the members, made on the host, says what mdadm says in the guest.
func TestDecodersAgainstMdadm(t *testing.T) {
	eachGuest(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 3)
		for minor, version := range []string{"1.0", "1.1", "1.2"} {
			t.Run(version, func(t *testing.T) {
				r := r.at(t)
				r.Script(fmt.Sprintf(`mdadm --create /dev/md0 --run --level=1 --raid-devices=3 --metadata=%s --bitmap=internal --bitmap-chunk=1M \
					--name=some --homehost=box /dev/vda /dev/vdb --write-mostly /dev/vdc
					mdadm --wait /dev/md0 || true; mdadm /dev/md0 --fail /dev/vdc --remove /dev/vdc 2>/dev/null`, version))
				for i, at := range []int{3, 20, 21, 77} {
					r.write("/dev/md0", 1, at)
					if i == 1 {
						r.quiet()
					}
				}
				r.Script("mdadm --stop /dev/md0 2>/dev/null") // nothing changes any more
				for _, name := range []string{"vda", "vdb", "vdc"} {
					r.asMdadmSays(t, name, minor)
				}
				r.Script("mdadm --zero-superblock /dev/vda /dev/vdb /dev/vdc")
			})
		}
	})
}

func (r *rig) asMdadmSays(t *testing.T, name string, minor int) {
	t.Helper()
	got := r.onDisk(t, name)
	text := r.Must("mdadm", "-E", "/dev/"+name) + r.Must("mdadm", "-X", "/dev/"+name)
	said := func(key string) string {
		m := regexp.MustCompile(`(?m)^\s*` + key + ` : (.*)$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("mdadm says nothing of %q:\n%s", key, text)
		}
		return strings.TrimSpace(m[1])
	}
	number := func(key string) uint64 {
		word, _, _ := strings.Cut(said(key), " ")
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			t.Fatalf("mdadm says of %q: %q", key, said(key))
		}
		return n
	}
	state := strings.Map(func(c rune) rune {
		if c == '-' {
			return '.'
		}
		return 'A'
	}, got.Super.View())
	updated, err := time.Parse("Mon Jan _2 15:04:05 2006", said("Update Time"))
	if err != nil {
		t.Fatal(err)
	}
	chunks := regexp.MustCompile(`(\d+) bits \(chunks\), (\d+) dirty`).FindStringSubmatch(said("Bitmap"))
	dataOffset := uint64(0) // of which mdadm says nothing
	if got.Super.Minor != 0 {
		dataOffset = number("Data Offset")
	}
	for what, pair := range map[string][2]any{
		"version":        {fmt.Sprintf("1.%d", got.Super.Minor), said("Version")[:3]},
		"place":          {got.Super.Minor, minor},
		"array UUID":     {got.Super.Array.String(), said("Array UUID")},
		"device UUID":    {got.Super.Device.String(), said("Device UUID")},
		"name":           {got.Super.ArrayName, strings.Fields(said("Name"))[0]},
		"slots":          {uint64(got.Super.RaidDisks), number("Raid Devices")},
		"data offset":    {got.Super.DataOffset, dataOffset},
		"super offset":   {got.Super.SuperOffset, number("Super Offset")},
		"events":         {got.Super.Events, number(`  Events`)},
		"view":           {state, strings.Fields(said("Array State"))[0]},
		"updated":        {got.Super.Updated, uint64(updated.Unix())},
		"checksum":       {fmt.Sprintf("%x", got.Super.Checksum), strings.Fields(said("Checksum"))[0]},
		"bitmap events":  {got.Bitmap.Events, bitmapNumber(t, text, "Events")},
		"events cleared": {got.Bitmap.EventsCleared, number("Events Cleared")},
		"chunks":         {fmt.Sprint(got.Bitmap.Dirty.Len()), chunks[1]},
		"dirty":          {fmt.Sprint(got.Bitmap.Dirty.Count()), chunks[2]},
		"tick":           {fmt.Sprintf("%ds", got.Bitmap.DaemonSleep), strings.Fields(said("Daemon"))[0]},
		"write-mostly":   {got.Super.WriteMostly, name == "vdc"},
		"role":           {fmt.Sprintf("Active device %d", got.Super.Slot()), said("Device Role")},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s is %v for us, %v for mdadm", name, what, pair[0], pair[1])
		}
	}
}

// bitmapNumber is a number of `mdadm -X`, whose keys those of `mdadm -E` can hide.
func bitmapNumber(t *testing.T, text, key string) uint64 {
	t.Helper()
	_, bitmap, _ := strings.Cut(text, "Magic : 6d746962")
	m := regexp.MustCompile(`(?m)^\s*` + key + ` : (\d+)$`).FindStringSubmatch(bitmap)
	if m == nil {
		t.Fatalf("mdadm -X says nothing of %q:\n%s", key, text)
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
