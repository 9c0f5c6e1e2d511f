package vm

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"mdclone/vmtest/wire"
)

// ErrLost says that a guest has left a command unanswered: it hangs, and no other one is tried.
var ErrLost = errors.New("the guest does not answer any more")

// lookAtMost bounds the look at a guest that hangs, and how long it may take to answer.
const lookAtMost = 30 * time.Second

// Autopsy tells of a machine that runs and does not answer where QEMU sees its processors, having asked its kernel to say on the
// console what these do and which tasks are blocked (SysRq over the serial line, Documentation/admin-guide/sysrq.rst). It is "" for
// any other.
func (v *VM) Autopsy() string {
	ctx, cancel := context.WithTimeout(context.Background(), lookAtMost)
	defer cancel()
	select {
	case <-v.done:
		return ""
	default:
	}
	if _, err := v.agent.do(ctx, wire.Frame{Op: wire.Ping}, nil); err == nil {
		return ""
	}
	ctx, cancel = context.WithTimeout(context.Background(), lookAtMost)
	defer cancel()
	var err error
	for _, key := range []struct{ key, says string }{{"l", "Show backtrace"}, {"w", "Show Blocked"}, {"h", "HELP"}} {
		_, e := v.QMP(ctx, "chardev-send-break", map[string]any{"id": "console"})
		if e == nil {
			e = v.Type(key.key)
		}
		if e == nil {
			e = v.AwaitConsole(ctx, key.says)
		}
		err = errors.Join(err, e)
	}
	registers, e := v.QMP(ctx, "human-monitor-command", map[string]any{"command-line": "info registers -a"})
	var text string
	if e == nil {
		e = json.Unmarshal(registers, &text)
	}
	if err = errors.Join(err, e); err != nil {
		text += "\n" + err.Error()
	}
	return text
}
