package clone

import (
	"strings"
	"testing"
	"time"

	"mdclone/pkg/md"
)

func TestRoundly(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "1s", 400 * time.Millisecond: "1s", 42 * time.Second: "42s", 90 * time.Second: "2 min", 59*time.Minute + 20*time.Second: "59 min",
		2*time.Hour + 37*time.Minute: "2 h 40 min", 26 * time.Hour: "26 h 0 min",
	} {
		if got := roundly(d); got != want {
			t.Errorf("roundly(%v) = %q; want %q", d, got, want)
		}
	}
}

// TestAdvise: a verdict that only a full copy changes says how one is made, and what it costs.
func TestAdvise(t *testing.T) {
	e, a := fakeEnv(t)
	target := &Target{env: e, Array: a, Configured: true}
	target.Conf.Name = "root"
	d := Drive{Path: "/dev/none-such"}
	for _, test := range []struct {
		name string
		v    Verdict
		want string
	}{
		{"into its own slot", Verdict{FullCopy: true, Mend: MendFull, CopyBytes: 1 << 30}, "(1.0 GiB): mdclone-early backup --full root"},
		{"as a new drive", Verdict{FullCopy: true, CopyBytes: 1 << 30}, "(1.0 GiB): mdclone-early adopt --overwrite /dev/md0 /dev/none-such"},
		{"nothing", Verdict{CopyBytes: 1 << 30}, ""},
	} {
		if got := strings.Join(target.advise(test.v, d).Hints, "\n"); !strings.HasSuffix(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%s: the hint is %q; want %q at its end", test.name, got, test.want)
		}
	}
}

// TestRanAloneSays: when, and how much.
func TestRanAloneSays(t *testing.T) {
	f := stale()
	ranAlone(55)(&f)
	f.Drive.Super.Updated = 1_700_000_000
	f.Drive.Bitmap.Dirty = md.NewChunks(10)
	f.Drive.Bitmap.Dirty.Add(3)
	f.Drive.Bitmap.Dirty.Add(4)
	v := Judge(f)
	if len(v.Reasons) != 2 || !strings.Contains(v.Reasons[0].Text, "2023-11-14 22:13 UTC") || !strings.Contains(v.Reasons[1].Text, "2.0 MiB") {
		t.Errorf("the reasons are %+v; want the date and the 2 MiB in them", v.Reasons)
	}
}

func TestCutCompleted(t *testing.T) {
	for text, want := range map[string]bool{"8 / 64": true, "none": false, "delayed": false, "": false, "8 / ": false, " / 64": false, "x / y": false} {
		if done, total, ok := cutCompleted(text); ok != want || ok && (done != 8 || total != 64) {
			t.Errorf("cutCompleted(%q) = %d, %d, %v; want %v", text, done, total, ok, want)
		}
	}
}
