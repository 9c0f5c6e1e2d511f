package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"mdclone/hooks"
)

// fakeGrub is GRUB in a fake machine.
type fakeGrub struct {
	abstraction, filesystem string
	deaf                    bool  // what is written into its environment does not stay
	fail                    error // what update-grub returns
	damaged                 bool  // grub-editenv cannot read the environment
	linux                   string
}

// linux10 stands for 10_linux: it prints what Debian's does with a root on LVM on RAID1, as far as it matters here.
const linux10 = `#!/bin/sh
echo "Found linux image: /boot/vmlinuz-6.1" >&2
cat <<'END'
function gfxmode {
	set gfxpayload="${1}"
}
END
[ -z "$GRUB_SAVEDEFAULT" ] || save="	savedefault
"
cat <<END
menuentry 'Bob'\''s GNU/Linux' --class gnu-linux --class os \$menuentry_id_option 'gnulinux-simple-1234' {
${save}	load_video
	insmod lvm
	echo	'Loading Linux 6.1 ...'
	linux	/boot/vmlinuz-6.1 root=/dev/mapper/vg0-root ro quiet
	echo	'Loading initial ramdisk ...'
	initrd	/boot/intel-ucode.img /boot/initrd.img-6.1
}
submenu 'Advanced options' \$menuentry_id_option 'gnulinux-advanced-1234' {
	menuentry 'Linux 6.1' --class os \$menuentry_id_option 'gnulinux-6.1-advanced-1234' {
		linux	/boot/vmlinuz-6.1 root=/dev/mapper/vg0-root ro
		initrd	/boot/initrd.img-6.1
	}
}
END
`

// withGrub sets GRUB up in the machine, on LVM on RAID1.
func (f *fake) withGrub() *fake {
	f.t.Helper()
	f.grub = &fakeGrub{abstraction: "lvm\ndiskfilter\nmdraid1x\n", filesystem: "ext2\n", linux: linux10}
	f.write("etc/grub.d/00_header", "#!/bin/sh\n")
	for _, name := range []string{updateGrub, grubEditenv, grubProbe} {
		f.write(name, "stands for it")
	}
	f.write("boot/grub/grubenv", "")
	f.write(grubMenu, "")
	f.makeMenu()
	return f
}

// makeMenu is update-grub.
func (f *fake) makeMenu() {
	f.t.Helper()
	f.write("etc/grub.d/10_linux", f.grub.linux)
	menu := ""
	if _, err := os.Stat(f.path(hooks.GrubPath)); err == nil {
		menu, _ = f.script("/boot", "GRUB_SAVEDEFAULT=true")
	}
	f.write(grubMenu, menu)
}

// script runs the installed /etc/grub.d/42_mdclone as grub-mkconfig does, which would fail if it did. boot is where GRUB
// finds the folder /boot.
func (f *fake) script(boot string, env ...string) (stdout, stderr string) {
	f.t.Helper()
	text := f.read(hooks.GrubPath)
	for _, path := range []string{"[ -x /usr/sbin/mdclone-early ]", "image=/boot/mdclone-rescue\n"} {
		if !strings.Contains(text, path) {
			f.t.Fatalf("the script has no %q, this test has to follow it", path)
		}
		text = strings.Replace(text, path, strings.Replace(path, "/", f.root+"/", 1), 1)
	}
	script := f.path("etc/grub.d/42_rooted")
	lib := f.t.TempDir()
	for name, text := range map[string]string{
		script:                                  text,
		filepath.Join(lib, "grub-mkconfig_lib"): "bindir=" + lib + "\nmake_system_path_relative_to_its_root() { echo '" + boot + "'; }\n",
		filepath.Join(lib, "grub-script-check"): "#!/bin/sh\ncat >> " + lib + "/checked\nexit ${CHECK:-0}\n",
	} {
		writeProgram(f.t, name, text)
	}
	defer f.remove("etc/grub.d/42_rooted")
	cmd := exec.Command(script)
	cmd.Env = append(os.Environ(), append(env, "pkgdatadir="+lib)...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		f.t.Fatalf("42_mdclone: %v; want it never to fail\n%s", err, &errOut)
	}
	if checked, err := os.ReadFile(lib + "/checked"); out.Len() > 0 && (err != nil || string(checked) != out.String()) {
		f.t.Errorf("grub-script-check was given %q, %v; want what is printed", checked, err)
	}
	return out.String(), errOut.String()
}

// env is GRUB's environment, in the order of its writing.
func (f *fake) env() []string { return strings.Fields(f.read("boot/grub/grubenv")) }

// grubCommand stands for what changes something.
func (f *fake) grubCommand(name string, args []string) error {
	switch name {
	case "/" + updateGrub:
		if f.grub.fail != nil {
			return f.grub.fail
		}
		f.makeMenu()
	case "/" + grubEditenv:
		if len(args) < 3 || args[0] != "-" {
			return errors.New("usage")
		}
		if f.grub.deaf {
			return nil
		}
		env := f.env()
		for _, arg := range args[2:] {
			name, _, _ := strings.Cut(arg, "=")
			env = slices.DeleteFunc(env, func(line string) bool { return strings.HasPrefix(line, name+"=") })
			if args[1] == "set" {
				env = append(env, arg)
			}
		}
		f.write("boot/grub/grubenv", strings.Join(env, "\n"))
	}
	return nil
}

// grubOutput stands for what tells something.
func (f *fake) grubOutput(name string, args []string) (string, error) {
	switch strings.Join(append([]string{name}, args...), " ") {
	case "/" + grubEditenv + " - list":
		if f.grub.damaged {
			return "", errors.New("exit status 1")
		}
		return strings.Join(f.env(), "\n") + "\n", nil
	case "/" + grubProbe + " --target=abstraction /boot/grub":
		return f.grub.abstraction, nil
	case "/" + grubProbe + " --target=fs /boot/grub":
		return f.grub.filesystem, nil
	}
	return "", errors.New("exit status 1")
}
