package report

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Progress shows how far a copy is: one line that is drawn again on a terminal, a plain line now and then elsewhere (a
// log, a serial console). A nil Progress shows nothing.
type Progress struct {
	w     io.Writer
	bar   bool
	now   func() time.Time
	label string
	begun time.Time
	shown time.Time
	step  int // tenths already printed as plain lines
	drawn bool
}

const (
	redraw    = 200 * time.Millisecond // on a terminal
	quiet     = 2 * time.Second        // what is over sooner needs no progress
	plainEach = 30 * time.Second       // without a terminal, and at every tenth
	barWidth  = 24
)

// NewProgress shows progress on f in the way that suits it.
func NewProgress(f *os.File) *Progress {
	return &Progress{w: f, bar: canRedraw(f), now: time.Now}
}

// canRedraw tells a terminal with a person before it from a serial console, whose log wants whole lines.
func canRedraw(f *os.File) bool {
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return false
	}
	if term := os.Getenv("TERM"); term == "" || term == "dumb" {
		return false
	}
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return false
	}
	for _, serial := range []string{"/dev/ttyS", "/dev/ttyAMA", "/dev/hvc", "/dev/console"} {
		if strings.HasPrefix(name, serial) {
			return false
		}
	}
	return true
}

// Start begins a new account.
func (p *Progress) Start(label string) {
	if p == nil {
		return
	}
	p.label, p.begun, p.step, p.drawn = label, p.now(), 0, false
	p.shown = p.begun
}

// Update shows done of total bytes, if it is time to. note is put behind ("delayed"), or "".
func (p *Progress) Update(done, total uint64, note string) {
	if p == nil || p.now().Sub(p.begun) < quiet {
		return
	}
	now := p.now()
	done = min(done, total)
	tenth := 0
	if total > 0 {
		tenth = int(done * 10 / total)
	}
	switch {
	case p.bar && now.Sub(p.shown) < redraw:
		return
	case !p.bar && p.drawn && tenth <= p.step && now.Sub(p.shown) < plainEach:
		return
	}
	p.shown, p.step, p.drawn = now, tenth, true
	line := progressLine(p.label, done, total, now.Sub(p.begun))
	if note != "" {
		line += ", " + note
	}
	if p.bar {
		fmt.Fprintf(p.w, "\r\x1b[Kmdclone: %s", line)
	} else {
		fmt.Fprintf(p.w, "mdclone: %s\n", line)
	}
}

// Done ends the account; the line that was drawn is removed, for what comes next says what came out.
func (p *Progress) Done() {
	if p != nil && p.bar && p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

func progressLine(label string, done, total uint64, took time.Duration) string {
	if total == 0 {
		return fmt.Sprintf("%s %s", label, round(took))
	}
	full := int(done * barWidth / total)
	line := fmt.Sprintf("%s [%s%s] %d%% %s of %s", label, strings.Repeat("#", full), strings.Repeat(".", barWidth-full),
		done*100/total, Bytes(done), Bytes(total))
	if rate := float64(done) / took.Seconds(); rate > 0 {
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		line += fmt.Sprintf(", %s/s, %s left", Bytes(uint64(rate)), round(left))
	}
	return line
}

func round(d time.Duration) string { return d.Round(time.Second).String() }

// Bytes writes a size for a person: "16.0 MiB".
func Bytes(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < 4 {
		value, prefix = value/unit, prefix+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[prefix])
}
