package clone

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mdadmConfs are where Debian's mdadm and its upstream look (mdadm.conf(5)), with their directories of further files.
var mdadmConfs = []string{"etc/mdadm/mdadm.conf", "etc/mdadm.conf", "etc/mdadm/mdadm.conf.d/*.conf", "etc/mdadm.conf.d/*.conf"}

// readdPolicy finds a line by which mdadm would put a returning drive into its array by itself, past any verdict.
func (e *Env) readdPolicy() (string, error) {
	var paths []string
	for _, pattern := range mdadmConfs {
		found, err := filepath.Glob(filepath.Join(e.Root, pattern))
		if err != nil {
			return "", err
		}
		paths = append(paths, found...)
	}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		if line := policyIn(string(text)); line != "" {
			return line, nil
		}
	}
	return "", nil
}

// policyIn is the first POLICY line with an action from re-add on (mdadm.conf(5): ignore < include < re-add < spare <
// spare-same-slot < force-spare). A line that begins with white space goes on with the one before.
func policyIn(conf string) string {
	var lines []string
	for _, l := range strings.Split(conf, "\n") {
		l, _, _ = strings.Cut(l, "#")
		if len(lines) > 0 && strings.TrimLeft(l, " \t") != l {
			lines[len(lines)-1] += " " + l
			continue
		}
		lines = append(lines, l)
	}
	strong := []string{"action=re-add", "action=spare", "action=spare-same-slot", "action=force-spare"}
	for _, l := range lines {
		words := strings.Fields(l)
		// a keyword may be cut down to three letters
		if len(words) < 2 || len(words[0]) < 3 || !strings.HasPrefix("policy", strings.ToLower(words[0])) {
			continue
		}
		if slices.ContainsFunc(words[1:], func(w string) bool { return slices.Contains(strong, strings.ToLower(w)) }) {
			return strings.Join(words, " ")
		}
	}
	return ""
}
