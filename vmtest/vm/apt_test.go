package vm

import "testing"

func TestParseSources(t *testing.T) {
	main := Source{Mirror: "https://mirror.test/debian", Keyring: defaultKeyring}
	signed := Source{Mirror: "https://mirror.test/debian", Keyring: "/k.gpg"}
	for _, c := range []struct {
		name   string
		text   string
		deb822 bool
		want   Source
		found  bool
	}{
		{"one line", "deb https://mirror.test/debian bookworm main contrib\n", false, main, true},
		{"one line, slash", "deb https://mirror.test/debian/ bookworm main", false, main, true},
		{"one line, options", "deb [arch=amd64 signed-by=/k.gpg] https://mirror.test/debian sid main", false, signed, true},
		{"one line, spaced options", "deb [ signed-by=/k.gpg arch=amd64 ] https://mirror.test/debian sid main", false, signed, true},
		{"one line, signed by fingerprint", "deb [signed-by=ABCD] https://mirror.test/debian sid main", false, main, true},
		{"one line, open bracket", "deb [arch=amd64 https://mirror.test/debian sid main", false, Source{}, false},
		{"one line, source package", "deb-src https://mirror.test/debian bookworm main", false, Source{}, false},
		{"one line, comment", "# deb https://mirror.test/debian bookworm main", false, Source{}, false},
		{
			"one line, security and third party first",
			"deb https://mirror.test/debian-security bookworm-security main\n" +
				"deb https://other.test/debian-not bookworm main\n\n" +
				"deb https://mirror.test/debian bookworm main\n", false, main, true,
		},
		{"deb822", "Types: deb\nURIs: https://mirror.test/debian\nSuites: trixie\nSigned-By: /k.gpg\n", true, signed, true},
		{
			"deb822, comment inside, second stanza",
			"Types: deb\n# the archive\nURIs: https://mirror.test/debian-security\nSuites: x\n\n" +
				"Types: deb deb-src\nURIs:\n https://other.test/extra/\n https://mirror.test/debian/\nSuites: x\n", true, main, true,
		},
		{
			"deb822, key in the file",
			"Types: deb\nURIs: https://mirror.test/debian\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n",
			true, main, true,
		},
		{"deb822, disabled", "Enabled: no\nTypes: deb\nURIs: https://mirror.test/debian\n", true, Source{}, false},
		{"deb822, source packages", "Types: deb-src\nURIs: https://mirror.test/debian\n", true, Source{}, false},
		{"deb822, lower case", "types: deb\nuris: https://mirror.test/debian\n", true, main, true},
		{"empty", "", true, Source{}, false},
	} {
		got, found := parseSources(c.text, c.deb822)
		if got != c.want || found != c.found {
			t.Errorf("%s: parseSources(%q) = %+v, %v; want %+v, %v", c.name, c.text, got, found, c.want, c.found)
		}
	}
}
