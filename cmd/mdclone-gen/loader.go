package main

import (
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"mdclone/pkg/report"
)

// loader is the boot loader that starts the machine.
type loader string

const (
	noLoader    loader = ""
	grub        loader = "grub"
	systemdBoot loader = "systemd-boot"
)

// loaderFacts tell which it is.
type loaderFacts struct {
	info      string // what the loader that started the machine calls itself, "" if it does not
	grub      bool   // GRUB has a menu in /boot/grub
	installed bool   // bootctl finds systemd-boot in the EFI system partition
}

// whichLoader prefers what did start the machine; both may be there, and GRUB before 2.12 does not say its name.
func whichLoader(f loaderFacts) loader {
	switch {
	case strings.HasPrefix(f.info, "systemd-boot"):
		return systemdBoot
	case f.grub:
		return grub
	case f.installed:
		return systemdBoot
	}
	return noLoader
}

// loaderInfo is the EFI variable by which a boot loader says what it is, below the root (systemd's Boot Loader Interface).
const loaderInfo = "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// efiString is the text in an EFI variable's file: four bytes of attributes, then UTF-16 (efivarfs.rst, Linux 6.12).
func efiString(data []byte) string {
	if len(data) < 4 {
		return ""
	}
	var units []uint16
	for pair := range slices.Chunk(data[4:], 2) {
		if len(pair) == 2 && (pair[0] != 0 || pair[1] != 0) {
			units = append(units, uint16(pair[0])|uint16(pair[1])<<8)
		}
	}
	return string(utf16.Decode(units))
}

// otherChoice refuses to take the place of what somebody else has chosen.
func otherChoice(entry, undo string) error {
	return report.Fail(report.Refused, "other-choice", "the next boot is chosen already, by somebody else: %s", entry).
		Hint("boot that first, or take it back: %s", undo)
}

// lifetime is how long a choice of the next boot holds.
const lifetime = time.Hour

// until is when a choice ends, in seconds of Unix time, by the clock that the initramfs will have. That is rtc, the hardware
// clock taken for UTC, also where it runs in local time; zero if there is none, and then now.
func until(now, rtc time.Time) int64 {
	if rtc.IsZero() {
		rtc = now
	}
	return rtc.Add(lifetime).Unix()
}
