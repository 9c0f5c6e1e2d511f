package clone

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// advise adds to a verdict that only a full copy changes how to make one, and what that costs.
func (t *Target) advise(v Verdict, d Drive) Verdict {
	if !v.FullCopy {
		return v
	}
	how := fmt.Sprintf("mdclone-early backup --full %s", t.Conf.Name)
	if v.Mend != MendFull || !t.Configured {
		how = fmt.Sprintf("mdclone-early adopt --overwrite %s %s", t.Array.Path(), d.Path)
	}
	cost := report.Bytes(v.CopyBytes)
	if rate := readRate(d.Path, t.env.Now); rate > 0 {
		cost += fmt.Sprintf(", about %s at this drive's rate", roundly(time.Duration(float64(v.CopyBytes)/rate*float64(time.Second))))
	}
	return v.hint("a full copy makes it a clone again (%s): %s", cost, how)
}

// readRate reads the beginning of a drive for a moment and returns bytes a second; 0 if it cannot be read. Buffers of the
// size that md's sync uses, so that the figure is one of the drive and not of a single request.
func readRate(path string, now func() time.Time) float64 {
	const step, most, moment = 1 << 20, 64 << 20, 300 * time.Millisecond
	d, err := md.OpenDisk(path, unix.O_RDONLY)
	if err != nil {
		return 0
	}
	defer d.Close()
	block := md.AlignedBuffer(step)
	start, done := now(), int64(0)
	for done < most && done+step <= d.Size() && now().Sub(start) < moment {
		if err := d.ReadAligned(block, done); err != nil {
			return 0
		}
		done += step
	}
	if took := now().Sub(start).Seconds(); took > 0 {
		return float64(done) / took
	}
	return 0
}

// roundly is a duration as a person says it: to the second below a minute, to the minute below an hour, to ten above.
func roundly(d time.Duration) string {
	unit := 10 * time.Minute
	switch {
	case d < time.Minute:
		return max(d.Round(time.Second), time.Second).String()
	case d < time.Hour:
		unit = time.Minute
	}
	d = d.Round(unit)
	if h := d / time.Hour; h > 0 {
		return fmt.Sprintf("%d h %d min", h, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}
