package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mdclone/pkg/config"
	"mdclone/pkg/report"
)

// outcomeFile has what came of mdclone=backup, outcomeLog all that was said meanwhile.
const (
	outcomeFile = "boot.json"
	outcomeLog  = "boot.log"
)

// outcome is what came of a cycle that was asked for on the kernel's command line.
type outcome struct {
	At      time.Time       `json:"at"`
	Asked   string          `json:"asked"` // backup
	Result  string          `json:"result"`
	Code    report.Code     `json:"code"`
	Reasons []report.Reason `json:"reasons"`
	Account json.RawMessage `json:"account,omitempty"` // of mdclone-early backup --json, if it came to run
}

// why is an outcome without an account.
func why(code report.Code, reason, format string, args ...any) outcome {
	return outcome{Result: code.Result(), Code: code, Reasons: []report.Reason{{Code: reason, Text: fmt.Sprintf(format, args...)}}}
}

// accounted is the outcome of a run that gave an account.
func accounted(code report.Code, account []byte) outcome {
	var a struct {
		Reasons []report.Reason `json:"reasons"`
	}
	if err := json.Unmarshal(account, &a); err != nil {
		return why(report.Failed, "no-account", "the backup ended with exit code %d and no account: %v", code, err)
	}
	return outcome{Result: code.Result(), Code: code, Reasons: a.Reasons, Account: account}
}

// text is the outcome for a person, one line.
func (o outcome) text() string {
	if o.Code == report.Done && o.Account != nil {
		return "the clone was made before anything was started"
	}
	reasons := make([]string, 0, len(o.Reasons))
	for _, r := range o.Reasons {
		reasons = append(reasons, r.Text)
	}
	return "no clone was made before the boot (" + o.Result + "): " + strings.Join(reasons, "; ")
}

// remembered tells whether the backup has written the history itself: not where it changed nothing.
func (o outcome) remembered() bool {
	return o.Account != nil && o.Code != report.Refused && o.Code != report.NoDrive && o.Code != report.Usage
}

// keep leaves the outcome for the real root, and in the history.
func (b *Boot) keep(o outcome) error {
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	err = b.mark(outcomeFile, string(text)+"\n")
	if o.remembered() {
		return err
	}
	line, e := json.Marshal(o)
	if e != nil {
		return errors.Join(err, e)
	}
	return errors.Join(err, appendTo(filepath.Join(b.Root, config.HandoverDir, config.HistoryFile), string(line)+"\n"))
}

// appendTo adds text to a file, which is made if need be.
func appendTo(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}

// tell is the stage Report: what came of the cycle, once, for the journal.
func (b *Boot) tell(w io.Writer) error {
	text, err := os.ReadFile(b.file(outcomeFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var o outcome
	if err := json.Unmarshal(text, &o); err != nil {
		return fmt.Errorf("read %s: %w", b.file(outcomeFile), err)
	}
	log, err := os.ReadFile(b.file(outcomeLog))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	level := 5
	if o.Code != report.Done {
		level = 4
	}
	// the journal takes the level from a line's beginning (sd-daemon(3))
	_, err = fmt.Fprintf(w, "%s<%d>%s\n", log, level, report.Printable(o.text()))
	return errors.Join(err, os.Rename(b.file(outcomeFile), b.file("reported-"+outcomeFile)))
}
