// Package report is how both programs speak: exit codes, messages on stderr and in the kernel log, one JSON object on
// stdout, progress.
package report

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// Code is an exit status of mdclone-early and mdclone-gen.
type Code int

// The exit codes. A Go panic exits with 2 as well, so a script may treat 2 as "do not trust anything".
const (
	Done        Code = 0   // done, or nothing to do
	Failed      Code = 1   // failed; what was changed is said
	Usage       Code = 2   // wrong arguments or configuration
	Refused     Code = 3   // unsafe, nothing was changed
	NoDrive     Code = 4   // the clone drive is not there
	Differs     Code = 5   // the mirror's members differ
	Interrupted Code = 130 // stopped by a signal; the array is safe, a rerun resumes
)

// Result is the word for a code in JSON: done, refused, failed, interrupted.
func (c Code) Result() string {
	switch c {
	case Done:
		return "done"
	case Refused:
		return "refused"
	case Interrupted:
		return "interrupted"
	}
	return "failed"
}

// Worse tells which of two codes a run over several arrays ends with: the one that needs a person more.
func Worse(a, b Code) Code {
	rank := func(c Code) int {
		for i, x := range []Code{Done, NoDrive, Refused, Failed, Differs, Usage, Interrupted} {
			if x == c {
				return i
			}
		}
		return 0
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// Reason is one statement with a code that scripts can rely on.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Error is an outcome that is not Done: its exit code, why, and what would help.
type Error struct {
	Exit    Code
	Reasons []Reason // at least one
	Hints   []string // advice, each a line of its own
	Err     error    // the cause, where there is one
}

// Error joins the reasons.
func (e *Error) Error() string {
	texts := make([]string, 0, len(e.Reasons))
	for _, r := range e.Reasons {
		texts = append(texts, r.Text)
	}
	return strings.Join(texts, "; ")
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint adds advice.
func (e *Error) Hint(format string, args ...any) *Error {
	e.Hints = append(e.Hints, fmt.Sprintf(format, args...))
	return e
}

// Fail makes an Error of one reason. A %w in format becomes its cause.
func Fail(exit Code, code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Exit: exit, Reasons: []Reason{{Code: code, Text: err.Error()}}, Err: errors.Unwrap(err)}
}

// CodeOf is err's exit code: Done for nil, Failed for an error that is no *Error.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return Done
	case errors.As(err, &e):
		return e.Exit
	}
	return Failed
}

// coded gives joined errors an exit code of their own.
type coded struct {
	code Code
	error
}

// Unwrap keeps the reasons within reach.
func (c coded) Unwrap() []error { return []error{&Error{Exit: c.code}, c.error} }

// WithCode gives err, of several runs, the exit code of the worst.
func WithCode(code Code, err error) error { return coded{code, err} }

// ReasonsOf is what --json says of err; of joined errors, each one's.
func ReasonsOf(err error) []Reason {
	reasons := []Reason{}
	for _, one := range flatten(err) {
		var e *Error
		if errors.As(one, &e) {
			reasons = append(reasons, e.Reasons...)
		} else {
			reasons = append(reasons, Reason{Code: "failed", Text: one.Error()})
		}
	}
	return reasons
}

// flatten lists what errors.Join put together.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, flatten(e)...)
	}
	return out
}

// Log writes messages: "mdclone: ..." lines on stderr, and in the kernel log too where a person has nothing else to look
// at (early boot). The zero Log is silent.
type Log struct {
	W    io.Writer // stderr
	Kmsg io.Writer // /dev/kmsg in early boot, else nil
}

// kmsgMax keeps a line below LOG_LINE_MAX (kernel/printk/printk.c, Linux 6.12) with its prefix.
const kmsgMax = 900

// Printable makes text safe to show: what could move a terminal's cursor, begin another line or turn the direction of
// writing is shown as an escape (device names, arguments and what lies on a drive can hold anything).
func Printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

func (l Log) line(level int, text string) {
	text = Printable(strings.TrimRight(text, "\n"))
	if l.W != nil {
		fmt.Fprintf(l.W, "mdclone: %s\n", text)
	}
	if l.Kmsg != nil {
		if len(text) > kmsgMax {
			text = text[:kmsgMax]
		}
		fmt.Fprintf(l.Kmsg, "<%d>mdclone: %s\n", level, text)
	}
}

// Infof says what happens.
func (l Log) Infof(format string, args ...any) { l.line(6, fmt.Sprintf(format, args...)) }

// Warnf says what the user should know although the work goes on.
func (l Log) Warnf(format string, args ...any) { l.line(4, "warning: "+fmt.Sprintf(format, args...)) }

// Fail prints err with its hints.
func (l Log) Fail(err error) {
	for _, r := range ReasonsOf(err) {
		l.line(3, "error: "+r.Text)
	}
	for _, one := range flatten(err) {
		var e *Error
		if errors.As(one, &e) {
			for _, h := range e.Hints {
				l.line(5, "hint: "+h)
			}
		}
	}
}

// OpenKmsg opens the kernel log for early boot; nil if it cannot be written.
func OpenKmsg() io.Writer {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return nil
	}
	return f
}
