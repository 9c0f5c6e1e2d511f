package sysroot

import (
	"cmp"
	"strconv"
	"strings"
)

// Newer tells whether a kernel's release is newer than another's: numbers in them are compared as numbers.
func Newer(a, b string) bool {
	for a != "" && b != "" {
		na, ra := digits(a)
		nb, rb := digits(b)
		if na >= 0 && nb >= 0 {
			if c := cmp.Compare(na, nb); c != 0 {
				return c > 0
			}
			a, b = ra, rb
			continue
		}
		if a[0] != b[0] {
			// what ends or goes on with another word: 6.1~rc1 is before 6.1
			return a[0] != '~' && (b[0] == '~' || a[0] > b[0])
		}
		a, b = a[1:], b[1:]
	}
	before := func(rest string) bool { return strings.HasPrefix(rest, "~") || strings.HasPrefix(rest, "-rc") }
	return before(b) || len(a) > len(b) && !before(a)
}

// digits is the number that s begins with, -1 if it begins with none, and the rest.
func digits(s string) (int, string) {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.Atoi(s[:end])
	if err != nil {
		return -1, s
	}
	return n, s[end:]
}
