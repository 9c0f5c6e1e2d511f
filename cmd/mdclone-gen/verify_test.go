package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mdclone/hooks"
	udevrules "mdclone/udev-rules"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	const other = "array = 00000000:00000000:00000000:00000001\n"
	cases := []struct {
		name   string
		change func(f *fake)
		remake bool // the boot images, after the change
		want   []string
	}{
		{"as configured", func(*fake) {}, false, nil},
		{
			"another program", func(f *fake) { f.write(earlyPath, "newer") }, false,
			[]string{"IMAGE: /usr/sbin/mdclone-early is another one than it should be"},
		},
		{"no program", func(f *fake) { f.remove(earlyPath) }, true, []string{
			"ROOT/usr/sbin/mdclone-early is missing",
			"IMAGE: /etc/mdclone/initramfs is not in it",
		}},
		{"a changed configuration", func(f *fake) {
			f.write("etc/mdclone/root.conf", f.read("etc/mdclone/root.conf")+"max-sectors-kb = 512\n")
		}, false, []string{
			"ROOT/usr/lib/udev/rules.d/63-mdclone.rules is not what /etc/mdclone says",
			"IMAGE: /etc/mdclone/root.conf is another one than it should be",
			"IMAGE: /usr/lib/udev/rules.d/63-mdclone.rules is another one than it should be",
		}},
		{"an array more", func(f *fake) { f.write("etc/mdclone/home.conf", other) }, false, []string{
			"ROOT/usr/lib/udev/rules.d/63-mdclone.rules is not what /etc/mdclone says",
			"IMAGE: /etc/mdclone/home.conf is not in it",
			"IMAGE: /usr/lib/udev/rules.d/63-mdclone.rules is another one than it should be",
		}},
		{
			"a comment more", func(f *fake) { f.write("etc/mdclone/root.conf", "# note\n"+f.read("etc/mdclone/root.conf")) }, false,
			[]string{"IMAGE: /etc/mdclone/root.conf is another one than it should be"},
		},
		{"a rule changed by hand", func(f *fake) { f.write(udevrules.Path, "# mine\n") }, true, []string{
			"ROOT/usr/lib/udev/rules.d/63-mdclone.rules is not what /etc/mdclone says",
			"IMAGE: /usr/lib/udev/rules.d/63-mdclone.rules is another one than it should be",
		}},
		{"a script changed by hand", func(f *fake) { f.write("usr/share/initramfs-tools/scripts/local-block/mdclone", "# mine\n") }, false, []string{
			"IMAGE: /scripts/local-block/mdclone is another one than it should be",
		}},
		{"no rule to start arrays, and no script", func(f *fake) {
			f.remove(udevrules.StartPath)
			f.remove("usr/share/initramfs-tools/scripts/init-premount/mdclone")
		}, true, []string{
			"ROOT/usr/lib/udev/rules.d/65-mdclone.rules is missing",
			"ROOT/usr/share/initramfs-tools/scripts/init-premount/mdclone is missing",
			"IMAGE: as configured",
		}},
		{"no hook", func(f *fake) { f.remove(hooks.InitramfsToolsPath) }, true, []string{
			"IMAGE: /etc/mdclone/root.conf is not in it",
			"IMAGE: /usr/lib/udev/rules.d/63-mdclone.rules is not in it",
			"IMAGE: /usr/lib/udev/rules.d/65-mdclone.rules is not in it",
			"IMAGE: /usr/sbin/mdclone-early is not in it",
			"IMAGE: /etc/mdclone/initramfs is not in it",
			"IMAGE: module md-mod for kernel " + kernel + " is not in it",
			"IMAGE: module raid1 for kernel " + kernel + " is not in it",
			"IMAGE: drivers of disks for kernel " + kernel + " are not in it, and the clone may need them: usb_storage, uas",
		}},
		{"no driver of the clone's", func(f *fake) {
			f.remove("lib/modules/" + kernel + "/kernel/drivers/usb/uas.ko")
		}, true, []string{"IMAGE: drivers of disks for kernel " + kernel + " are not in it, and the clone may need them: uas"}},
		{
			"no module", func(f *fake) { f.remove("lib/modules/" + kernel + "/kernel/drivers/md/raid1.ko") }, true,
			[]string{"IMAGE: module raid1 for kernel " + kernel + " is not in it"},
		},
		{"a module that is built in", func(f *fake) {
			f.remove("lib/modules/" + kernel + "/kernel/drivers/md/raid1.ko")
			f.write("lib/modules/"+kernel+"/modules.builtin", "kernel/drivers/md/raid1.ko\n")
		}, true, nil},
		{"a truncated image", func(f *fake) {
			image := "boot/initrd.img-" + kernel
			f.write(image, f.read(image)[:200])
		}, false, []string{"IMAGE: segment 1 (zstd) at byte 0: the image ends early (truncated)"}},
		{"not executable", func(f *fake) {
			if err := os.Chmod(f.path(earlyPath), 0o644); err != nil {
				f.t.Fatal(err)
			}
		}, true, []string{"IMAGE: /usr/sbin/mdclone-early is not executable", "IMAGE: /etc/mdclone/initramfs is not in it"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.remove("boot/vmlinuz-" + kernel + "-old") // one kernel is enough here
			if err := os.RemoveAll(f.path("lib/modules/" + kernel + "-old")); err != nil {
				t.Fatal(err)
			}
			f.run(0, "install")
			c.change(f)
			if c.remake {
				f.makeImage(kernel)
			}
			code, image := 1, f.path("boot/initrd.img-"+kernel)
			if len(c.want) == 0 {
				code, c.want = 0, []string{"IMAGE: as configured"}
			}
			f.run(code, "verify")
			got := strings.NewReplacer(image, "IMAGE", f.root, "ROOT").Replace(f.stdout.String())
			if diff := cmp.Diff(strings.Join(c.want, "\n")+"\n", got); diff != "" {
				t.Errorf("verify (-want +got):\n%s", diff)
			}
			f.write("lib/modules/"+kernel+"/kernel/drivers/md/raid1.ko", "raid1")
			f.write("lib/modules/"+kernel+"/kernel/drivers/usb/uas.ko", module(t, "usb_storage"))
			f.run(0, "install") // mends all the rest
		})
	}
}

func TestVerifyNamedAndSkipped(t *testing.T) {
	f := newFake(t)
	f.run(0, "install")
	stale := filepath.Join(t.TempDir(), "initrd.img-"+kernel)
	f.remove(hooks.InitramfsToolsPath)
	f.makeImage(kernel)
	if err := os.Rename(f.path("boot/initrd.img-"+kernel), stale); err != nil {
		t.Fatal(err)
	}
	f.run(0, "install")
	f.write("boot/initrd.img-"+kernel+".dpkg-bak", "a copy")
	f.write("boot/initrd.img-5.10.0-1-amd64", "its kernel is gone")
	f.run(0, "verify")
	f.says(&f.stderr, "boot/initrd.img-"+kernel+".dpkg-bak is not looked at")
	f.says(&f.stderr, "boot/initrd.img-5.10.0-1-amd64 is not looked at")
	f.run(1, "verify", stale)
	f.says(&f.stdout, stale+": /usr/sbin/mdclone-early is not in it")
	if strings.Contains(f.stdout.String(), f.root) {
		t.Errorf("images that were not named are looked at:\n%s", &f.stdout)
	}
	f.run(1, "verify", f.path("boot/none"))
	f.says(&f.stdout, "boot/none: open "+f.path("boot/none")+": no such file or directory")
}

func TestModuleName(t *testing.T) {
	for file, want := range map[string]string{
		"kernel/drivers/md/md-mod.ko": "md-mod", "md_mod.ko.xz": "md-mod", "raid1.ko.zst": "raid1", "raid1.ko.gz": "raid1",
		"raid1.ko.sig": "", "modules.dep": "", "": "",
	} {
		if got := moduleName(file); got != want {
			t.Errorf("moduleName(%q) = %q; want %q", file, got, want)
		}
	}
}

// TestHookNeverFails: mkinitramfs ends at the first hook that does, and then there is no new boot image at all.
func TestHookNeverFails(t *testing.T) {
	cases := []struct {
		name   string
		change func(f *fake)
		want   string
	}{
		{"nothing wrong", func(*fake) {}, ""},
		{"no configuration", func(f *fake) { f.remove("etc/mdclone/root.conf") }, "W: mdclone: no /etc/mdclone/NAME.conf, nothing is added\n"},
		{"no program", func(f *fake) { f.remove(earlyPath) }, "W: mdclone: cannot add /usr/sbin/mdclone-early (run mdclone-gen install)\n"},
		{
			"no rule", func(f *fake) { f.remove(udevrules.Path) },
			"W: mdclone: cannot add /usr/lib/udev/rules.d/63-mdclone.rules (run mdclone-gen install)\n",
		},
		{
			"no functions", func(f *fake) { f.remove(hookFunctions) },
			"W: mdclone: no ROOT/usr/share/initramfs-tools/hook-functions, nothing is added\n",
		},
		{"broken functions", func(f *fake) { f.write(hookFunctions, "if\n") }, "W: mdclone: not all of mdclone is in the boot image\n"},
		{
			"functions that end the shell", func(f *fake) { f.write(hookFunctions, functions+"copy_file() { exit 3; }\n") },
			"W: mdclone: not all of mdclone is in the boot image\n",
		},
		{
			"functions that need a variable", func(f *fake) { f.write(hookFunctions, functions+"copy_exec() { : ${none?}; }\n") },
			"W: mdclone: not all of mdclone is in the boot image\n",
		},
		{
			"modules that are not there", func(f *fake) { f.write(hookFunctions, functions+"manual_add_modules() { false; }\n") },
			"W: mdclone: cannot add the modules md-mod and raid1\nW: mdclone: cannot add the drivers of disks\n",
		},
		{
			"functions that are not all there", func(f *fake) { f.write(hookFunctions, "") },
			"W: mdclone: cannot add /usr/sbin/mdclone-early (run mdclone-gen install)\n",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.run(0, "install")
			c.change(f)
			out, err := f.hook(t.TempDir(), kernel)
			if err != nil {
				t.Errorf("the hook ends with %v", err)
			}
			got := strings.ReplaceAll(string(out), f.root, "ROOT")
			if c.want == "" && got != "" || !strings.HasSuffix(got, c.want) {
				t.Errorf("output = %q; want %q at its end", got, c.want)
			}
		})
	}
}
