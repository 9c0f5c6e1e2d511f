package md

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Release is the running kernel's, as uname -r prints it.
func Release() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}

// TooNewFor says why a kernel of that release cannot assemble the array that some of found are members of, "" if nothing in them
// is against it.
func TooNewFor(release string, array UUID, found []Found) string {
	for _, f := range found {
		if f.Member.Super.Array == array {
			if why := f.Member.tooNewFor(release); why != "" {
				return why
			}
		}
	}
	return ""
}

func (m *Member) tooNewFor(release string) string {
	switch {
	// Linux 6.19 writes the array's logical block size into the superblock; older kernels do not assemble an array that has one
	case m.Super.LogicalBlock != 0 && olderThan(release, 6, 19):
		return fmt.Sprintf("Linux %s: it needs 6.19, as the array's superblock has a logical block size", release)
	case errors.Is(m.BitmapErr, ErrLocklessBitmap) && olderThan(release, 6, 18):
		return fmt.Sprintf("Linux %s: it needs 6.18, as the array has a lockless bitmap", release)
	}
	return ""
}

// LosesMarks tells whether a kernel of that release may forget to mark what an array that lacks a member is written: Linux 5.12 to
// 5.15, but for stable releases with commit 46669e8616c6, which a release's name does not tell.
func LosesMarks(release string) bool { return olderThan(release, 5, 16) && !olderThan(release, 5, 12) }

// olderThan compares a kernel's release, "6.12.57+deb13-amd64", with major.minor. One that cannot be read is not older.
func olderThan(release string, major, minor int) bool {
	first, rest, _ := strings.Cut(release, ".")
	second := rest
	if i := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' }); i >= 0 {
		second = rest[:i]
	}
	a, err1 := strconv.Atoi(first)
	b, err2 := strconv.Atoi(second)
	if err1 != nil || err2 != nil {
		return false
	}
	return a < major || a == major && b < minor
}
