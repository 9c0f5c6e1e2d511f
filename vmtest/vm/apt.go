package vm

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// defaultKeyring is where Debian's archive keyring is when a source names none.
const defaultKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Source is where Debian packages come from.
type Source struct {
	Mirror  string // URI of a Debian main archive
	Keyring string // absolute path of the keyring that its Release files are checked with
}

// HostSource returns the first Debian main archive among the sources that apt on this machine uses (sources.list(5)).
func HostSource() (Source, error) {
	files := []string{"/etc/apt/sources.list"}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join("/etc/apt/sources.list.d", pattern))
		if err != nil {
			return Source{}, err
		}
		files = append(files, more...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return Source{}, err
		}
		if s, ok := parseSources(string(text), strings.HasSuffix(file, ".sources")); ok {
			return s, nil
		}
	}
	return Source{}, fmt.Errorf("find a Debian mirror: no source of binary packages in %s ends in /debian",
		strings.Join(files, ", "))
}

// parseSources finds the first enabled source of binary packages that is a Debian main archive: one whose path ends in
// /debian, which neither the security archive nor a third party's has. The text is deb822 or in the one-line format.
func parseSources(text string, deb822 bool) (Source, bool) {
	parse := parseOneLine
	if deb822 {
		parse = parseDeb822
	}
	for _, e := range parse(text) {
		if !e.binary {
			continue
		}
		for _, uri := range e.uris {
			u, err := url.Parse(uri)
			if err != nil || path.Base(u.Path) != "debian" {
				continue
			}
			s := Source{Mirror: strings.TrimRight(uri, "/"), Keyring: defaultKeyring}
			if strings.HasPrefix(e.signedBy, "/") {
				s.Keyring = e.signedBy
			}
			return s, true
		}
	}
	return Source{}, false
}

// entry is one source, in either format.
type entry struct {
	binary   bool // of binary packages, and enabled
	uris     []string
	signedBy string // a path, a fingerprint, a key, or ""
}

// parseOneLine reads lines like: deb [arch=amd64 signed-by=/k.gpg] https://host/debian bookworm main.
func parseOneLine(text string) []entry {
	var entries []entry
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		e := entry{binary: fields[0] == "deb"}
		fields = fields[1:]
		if len(fields) > 0 && strings.HasPrefix(fields[0], "[") {
			end := slices.IndexFunc(fields, func(f string) bool { return strings.HasSuffix(f, "]") })
			if end < 0 {
				continue
			}
			for _, option := range strings.Fields(strings.Trim(strings.Join(fields[:end+1], " "), "[] ")) {
				if key, value, _ := strings.Cut(option, "="); key == "signed-by" {
					e.signedBy = value
				}
			}
			fields = fields[end+1:]
		}
		if len(fields) > 0 {
			e.uris = fields[:1]
		}
		entries = append(entries, e)
	}
	return entries
}

// parseDeb822 reads stanzas of "Key: value" lines, with continuation lines that begin with a blank.
func parseDeb822(text string) []entry {
	var entries []entry
	for _, stanza := range stanzas(text) {
		e := entry{
			binary:   slices.Contains(strings.Fields(stanza["types"]), "deb"),
			uris:     strings.Fields(stanza["uris"]),
			signedBy: strings.TrimSpace(stanza["signed-by"]),
		}
		switch strings.ToLower(strings.TrimSpace(stanza["enabled"])) {
		case "no", "false", "without", "off", "disable":
			e.binary = false
		}
		entries = append(entries, e)
	}
	return entries
}

// stanzas splits deb822 text; the keys come out in lower case.
func stanzas(text string) []map[string]string {
	var all []map[string]string
	current, key := map[string]string{}, ""
	for _, line := range append(strings.Split(text, "\n"), "") {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			if len(current) > 0 {
				all = append(all, current)
			}
			current, key = map[string]string{}, ""
		case line[0] == ' ' || line[0] == '\t':
			current[key] += "\n" + line
		default:
			var value string
			key, value, _ = strings.Cut(line, ":")
			key = strings.ToLower(strings.TrimSpace(key))
			current[key] = value
		}
	}
	return all
}
