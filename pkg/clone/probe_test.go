package clone

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"mdclone/pkg/limits"
)

func TestLacks(t *testing.T) {
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("requests are not answered"), false},
		{unix.EBUSY, false},
		{fmt.Errorf("reserve: %w", unix.ENOSPC), true},
		{&fs.PathError{Op: "open", Path: "/dev/loop3840", Err: unix.ENOENT}, true},
		{errors.Join(limits.ErrNoLoops, errors.New("close")), true},
	} {
		if got := lacks(test.err); got != test.want {
			t.Errorf("lacks(%v) = %t; want %t", test.err, got, test.want)
		}
	}
}
