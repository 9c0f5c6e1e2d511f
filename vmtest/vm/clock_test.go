package vm

import "testing"

func TestLogged(t *testing.T) {
	const log = "[    0.000000] Linux version 6.1\n[   12.345678] EXT4-fs (dm-0): mounted filesystem with ordered data mode.\n" +
		"[   13.000001] EXT4-fs (dm-0): re-mounted. Quota mode: none.\n[   14.000000] EXT4-fs (dm-0): mounted filesystem once more\n"
	if got, err := logged(log, rootMounted); got != 12.345678 || err != nil {
		t.Errorf("logged = %v, %v; want 12.345678", got, err)
	}
	if got, err := logged(log, "EXT4-fs (dm-1)"); err == nil {
		t.Errorf("logged = %v; want an error", got)
	}
}
