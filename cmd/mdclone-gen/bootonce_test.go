package main

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mdclone/hooks"
	"mdclone/pkg/boot"
	"mdclone/pkg/config"
	"mdclone/pkg/initrd"
	"mdclone/pkg/md"
)

func TestAnnouncement(t *testing.T) {
	t.Parallel()
	uuid := func(b byte) (u md.UUID) { u[0] = b; return u }
	arrays := []config.Array{
		{Name: "boot", UUID: uuid(1), Clones: []md.UUID{uuid(2)}},
		{Name: "data", UUID: uuid(3)},
		{Name: "root", UUID: uuid(4), Clones: []md.UUID{uuid(5), uuid(6)}},
	}
	got := announcement(arrays, choice{Loader: grub, kept: "lvm"})
	want := []string{
		"the next boot makes the clone before anything runs, and then goes on as always:",
		"  boot: array 01000000:00000000:00000000:00000000, clone 02000000:00000000:00000000:00000000",
		"  root: array 04000000:00000000:00000000:00000000, clones 05000000:00000000:00000000:00000000, " +
			"06000000:00000000:00000000:00000000, those that are plugged in",
		"plug the clone drive in before you reboot; the boot waits up to a minute for it, and goes on without it",
		"GRUB cannot write its environment here (lvm), and may say so: the running system clears the choice after the boot, " +
			"and it ends by itself after an hour",
		"mdclone-gen boot-once backup --undo takes it back",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got = announcement(arrays, choice{Loader: systemdBoot})
	if want := "systemd-boot forgets the choice when it boots; unused, it ends by itself after an hour"; !slices.Contains(got, want) {
		t.Errorf("announcement() = %q; want %q in it", got, want)
	}
}

// installedGrub is a fake machine with GRUB where mdclone is installed and remembers a clone.
func installedGrub(t *testing.T) *fake {
	t.Helper()
	f := newFake(t).withGrub()
	f.run(0, "install")
	f.write(ledgerDir+"/0f0e.json", "{}\n")
	f.write(ledgerDir+"/.0f0e.json123", "not yet whole")
	f.ran = nil
	return f
}

func TestBootOnce(t *testing.T) {
	t.Parallel()
	f := installedGrub(t)
	f.write("boot/grub/grubenv", "saved_entry=x\nnext_entry=")
	array, err := md.ParseUUID("8e5c6b62:12345678:9abcdef0:12345678")
	if err != nil {
		t.Fatal(err)
	}
	primary := &md.Superblock{Array: array, RaidDisks: 2, Roles: []uint16{0, md.RoleFaulty}, Events: 4711}
	f.app.members = func() ([]md.Found, error) { return []md.Found{{Member: &md.Member{Super: primary}}}, nil }
	f.run(0, "boot-once", "backup")
	want := []string{"saved_entry=x", "mdclone_until=1003600", "next_entry=mdclone-backup"}
	if got := f.env(); !slices.Equal(got, want) {
		t.Errorf("GRUB's environment is %q; want %q", got, want)
	}
	if want := []string{"/usr/bin/grub-editenv - set mdclone_until=1003600 next_entry=mdclone-backup"}; !slices.Equal(f.ran, want) {
		t.Errorf("ran %q; want %q: install has made the entry", f.ran, want)
	}
	f.says(&f.stdout, "root: array 8e5c6b62:12345678:9abcdef0:12345678, clone 0f0e0d0c:0b0a0908:07060504:03020100\n")
	f.says(&f.stdout, "GRUB cannot write its environment here (lvm)")
	image, err := initrd.Read(f.path(stateImage), func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := image.Lookup(ledgerDir + "/0f0e.json"); !ok || string(got.Data) != "{}\n" || got.Mode != 0o600 {
		t.Errorf("the entry of the ledger in %s: %v, %v %q", stateImage, ok, got.Mode, got.Data)
	}
	if got := image.List(ledgerDir); len(got) != 1 {
		t.Errorf("the ledger in %s is %q; want one entry", stateImage, got)
	}
	var chosen boot.Choice
	if got, ok := image.Lookup(config.ChoiceFile); !ok || json.Unmarshal(got.Data, &chosen) != nil {
		t.Errorf("the choice in %s: %v %q", stateImage, ok, got.Data)
	}
	if chosen.Until != 1_003_600 || len(chosen.Clones) != 1 || chosen.Clones[0].Events != 4711 || chosen.Clones[0].In {
		t.Errorf("the choice in %s is %+v; want until when it holds, and the array's events", stateImage, chosen)
	}
	if info, err := os.Stat(f.path(stateImage)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v; want it for root alone", stateImage, info.Mode(), err)
	}

	f.app.now = func() time.Time { return time.Unix(2_000_000, 0) }
	f.app.members = func() ([]md.Found, error) { return nil, errors.New("no disks to be seen") }
	f.run(0, "boot-once", "backup")
	f.says(&f.stderr, "no disks to be seen")
	f.grub.abstraction = "\n"
	f.run(0, "boot-once", "backup", "--json")
	if image, err = initrd.Read(f.path(stateImage), func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if _, ok := image.Lookup(config.ChoiceFile); ok {
		t.Errorf("%s: want nothing that outlasts a choice which GRUB forgets", stateImage)
	}
	var d document
	if err := json.Unmarshal(f.stdout.Bytes(), &d); err != nil {
		t.Fatalf("%v\n%s", err, &f.stdout)
	}
	next := &choice{Loader: grub, Entry: "mdclone-backup", Until: 2_003_600, ClearedBy: "loader"}
	if d.Next == nil || *d.Next != *next || d.Result != "done" || len(d.Reasons) != 0 {
		t.Errorf("a second choice: %s; want %+v", &f.stdout, next)
	}

	f.run(0, "boot-once", "backup", "--undo")
	f.says(&f.stdout, "the next boot is a normal one again\n")
	if got := f.env(); !slices.Equal(got, []string{"saved_entry=x"}) {
		t.Errorf("GRUB's environment after --undo is %q", got)
	}
	f.nothingToUndo()
}

// nothingToUndo requires that --undo finds nothing, and runs nothing.
func (f *fake) nothingToUndo() {
	f.t.Helper()
	f.ran = nil
	f.run(0, "boot-once", "backup", "--undo")
	f.says(&f.stdout, "there was nothing to undo")
	if len(f.ran) > 0 {
		f.t.Errorf("nothing to undo: ran %q", f.ran)
	}
}

// TestBootOnceByKexec: a reboot that goes past the boot loader makes no clone.
func TestBootOnceByKexec(t *testing.T) {
	t.Parallel()
	for conf, want := range map[string]bool{
		"LOAD_KEXEC=true\n": true, "# LOAD_KEXEC=true\nLOAD_KEXEC=false\n": false, "\tLOAD_KEXEC=\"true\"\n": true, "": false,
	} {
		f := installedGrub(t)
		f.write(kexecConf, conf)
		f.write("sbin/kexec", "")
		f.run(0, "boot-once", "backup")
		if got := strings.Contains(f.stderr.String(), "starts the next kernel by kexec"); got != want {
			t.Errorf("%q: warned %v; want %v", conf, got, want)
		}
	}
}

func TestBootOnceUndoLeavesOthers(t *testing.T) {
	t.Parallel()
	f := newFake(t).withGrub() // not installed, not configured
	f.remove("etc/mdclone/root.conf")
	f.write("boot/grub/grubenv", "next_entry=memtest\nmdclone_until=5")
	f.run(0, "boot-once", "backup", "--undo", "--json")
	if got := f.env(); !slices.Equal(got, []string{"next_entry=memtest"}) {
		t.Errorf("GRUB's environment is %q; want the choice of somebody else left", got)
	}
	f.says(&f.stdout, `"undone": [`)
	f.grub.deaf = true
	f.write("boot/grub/grubenv", "next_entry=mdclone-backup")
	f.run(1, "boot-once", "backup", "--undo")
	f.says(&f.stderr, "error: GRUB's environment still has next_entry=mdclone-backup")
	f.remove("boot/grub/grubenv")
	f.run(0, "boot-once", "backup", "--undo")
}

func TestBootOnceMakesTheEntry(t *testing.T) {
	t.Parallel()
	f := installedGrub(t)
	f.write(grubMenu, "menuentry 'old' {\n}\n")
	f.run(0, "boot-once", "backup")
	if !slices.Contains(f.ran, "/"+updateGrub) || !hasEntry(f.read(grubMenu)) {
		t.Errorf("ran %q; want update-grub among it, and the entry", f.ran)
	}
}

func TestBootOnceRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(f *fake)
		args   []string
		code   int
		want   string // on stderr
	}{
		{"no argument", nil, []string{}, 2, "the required argument"},
		{"rollback", nil, []string{"rollback"}, 2, "boot-once rollback is not there yet"},
		{"something else", nil, []string{"verify"}, 2, "boot-once verify: want backup"},
		{"too much", nil, []string{"backup", "now"}, 2, "unexpected argument"},
		{"not root", func(f *fake) { f.app.euid = func() int { return 1000 } }, []string{"backup"}, 2, "takes root"},
		{"undo and reboot", nil, []string{"backup", "--undo", "--reboot"}, 2, "do not go together"},
		{"reboot of another root", nil, []string{"backup", "--reboot"}, 2, "--reboot is for the running machine"},
		{"not configured", func(f *fake) { f.remove("etc/mdclone/root.conf") }, []string{"backup"}, 2, "no array is configured"},
		{"no clone", func(f *fake) {
			f.write("etc/mdclone/root.conf", "array = 8e5c6b62:12345678:9abcdef0:12345678\n")
		}, []string{"backup"}, 2, "no clone is configured"},
		{"images are stale", func(f *fake) { f.write(earlyPath, "a new one") }, []string{"backup"}, 1, "hint: run mdclone-gen install"},
		{
			"chosen by somebody else", func(f *fake) { f.write("boot/grub/grubenv", "next_entry=memtest") },
			[]string{"backup"},
			3,
			"the next boot is chosen already, by somebody else: memtest",
		},
		{
			"no entry to be had", func(f *fake) { f.grub.linux = "#!/bin/sh\n"; f.write(grubMenu, "") },
			[]string{"backup"},
			1,
			"update-grub has made no entry mdclone-backup",
		},
		{
			"update-grub fails", func(f *fake) { f.grub.fail = errors.New("exit status 1"); f.write(grubMenu, "") },
			[]string{"backup"},
			1,
			"update-grub in ",
		},
		{"written in vain", func(f *fake) { f.grub.deaf = true }, []string{"backup"}, 1, "GRUB's environment has "},
		{"no loader", func(f *fake) { f.remove(grubMenu) }, []string{"backup"}, 1, "hint: by hand: add mdclone=backup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := installedGrub(t)
			if c.change != nil {
				c.change(f)
			}
			before := f.read("boot/grub/grubenv")
			f.run(c.code, append([]string{"boot-once"}, c.args...)...)
			f.says(&f.stderr, c.want)
			if got := f.read("boot/grub/grubenv"); got != before {
				t.Errorf("GRUB's environment is %q; want it as it was, %q", got, before)
			}
		})
	}
}

func TestBootOnceReboots(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		command  bootOnceCommand
		json     bool
		terminal bool
		answer   string
		asks     bool
		want     bool
	}{
		{name: "nobody there"},
		{name: "nobody there, told to", command: bootOnceCommand{Reboot: true}, want: true},
		{name: "yes", terminal: true, answer: "y\n", asks: true, want: true},
		{name: "Yes", terminal: true, answer: " YES \n", asks: true, want: true},
		{name: "no", terminal: true, answer: "n\n", asks: true},
		{name: "Enter", terminal: true, answer: "\n", asks: true},
		{name: "end of input", terminal: true, answer: "", asks: true},
		{name: "told to, at a terminal", command: bootOnceCommand{Reboot: true}, terminal: true, want: true},
		{name: "a program", json: true, terminal: true, answer: "y\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.app.terminal = func() bool { return c.terminal }
			f.app.stdin = strings.NewReader(c.answer)
			f.app.json = c.json
			c.command.app = f.app
			if err := c.command.reboot(machine{root: "/"}); err != nil {
				t.Fatal(err)
			}
			if got := slices.Equal(f.ran, []string{"/sbin/reboot"}); got != c.want || !got && len(f.ran) > 0 {
				t.Errorf("ran %q; want a reboot: %v", f.ran, c.want)
			}
			if got := strings.Contains(f.stderr.String(), "reboot now? [y/N]"); got != c.asks {
				t.Errorf("asked: %v; want %v", got, c.asks)
			}
		})
	}
}

func TestInstallWithGrub(t *testing.T) {
	t.Parallel()
	f := newFake(t).withGrub()
	before := f.tree()
	f.run(0, "install")
	if want := append(updates(), "/"+updateGrub); !slices.Equal(f.ran, want) {
		t.Errorf("ran %q; want %q", f.ran, want)
	}
	if info, err := os.Stat(f.path(hooks.GrubPath)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%s: %v, %v; want it executable", hooks.GrubPath, info.Mode(), err)
	}
	if !hasEntry(f.read(grubMenu)) {
		t.Errorf("the menu has no entry:\n%s", f.read(grubMenu))
	}
	f.run(0, "boot-once", "backup")
	f.grub.fail = errors.New("exit status 1")
	f.run(1, "install")
	f.says(&f.stderr, "error: update-grub in "+f.root+": exit status 1")
	f.run(1, "uninstall")
	f.grub.fail = nil
	f.run(0, "uninstall")
	f.says(&f.stdout, "removed: "+f.path(stateImage))
	if diff := cmp.Diff(before, f.tree()); diff != "" {
		t.Errorf("uninstall leaves (-before +after):\n%s", diff)
	}

	f.ran = nil
	f.run(0, "install", "--update-initramfs=never")
	f.run(0, "uninstall", "--update-initramfs=never")
	if len(f.ran) > 0 {
		t.Errorf("ran %q; want nothing", f.ran)
	}
	f.remove(grubMenu) // not set up: it is not for us to do so
	f.run(0, "install")
	f.run(0, "uninstall")
	if slices.Contains(f.ran, "/"+updateGrub) {
		t.Errorf("ran %q; want no update-grub", f.ran)
	}
}

// TestInstallKeepsTheChoice: one that GRUB still has stays in what goes along with it.
func TestInstallKeepsTheChoice(t *testing.T) {
	t.Parallel()
	f := installedGrub(t)
	chosen := func() string {
		t.Helper()
		image, err := initrd.Read(f.path(stateImage), func(string) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		entry, _ := image.Lookup(config.ChoiceFile)
		return string(entry.Data)
	}
	f.run(0, "boot-once", "backup")
	want := chosen()
	f.write(ledgerDir+"/0f0e.json", "{ }\n")
	f.run(0, "install")
	if got := chosen(); got != want || want == "" {
		t.Errorf("the choice is %q after install; want %q", got, want)
	}
	f.write(grubEnvFile, "next_entry=mdclone-backup\nmdclone_until=5")
	f.run(0, "install")
	if got := chosen(); got != "" {
		t.Errorf("the choice is %q; want none, as GRUB has another one", got)
	}
	f.run(0, "boot-once", "backup")
	f.write(grubEnvFile, "next_entry=\nmdclone_until=1003600") // as after the boot
	f.run(0, "install")
	if got := chosen(); got != "" {
		t.Errorf("the choice is %q; want none, as it was used", got)
	}
	f.run(0, "boot-once", "backup")
	f.write(stateImage, "damaged")
	f.run(0, "install")
	f.says(&f.stderr, "only time ends the choice of the next boot")
	f.write(grubEnvFile, "")
	f.run(0, "install")
}
