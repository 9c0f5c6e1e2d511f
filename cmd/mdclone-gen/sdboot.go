package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"mdclone/pkg/report"
)

// What systemd-boot has in the machine, below the root.
const (
	bootctl = "usr/bin/bootctl"
	efi     = "sys/firmware/efi"
	// oneShot is the EFI variable that names what is booted next; systemd-boot clears it when it boots.
	oneShot = efi + "/efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
)

// What is put into the partition that systemd-boot reads, below its mount point.
const (
	onceEntry = "loader/entries/" + onceEntryID
	// onceEntryID begins with what comes last in the menu, whose first entry is the default: without sort-keys the order is
	// that of the names, backwards (boot_entry_compare in systemd 252).
	onceEntryID = "-" + entryID + ".conf"
	onceState   = "mdclone-state.img"
)

// defaultSource finds the default entry in what "bootctl list" prints: a stanza of "key: value" lines an entry. It returns
// the entry's file, or "" if there is none or it is no file of text (Boot Loader Specification, type 1).
func defaultSource(list string) string {
	for _, stanza := range strings.Split(list, "\n\n") {
		fields := map[string]string{}
		for _, line := range strings.Split(stanza, "\n") {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
				fields[key] = value
			}
		}
		if strings.Contains(fields["title"], " (default)") && strings.Contains(fields["type"], "Type #1") {
			source, _, _ := strings.Cut(fields["source"], " (on the ") // since systemd 256
			return source
		}
	}
	return ""
}

// entryRoot is the mount point of the partition that an entry's file is in.
func entryRoot(source string) (string, error) {
	dir := path.Dir(path.Clean(source))
	root, ok := strings.CutSuffix(dir, "/loader/entries")
	if !ok {
		return "", fmt.Errorf("%s is not in a folder loader/entries", source)
	}
	return "/" + strings.TrimPrefix(root, "/"), nil
}

// cloneFirst makes the text of our entry out of that of another one. It comes last in the menu: entries with a sort-key are
// in its order, before all others.
func cloneFirst(text string, until int64) (string, error) {
	var out strings.Builder
	kernel, initrd := false, false
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		key, value, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(line), "\t", " "), " ")
		switch key {
		case "title":
			line = "title " + strings.TrimSpace(value) + ", clone first (mdclone)"
		case "sort-key":
			line = "sort-key zzz-mdclone"
		case "linux":
			kernel = true
		case "initrd":
			initrd = true
		}
		out.WriteString(line + "\n")
	}
	if !kernel || !initrd {
		return "", errors.New("it has no kernel and initrd of its own")
	}
	fmt.Fprintf(&out, "initrd /%s\noptions mdclone=backup mdclone.until=%d\n", onceState, until)
	return out.String(), nil
}

func (m machine) mayHaveSystemdBoot() bool { return m.exists(bootctl) && m.exists(efi) }

// hasSystemdBoot asks bootctl.
func (a *app) hasSystemdBoot(m machine) bool {
	if !m.mayHaveSystemdBoot() {
		return false
	}
	answer, err := a.output(m.root, "/"+bootctl, "is-installed")
	return err == nil && strings.TrimSpace(answer) == "yes"
}

// nextOneShot is the entry that systemd-boot will start next, "" for the default one.
func (m machine) nextOneShot() (string, error) {
	data, err := os.ReadFile(m.path(oneShot))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return efiString(data), err
}

// chooseSystemdBoot makes an entry that is the default one but for what we add, and lets it be booted next.
func (a *app) chooseSystemdBoot(m machine, until int64) error {
	other, err := m.nextOneShot()
	if err != nil {
		return err
	}
	if other != "" && other != onceEntryID {
		return otherChoice(other, "bootctl set-oneshot \"\"")
	}
	undone, err := a.undoSystemdBoot(m) // else the default would be ours
	if err != nil {
		return err
	}
	err = a.setSystemdBoot(m, until)
	if err == nil {
		return nil
	}
	_, undoErr := a.undoSystemdBoot(m) // half a choice is none
	if len(undone) > 0 {
		a.log.Warnf("the choice that was made before is taken back: the next boot is a normal one")
	}
	return errors.Join(err, undoErr)
}

// setSystemdBoot makes that entry, and has it booted next.
func (a *app) setSystemdBoot(m machine, until int64) error {
	list, err := a.output(m.root, "/"+bootctl, "list")
	if err != nil {
		return fmt.Errorf("bootctl list: %w", err)
	}
	source := defaultSource(list)
	if source == "" {
		return report.Fail(report.Failed, "no-entry", "systemd-boot's default entry is no file in loader/entries").
			Hint("by hand: add mdclone=backup to the kernel's command line in its menu (e)")
	}
	text, err := os.ReadFile(m.path(source))
	if err != nil {
		return err
	}
	root, err := entryRoot(source)
	if err != nil {
		return err
	}
	entry, err := cloneFirst(string(text), until)
	if err != nil {
		return fmt.Errorf("make an entry out of %s: %w", source, err)
	}
	state, err := m.state(nil)
	if err != nil {
		return fmt.Errorf("put the ledger into an initrd: %w", err)
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{onceState, state}, {onceEntry, []byte(entry)}} {
		// without permissions: there are none on FAT, where chmod fails
		if err := m.replace(path.Join(root, f.name), f.data); err != nil {
			return err
		}
	}
	if err := a.command(m.root, "/"+bootctl, "set-oneshot", "--", onceEntryID); err != nil {
		return fmt.Errorf("bootctl set-oneshot: %w", err)
	}
	next, err := m.nextOneShot()
	if err == nil && next != onceEntryID {
		err = report.Fail(report.Failed, "not-written", "systemd-boot starts %q next, after %s was set", next, onceEntryID)
	}
	return err
}

// undoSystemdBoot takes our entry out, and with it the choice, and returns what was there of it.
func (a *app) undoSystemdBoot(m machine) (undone []string, err error) {
	if !m.mayHaveSystemdBoot() {
		return nil, nil
	}
	next, err := m.nextOneShot()
	if err != nil {
		return nil, err
	}
	if next == onceEntryID {
		if err := a.command(m.root, "/"+bootctl, "set-oneshot", ""); err != nil {
			return nil, fmt.Errorf("bootctl set-oneshot: %w", err)
		}
		undone = append(undone, "LoaderEntryOneShot")
	}
	for _, root := range a.entryRoots(m) {
		for _, name := range []string{onceEntry, onceState} {
			at := path.Join(root, name)
			// what a run that was ended has left of them is no choice, and goes too
			left, err := m.list(path.Dir(at), func(name string) bool { return isTemporary(name, path.Base(at)) })
			if err != nil {
				return undone, err
			}
			for _, name := range left {
				if err := os.Remove(m.path(name)); err != nil {
					return undone, err
				}
			}
			switch err := os.Remove(m.path(at)); {
			case err == nil:
				undone = append(undone, at)
			case !errors.Is(err, fs.ErrNotExist):
				return undone, err
			}
		}
	}
	if next, err = m.nextOneShot(); err == nil && next == onceEntryID {
		err = report.Fail(report.Failed, "not-written", "systemd-boot still starts %s next", next)
	}
	return undone, err
}
