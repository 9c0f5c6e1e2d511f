package clone

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mdclone/pkg/report"
)

// TestRunIsOutOfReach: a program in our process group would be interrupted together with us, mdadm in the middle of --grow.
func TestRunIsOutOfReach(t *testing.T) {
	out, err := NewEnv(report.Log{}, nil).Run(t.Context(), "cat", "/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, fields, _ := strings.Cut(out, ") ") // state, parent, process group: proc(5)
	group, err := strconv.Atoi(strings.Fields(fields)[2])
	if err != nil || group == unix.Getpgrp() {
		t.Errorf("the process group is %d, %v; want another than ours, %d", group, err, unix.Getpgrp())
	}
}
