package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"mdclone/pkg/boot"
	"mdclone/pkg/report"
)

// What GRUB has in the machine, below the root.
const (
	grubScripts = "etc/grub.d"
	grubMenu    = "boot/grub/grub.cfg"
	grubEnvFile = "boot/grub/grubenv"
	updateGrub  = "usr/sbin/update-grub"
	grubEditenv = "usr/bin/grub-editenv"
	grubProbe   = "usr/sbin/grub-probe"
)

// entryID is the menu entry that /etc/grub.d/42_mdclone makes, and is in the name of systemd-boot's.
const entryID = "mdclone-backup"

// The variables in GRUB's environment. GRUB itself clears the first when it boots, where it can write.
const (
	nextEntry    = "next_entry"
	untilSetting = "mdclone_until" // what the entry says as mdclone.until
)

// parseEnv reads what "grub-editenv list" prints: lines of name=value. Values that are empty are left out.
func parseEnv(list string) map[string]string {
	env := map[string]string{}
	for _, line := range strings.Split(list, "\n") {
		if name, value, ok := strings.Cut(line, "="); ok && value != "" {
			env[name] = value
		}
	}
	return env
}

// envSignature is what an environment block begins with; GRUB takes nothing out of a file without it (grub_envblk_open in
// grub-core/lib/envblk.c, 2.06).
const envSignature = "# GRUB Environment Block\n"

// keeps is why GRUB cannot write its environment where it is, "" if it can: by grub-probe's abstractions and file system of
// /boot/grub. GRUB writes to the disk itself, so not through RAID and LVM, and not where blocks have checksums or may move
// (grub-core/commands/loadenv.c and disk/diskfilter.c, 2.06; grub-mkconfig has the same list for recordfail).
func keeps(abstractions, filesystem string) string {
	for _, a := range strings.Fields(abstractions) {
		if slices.Contains([]string{"diskfilter", "lvm", "ldm"}, a) || strings.HasPrefix(a, "mdraid") || strings.HasPrefix(a, "raid") {
			return a
		}
	}
	filesystem = strings.TrimSpace(filesystem)
	if filesystem == "" {
		return "an unknown file system"
	}
	if slices.Contains([]string{"btrfs", "cpiofs", "newc", "odc", "romfs", "squash4", "tarfs", "zfs"}, filesystem) {
		return filesystem
	}
	return ""
}

// hasEntry tells whether a grub.cfg has our entry.
func hasEntry(menu string) bool {
	return slices.ContainsFunc(strings.Split(menu, "\n"), func(line string) bool {
		return strings.HasPrefix(line, "menuentry ") && strings.Contains(line, " $menuentry_id_option '"+entryID+"' ")
	})
}

// otherDefault is what GRUB's menu boots by default where that is not its first entry, of which ours is made; "" where it is. saved is
// what GRUB's environment remembers as the default.
func otherDefault(menu, saved string) string {
	first, now := []string{"", "0"}, ""
	for line := range strings.Lines(menu) {
		line = strings.TrimSpace(line)
		if value, ok := strings.CutPrefix(line, "set default="); ok && !strings.Contains(value, nextEntry) {
			now = strings.ReplaceAll(strings.Trim(value, `"'`), "${saved_entry}", saved)
		}
		if entry, ok := strings.CutPrefix(line, "menuentry "); ok && len(first) == 2 {
			words := strings.Split(entry, "'") // 'TITLE' ... $menuentry_id_option 'ID' {
			first = append(first, words[min(1, len(words)-1)], words[max(0, len(words)-2)])
		}
	}
	if slices.Contains(first, now) {
		return ""
	}
	return now
}

// usesGrub tells whether grub-mkconfig's scripts are in the machine.
func (m machine) usesGrub() bool {
	info, err := os.Stat(m.path(grubScripts))
	return err == nil && info.IsDir()
}

// hasMenu tells whether GRUB is set up: there is a menu, and the program that makes it.
func (m machine) hasMenu() bool { return m.exists(grubMenu) && m.exists(updateGrub) }

// updateMenu makes GRUB's menu anew.
func (a *app) updateMenu(m machine) error {
	a.log.Infof("making GRUB's menu anew (update-grub)")
	if err := a.command(m.root, "/"+updateGrub); err != nil {
		return report.Fail(report.Failed, "update-grub", "update-grub in %s: %w", m.root, err).
			Hint("its own messages above say why; then run the same command again")
	}
	return nil
}

// entryInMenu tells whether our entry is in GRUB's menu now.
func (m machine) entryInMenu() (bool, error) {
	menu, err := os.ReadFile(m.path(grubMenu))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return hasEntry(string(menu)), err
}

// needEntry makes GRUB's menu anew if our entry is not in it.
func (a *app) needEntry(m machine) error {
	there, err := m.entryInMenu()
	if err != nil || there {
		return err
	}
	if err := a.updateMenu(m); err != nil {
		return err
	}
	if there, err = m.entryInMenu(); err == nil && !there {
		return report.Fail(report.Failed, "no-entry", "update-grub has made no entry %s in %s", entryID, m.path(grubMenu)).
			Hint("its messages above may say why; is /etc/grub.d/42_mdclone there (mdclone-gen install) and executable, and 10_linux?")
	}
	return err
}

// grubEnv reads GRUB's environment.
func (a *app) grubEnv(m machine) (map[string]string, error) {
	list, err := a.output(m.root, "/"+grubEditenv, "-", "list")
	if err != nil {
		return nil, report.Fail(report.Failed, "environment", "read GRUB's environment: %w", err).
			Hint("where it is damaged, grub-editenv %s create makes a new one", m.path(grubEnvFile))
	}
	return parseEnv(list), nil
}

// sameKernel says where our entry starts another kernel than the machine does, and refuses that where GRUB would start it again and
// again until the system runs: it may not.
func (a *app) sameKernel(m machine, saved, kept string) error {
	menu, err := os.ReadFile(m.path(grubMenu))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // needEntry makes it
	}
	if err != nil {
		return err
	}
	other := otherDefault(string(menu), saved)
	switch {
	case other == "":
		return nil
	case kept == "":
		a.log.Warnf("GRUB's menu boots %q by default; the clone is made with the kernel of its first entry", other)
		return nil
	}
	return report.Fail(report.Refused, "other-default", "GRUB's menu boots %q by default, the clone would be made with the kernel of its first "+
		"entry, and GRUB cannot forget that choice (%s): were that kernel no good, it would be started again and again", other, kept).
		Hint("choose %q by hand in GRUB's menu, once, or make the first entry the default", entryID)
}

// chooseGrub makes our entry the next one that GRUB boots, and returns why GRUB itself cannot forget that, "" if it can.
func (a *app) chooseGrub(m machine, until int64) (kept string, err error) {
	env, err := a.grubEnv(m)
	if err != nil {
		return "", err
	}
	if other := env[nextEntry]; other != "" && other != entryID {
		return "", otherChoice(other, "grub-editenv - unset "+nextEntry)
	}
	var told *boot.Choice // what tells where GRUB boots this again
	if kept = a.grubKeeps(m); kept != "" {
		told = a.chosen(m, until)
	}
	if err := a.sameKernel(m, env["saved_entry"], kept); err != nil {
		return "", err
	}
	if err := m.writeState(told); err != nil {
		return "", err
	}
	if err := a.needEntry(m); err != nil {
		return "", err
	}
	want := map[string]string{untilSetting: strconv.FormatInt(until, 10), nextEntry: entryID}
	// in one write: an entry without an end would be chosen for ever where GRUB cannot clear it
	err = a.command(m.root, "/"+grubEditenv, "-", "set", untilSetting+"="+want[untilSetting], nextEntry+"="+entryID)
	if err != nil {
		return "", fmt.Errorf("write GRUB's environment: %w", err)
	}
	if env, err = a.grubEnv(m); err != nil {
		return "", err
	}
	for name, value := range want {
		if env[name] != value {
			return "", report.Fail(report.Failed, "not-written", "GRUB's environment has %s=%s after %s was written", name, env[name], value)
		}
	}
	return kept, nil
}

// grubKeeps is keeps of the machine.
func (a *app) grubKeeps(m machine) string {
	abstractions, err := a.output(m.root, "/"+grubProbe, "--target=abstraction", "/boot/grub")
	filesystem := ""
	if err == nil {
		filesystem, err = a.output(m.root, "/"+grubProbe, "--target=fs", "/boot/grub")
	}
	if err != nil {
		a.log.Warnf("find out what /boot/grub is on: grub-probe: %v", err)
	}
	return keeps(abstractions, filesystem)
}

// undoGrub takes the choice out of GRUB's environment, and nothing else, and returns what was there of it.
func (a *app) undoGrub(m machine) (undone []string, err error) {
	switch {
	case !m.exists(grubEditenv):
		return nil, nil
	case !m.exists(grubEnvFile) && m.usesGrub() && a.loader(m) != systemdBoot:
		return nil, a.needBoot(m)
	case !m.exists(grubEnvFile):
		return nil, nil
	}
	env, err := a.grubEnv(m)
	if err != nil {
		block, readErr := os.ReadFile(m.path(grubEnvFile))
		if readErr == nil && !bytes.HasPrefix(block, []byte(envSignature)) {
			a.log.Warnf("%v; %s is no environment block, so GRUB reads no choice there (grub-editenv %[2]s create makes a new one)",
				err, m.path(grubEnvFile))
			return nil, nil
		}
		return nil, err
	}
	if env[nextEntry] == entryID {
		undone = append(undone, nextEntry)
	}
	if env[untilSetting] != "" {
		undone = append(undone, untilSetting)
	}
	if len(undone) == 0 {
		return nil, nil
	}
	if err := a.command(m.root, "/"+grubEditenv, append([]string{"-", "unset"}, undone...)...); err != nil {
		return nil, fmt.Errorf("write GRUB's environment: %w", err)
	}
	if env, err = a.grubEnv(m); err != nil {
		return nil, err
	}
	for _, name := range undone {
		if env[name] != "" {
			return nil, report.Fail(report.Failed, "not-written", "GRUB's environment still has %s=%s", name, env[name])
		}
	}
	return undone, nil
}
