package clone

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/report"
)

// remember appends an account to the history.
func (e *Env) remember(r *Result, at time.Time) error {
	line, err := json.Marshal(struct {
		At time.Time `json:"at"`
		*Result
	}{at.UTC(), r})
	if err != nil {
		return err
	}
	return e.addHistory(append(line, '\n'))
}

func (e *Env) addHistory(lines []byte) error {
	if err := os.MkdirAll(e.VarDir(), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(e.VarDir(), config.HistoryFile), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	end, err := f.Seek(0, io.SeekEnd)
	if last := []byte{'\n'}; err == nil && end > 0 {
		if _, err = f.ReadAt(last, end-1); last[0] != '\n' { // a full disk, or a power cut: it costs that line, not the next too
			lines = append([]byte{'\n'}, lines...)
		}
	}
	if err == nil {
		_, err = f.Write(lines)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// Summary is the account for a person, one line.
func (r *Result) Summary() string {
	var b strings.Builder
	b.WriteString(r.Array + ": " + r.Device + " ")
	switch {
	case r.Mode == "none":
		b.WriteString("is not in the array")
		if slices.ContainsFunc(r.Reasons, func(x report.Reason) bool { return x.Code == incomplete }) {
			b.WriteString(", and is no complete clone: the next backup copies the rest")
		}
		return b.String()
	case r.Attached:
		b.WriteString("is in sync and attached")
	case slices.ContainsFunc(r.Reasons, func(x report.Reason) bool { return x.Code == doubted }):
		b.WriteString("is out as it is, and may be no clone: " + differed)
	default:
		b.WriteString("is a clone of the array")
	}
	b.WriteString(", " + report.Bytes(r.CopiedBytes) + " copied for " + report.Bytes(r.DirtyBytes) + " changed")
	if r.VerifiedBytes > 0 {
		b.WriteString(", " + report.Bytes(r.VerifiedBytes) + " compared")
	}
	b.WriteString(", " + (time.Duration(r.Seconds.Total*1000) * time.Millisecond).String())
	return b.String()
}
