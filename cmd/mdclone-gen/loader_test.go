package main

import (
	"testing"
	"time"
)

func TestWhichLoader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		facts loaderFacts
		want  loader
	}{
		{loaderFacts{}, noLoader},
		{loaderFacts{grub: true}, grub},
		{loaderFacts{installed: true}, systemdBoot},
		{loaderFacts{grub: true, installed: true}, grub}, // which does not say its name
		{loaderFacts{grub: true, installed: true, info: "GRUB 2.12"}, grub},
		{loaderFacts{grub: true, installed: true, info: "systemd-boot 252"}, systemdBoot},
		{loaderFacts{info: "rEFInd"}, noLoader},
	} {
		if got := whichLoader(c.facts); got != c.want {
			t.Errorf("whichLoader(%+v) = %q; want %q", c.facts, got, c.want)
		}
	}
}

func TestEFIString(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "\x06\x00\x00": "", "\x06\x00\x00\x00G\x00R\x00\x00\x00": "GR", "\x06\x00\x00\x00\xe4\x00x": "ä",
	} {
		if got := efiString([]byte(in)); got != want {
			t.Errorf("efiString(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestUntil(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 5)
	for _, c := range []struct {
		name string
		rtc  time.Time
		want int64
	}{
		{"no clock", time.Time{}, 1_003_600},
		{"in UTC", time.Unix(1_000_000, 0), 1_003_600},
		{"in local time, west", time.Unix(1_000_000-5*3600, 0), 1_003_600 - 5*3600},
		{"in local time, east", time.Unix(1_000_000+2*3600, 0), 1_003_600 + 2*3600},
	} {
		if got := until(now, c.rtc); got != c.want {
			t.Errorf("%s: until() = %d; want %d", c.name, got, c.want)
		}
	}
}
