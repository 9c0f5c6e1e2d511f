package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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

	remembered bool // the backup has written the history itself: it does where it began something
	stuck      bool // the backup has not ended, and cannot be killed
}

// died is why nothing is known of a cycle: whoever looked after it came to no end.
const died = "died"

// why is an outcome without an account.
func why(code report.Code, reason, format string, args ...any) outcome {
	return outcome{Result: code.Result(), Code: code, Reasons: []report.Reason{{Code: reason, Text: fmt.Sprintf(format, args...)}}}
}

// accounts is what backup --json prints: of one clone, or of several.
type accounts struct {
	one
	Arrays []one `json:"arrays"`
}

// one is the account of one clone, as far as the outcome is told by it.
type one struct {
	Array    string          `json:"array"`
	Result   string          `json:"result"`
	Attached bool            `json:"attached"`
	Reasons  []report.Reason `json:"reasons"`
}

func (a accounts) each() []one {
	if a.Arrays == nil {
		return []one{a.one}
	}
	return a.Arrays
}

// accounted is the outcome of a run that gave an account.
func accounted(code report.Code, account []byte) outcome {
	var a accounts
	if err := json.Unmarshal(account, &a); err != nil {
		return why(report.Failed, "no-account", "the backup ended with exit code %d and no account: %v", code, err)
	}
	return outcome{Result: code.Result(), Code: code, Reasons: a.Reasons, Account: account}
}

// passOver adds why clones were not made again.
func (o *outcome) passOver(reasons []report.Reason) {
	o.Reasons = append(o.Reasons, reasons...)
	isCut := func(r report.Reason) bool { return r.Code == unfinished }
	if o.Code == report.Done && slices.ContainsFunc(reasons, isCut) {
		o.Result, o.Code = report.Failed.Result(), report.Failed
	}
}

// accounts are empty without an account.
func (o outcome) accounts() []one {
	var a accounts
	if o.Account == nil || json.Unmarshal(o.Account, &a) != nil {
		return nil
	}
	return a.each()
}

// text is the outcome for a person, one line.
func (o outcome) text() string {
	var made, in, reasons []string
	for _, a := range o.accounts() {
		if a.Result == report.Done.Result() {
			made = append(made, a.Array)
		}
		if a.Attached {
			in = append(in, a.Array)
		}
	}
	for _, r := range o.Reasons {
		reasons = append(reasons, r.Text)
	}
	text, because := "", strings.Join(reasons, "; ")
	switch {
	case o.Code == report.Done && len(made) > 0 && !slices.ContainsFunc(o.Reasons, func(r report.Reason) bool { return r.Code == spent || r.Code == unfinished }):
		text = "the clone was made before anything was started"
	case len(made) > 0:
		text = "the clone of " + strings.Join(made, ", ") + " was made before anything was started, the rest was not (" + o.Result +
			"): " + because
	case len(o.Reasons) > 0 && o.Reasons[0].Code == died:
		text = "whether the clone was made before the boot is not known, mdclone-early status tells what it is now: " + because
	default:
		text = "no clone was made before the boot (" + o.Result + "): " + because
	}
	switch {
	case len(in) > 0:
		text += "; do not unplug it, it is still in the array of " + strings.Join(in, ", ") + ": mdclone-early "
		if o.Code == report.Differs { // a plain detach compares it again
			text += "verify --repair makes it equal, "
		}
		text += "detach"
		if o.Code == report.Differs {
			text += " --verify none"
		}
		text += " takes it out"
	case o.Code == report.Done && len(made) > 0:
		text += "; it is detached"
	}
	return text
}

// changed tells whether the backup may have changed anything: not where it refused all that was asked.
func (o outcome) changed() bool {
	for _, a := range o.accounts() {
		if a.Result != report.Refused.Result() {
			return true
		}
	}
	return o.Account == nil
}

// keep leaves the outcome for the real root, and in the history.
func (b *Boot) keep(o outcome) error {
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	err = b.mark(outcomeFile, string(text)+"\n")
	if o.remembered {
		return err
	}
	line, e := json.Marshal(o)
	if e != nil {
		return errors.Join(err, e)
	}
	return errors.Join(err, appendTo(b.history(), string(line)+"\n"))
}

// history is the file of accounts that the running system takes over.
func (b *Boot) history() string { return filepath.Join(b.Root, config.HandoverDir, config.HistoryFile) }

// historyBytes is its length; 0 without one.
func (b *Boot) historyBytes() int64 {
	info, err := os.Stat(b.history())
	if err != nil {
		return 0
	}
	return info.Size()
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

// tellUnguarded says that nothing of this was there in the initramfs. Nobody else can: the boot loader may have started another image
// than the one in /boot, or another generator has made them since.
func (b *Boot) tellUnguarded(w io.Writer) error {
	what := ""
	switch {
	case exists(b.file(premount)):
		return nil
	case b.params.backup:
		what = "no clone was made before the boot"
	case slices.ContainsFunc(b.confs(), func(c config.Array) bool { return len(c.Clones) > 0 }):
		what = "nothing guarded this boot against a clone that was plugged in"
	default:
		return nil
	}
	_, err := fmt.Fprintf(w, "<4>%s: the boot image that was started has no mdclone in it, or it was not run there; mdclone-gen verify "+
		"tells what is in the images, mdclone-gen install puts it into them\n", what)
	return err
}

// tell is the stage Report: what came of the cycle, once, for the journal.
func (b *Boot) tell(w io.Writer) error {
	text, err := os.ReadFile(b.file(outcomeFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return b.tellUnguarded(w)
	case err != nil:
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
	if device, e := b.sleeper(); e == nil && device != "" { // it was not resumed, and swapon, which ends that, may never come
		_, e = fmt.Fprintf(w, "<3>a system sleeps on %s (hibernation) since before this boot: resumed later it would destroy what was written "+
			"since; end that with swapon %[1]s, or mkswap %[1]s\n", device)
		err = errors.Join(err, e)
	}
	return errors.Join(err, os.Rename(b.file(outcomeFile), b.file("reported-"+outcomeFile)))
}
