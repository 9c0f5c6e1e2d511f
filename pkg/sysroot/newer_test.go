package sysroot

import "testing"

func TestNewer(t *testing.T) {
	for _, test := range []struct {
		newer, older string
	}{
		{"6.1.0-50-amd64", "6.1.0-9-amd64"},
		{"6.12.57+deb13-amd64", "6.1.0-50-amd64"},
		{"6.12.57+deb13-amd64", "6.12.9+deb13-amd64"},
		{"7.0.0", "6.19.0"},
		{"6.19.0", "6.19.0-rc1"},
		{"6.19.0", "6.19.0~rc1"},
		{"6.19.0-rc2", "6.19.0-rc1"},
		{"6.19.1", "6.19"},
	} {
		if !Newer(test.newer, test.older) || Newer(test.older, test.newer) {
			t.Errorf("Newer(%q, %q) = %v, and the other way %v", test.newer, test.older, Newer(test.newer, test.older),
				Newer(test.older, test.newer))
		}
		if Newer(test.newer, test.newer) {
			t.Errorf("%q is newer than itself", test.newer)
		}
	}
}
