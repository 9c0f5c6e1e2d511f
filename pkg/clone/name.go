package clone

import (
	"fmt"
	"strings"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// kernelName tells whether n is what the kernel calls an array, and may call another one at the next start: md0, md_d0.
func kernelName(n string) bool {
	number, ok := strings.CutPrefix(n, "md")
	number = strings.TrimPrefix(number, "_d")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// name finds the name of the configuration that the array is to get. What another array has is never replaced.
func (a *adoption) name() (string, error) {
	if a.Configured {
		return a.Conf.Name, nil
	}
	confs, err := config.Load(a.env.Root)
	if err != nil {
		return "", report.Fail(report.Usage, "configuration", "%w", err)
	}
	taken := map[string]md.UUID{}
	for _, c := range confs {
		taken[c.Name] = c.UUID
	}
	return nameFor(a.opts.Name, a.facts.Primaries[0].Super.ArrayName, a.Array.Name, a.Conf.UUID, taken)
}

// nameFor is a configuration's name: the one asked for, the array's own without its host, the kernel's, or a part of its UUID.
func nameFor(asked, own, kernel string, array md.UUID, taken map[string]md.UUID) (string, error) {
	others := func(n string) bool { return n != kernel && kernelName(n) }
	if other, ok := taken[asked]; ok {
		return "", report.Fail(report.Usage, "name-taken", "--name: %s.conf is the configuration of array %s", asked, other).
			Hint("give another name")
	}
	switch {
	case asked != "" && others(asked):
		return "", report.Fail(report.Usage, "usage", "--name: %s may be what the kernel calls another array", asked)
	case asked != "":
		return asked, nil
	}
	if _, after, ok := strings.Cut(own, ":"); ok {
		own = after
	}
	for _, n := range []string{own, kernel} {
		if _, ok := taken[n]; !ok && config.CheckName(n) == nil && !others(n) && strings.Trim(n, "0123456789") != "" {
			return n, nil
		}
	}
	return fmt.Sprintf("array-%x", array[:4]), nil
}
