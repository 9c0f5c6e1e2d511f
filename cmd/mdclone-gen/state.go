package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"mdclone/pkg/boot"
	"mdclone/pkg/config"
	"mdclone/pkg/initrd"
	"mdclone/pkg/md"
)

// ledgerDir is what mdclone-early remembers of each clone, in a file NAME.json, below the root.
const ledgerDir = config.VarDir + "/" + config.LedgerDir

// stateImage is one more initrd with the ledger, below the root: the file system that the ledger is in is not there yet
// when a clone is made before anything runs.
const stateImage = "boot/mdclone-state.img"

// chosen is what is so now of the clones for which the next boot is chosen.
func (a *app) chosen(m machine, until int64) *boot.Choice {
	arrays, err := m.arrays()
	var found []md.Found
	if err == nil {
		found, err = a.members()
	}
	if err != nil {
		a.log.Warnf("read the arrays' superblocks: %v; only time ends the choice, should the boot loader not forget it", err)
	}
	choice := boot.NewChoice(arrays, found, until)
	return &choice
}

// pending is the choice in the state image that GRUB's environment still has too, and nil if there is none: the image is made
// anew with it, as without it only time would end that choice. The environment's file is read as it is, which takes no program
// of the machine.
func (a *app) pending(m machine) *boot.Choice {
	env, err := os.ReadFile(m.path(grubEnvFile))
	if err != nil { // GRUB has no choice either
		return nil
	}
	vars := parseEnv(string(env))
	if vars[nextEntry] != entryID {
		return nil
	}
	image, err := initrd.Read(m.path(stateImage), func(name string) bool { return name == config.ChoiceFile })
	if err != nil {
		a.log.Warnf("%v; only time ends the choice of the next boot, should the boot loader not forget it", err)
		return nil
	}
	entry, ok := image.Lookup(config.ChoiceFile)
	var choice boot.Choice
	if !ok { // GRUB forgets it by itself
		return nil
	}
	if err := json.Unmarshal(entry.Data, &choice); err != nil || strconv.FormatInt(choice.Until, 10) != vars[untilSetting] {
		return nil // of another choice
	}
	return &choice
}

// state makes that initrd. One from an older moment does no harm: what does not match the drive is not taken for true, and
// what was chosen is told by when it ends. Where nothing is chosen, or the loader forgets the choice itself, only
// time ends one from before.
func (m machine) state(chosen *boot.Choice) ([]byte, error) {
	entries, err := os.ReadDir(m.path(ledgerDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		name := path.Join(ledgerDir, e.Name())
		if files[name], err = os.ReadFile(m.path(name)); err != nil {
			return nil, err
		}
	}
	if chosen != nil {
		if files[config.ChoiceFile], err = json.MarshalIndent(chosen, "", "  "); err != nil {
			return nil, err
		}
	}
	return initrd.Archive(files, ledgerDir)
}

// writeState puts it where GRUB finds it.
func (m machine) writeState(chosen *boot.Choice) error {
	if err := m.inside("boot"); err != nil {
		return err
	}
	data, err := m.state(chosen)
	if err != nil {
		return fmt.Errorf("put the ledger into an initrd: %w", err)
	}
	return m.write(stateImage, data, 0o600)
}
