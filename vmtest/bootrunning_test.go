//go:build vmtest

package vmtest

import (
	"path/filepath"
	"strings"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// TestBootSetRunning boots into the whole system after a power cut with the clone attached, by a choice of the boot loader's
// that is too old. There the journal tells so, the clone stays out whatever asks for devices anew, may be backed up to, and the array of data disks that are plugged in starts like the root's.
func TestBootSetRunning(t *testing.T) {
	eachSystem(t, suites, func(t *testing.T, system string) {
		l := Lab(t)
		c := bootCase{disks: strings.Fields(first), args: []string{"mdclone=backup", "mdclone.until=1700000000"}}
		conf, disks := c.config(t, diskStates(t, l, system)["cut"])
		r := &rig{Machine: BootIn(t, l, conf)}
		stays := func(after string) {
			t.Helper()
			r.Must("udevadm", "settle")
			if got := r.slots(); got != "01-" {
				t.Errorf("after %s the array is %s; want 01-", after, got)
			}
		}
		stays("boot")
		r.Must("systemctl", "is-system-running", "--wait")
		if told := r.Must("journalctl", "--unit=mdclone-report", "--output=cat"); !strings.Contains(told, "was for an earlier boot") {
			t.Errorf("the journal does not tell what came of the choice for an earlier boot:\n%s", told)
		}
		r.Must("systemctl", "is-active", "mdclone-report") // another start of it would end the choice for the next boot
		// nothing holds it any more
		r.early(0, "check", "root", "/dev/"+r.name(vm.CloneSerial))
		r.Must("udevadm", "trigger", "--action=add", "--subsystem-match=block")
		stays("a trigger")
		r.Try("mdadm", "--assemble", "--scan")
		stays("--assemble --scan")
		r.Try("mdadm", "-IRs")
		stays("-IRs")
		// by which mdadm would take in whatever is plugged in
		r.Script("echo 'POLICY domain=default action=force-spare' >> /etc/mdadm/mdadm.conf")
		if said := r.early(0, "check", "root", "/dev/"+r.name(vm.CloneSerial)).Stdout; !strings.Contains(said, "action=force-spare") {
			t.Errorf("check does not name the policy:\n%s", said)
		}
		r.Unplugged(vm.CloneSerial)
		r.Plugged(disks[vm.CloneSerial])
		stays("a hot-plug, with a policy")
		r.dataArray(t)
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		if written, err := disks[vm.CloneSerial].Written(t.Context()); err != nil || written {
			t.Errorf("the clone was written: %v, %v; want false", written, err)
		}
	})
}

// name is the guest's name for the disk with serial.
func (r *rig) name(serial string) string {
	r.t.Helper()
	name, err := r.DiskName(r.Context(), serial)
	if err != nil {
		r.t.Fatal(err)
	}
	return name
}

// dataArray makes an array of two disks and a clone in the running system, ends it with the clone attached, and has it
// started by udev from disks that are plugged in, the clone first.
func (r *rig) dataArray(t *testing.T) {
	t.Helper()
	var disks []vm.Disk
	var nodes []string
	for _, serial := range []string{"dclone", "d1", "d2"} {
		d := NewDisk(t, serial, 64)
		disks, nodes = append(disks, d), append(nodes, "/dev/"+r.Plugged(d))
	}
	// udev, which looks at the members when mdadm has written them, would start the array once more after the stop
	r.Script(`cp -p /etc/mdadm/mdadm.conf /run/mdadm.conf; sed -i '1i AUTO -all' /etc/mdadm/mdadm.conf
		mdadm --create /dev/md9 --run --quiet --level=1 --raid-devices=3 --bitmap=internal --assume-clean ` +
		strings.Join([]string{nodes[1], nodes[2], nodes[0]}, " ") + `
		uuid() { mdadm --examine "$2" | sed -n "s/ *$1 UUID : //p"; }
		printf 'array = %s\nclone = %s\n' "$(uuid Array ` + nodes[0] + `)" "$(uuid Device ` + nodes[0] + `)" > /etc/mdclone/data.conf
		mdadm --stop --quiet /dev/md9
		systemctl mask --runtime mdadm-last-resort@.timer # which would start it too, half a minute later
		mdclone-gen install --update-initramfs=never`)
	for _, d := range disks {
		r.Unplugged(d.Serial)
	}
	if r.Try("test", "-e", "/sys/block/md9").Code == 0 {
		t.Fatal("md9 is there, without its disks")
	}
	r.Script("mv /run/mdadm.conf /etc/mdadm/mdadm.conf")
	for _, d := range disks {
		r.Plugged(d)
	}
	r.Must("udevadm", "settle")
	s := read[clone.Status](r, r.early(0, "status", "data", "--json").Stdout).Arrays[0]
	if s.RaidDisks != 3 || s.Degraded != 1 || s.RunsFromClone || at(s.Clones[0]) == "" {
		t.Errorf("the array of data disks: %+v; want it started without its clone", s)
	}
	r.spareComes(t, disks[0])
	r.ownComes(t, disks)
}

// spareComes: a clone whose join was cut is a spare by its own superblock. It stays out when it is plugged in beside an array that
// runs with its slot empty; let in, all of it would be copied, and it is no clone until then.
func (r *rig) spareComes(t *testing.T, d vm.Disk) {
	t.Helper()
	r.Unplugged(d.Serial)
	patchMember(t, d.Path, func(m *md.Member, super, _ []byte) { ownRole(m, super, md.RoleSpare) })
	node := "/dev/" + r.Plugged(d)
	in := func() bool { return r.Try("test", "-e", "/sys/block/md9/md/dev-"+filepath.Base(node)).Code == 0 }
	for _, after := range [][]string{{"true"}, {"udevadm", "trigger", "--action=add", "--subsystem-match=block"}, {"mdadm", "--assemble", "--scan"}, {"mdadm", "-IRs"}} {
		r.Try(after...)
		r.Must("udevadm", "settle")
		if in() {
			t.Errorf("after %v a clone that is a spare by its superblock is in the array; want it out", after)
		}
	}
	if r.Try("mdadm", "-I", node); !in() {
		t.Error("mdadm does not take it in when it is told to: this shows nothing")
	}
}

// ownComes: own disks stay out of an array that runs from its clone, also where a policy has mdadm put them in.
func (r *rig) ownComes(t *testing.T, disks []vm.Disk) {
	t.Helper()
	node := "/dev/" + r.name(disks[0].Serial)
	r.Script("mdadm --readwrite /dev/md9 2>/dev/null || true; until grep -q in_sync /sys/block/md9/md/dev-" + filepath.Base(node) + "/state; do sleep 0.1; done")
	lifted := "/run/mdclone/lifted-" + strings.TrimSpace(r.Script("udevadm info --query=property --name="+node+" | sed -n s/^ID_FS_UUID=//p"))
	r.Script("mdadm --stop --quiet /dev/md9")
	for _, d := range disks[1:] {
		r.Unplugged(d.Serial)
	}
	r.Script("mdadm --stop --quiet /dev/md9 2>/dev/null || true; mdadm --assemble --run --quiet /dev/md9 " + node +
		"; mdadm --readwrite /dev/md9 2>/dev/null || true; touch " + lifted)
	own := "/dev/" + r.Plugged(disks[1])
	r.Must("udevadm", "settle")
	in := func() bool { return r.Try("test", "-e", "/sys/block/md9/md/dev-"+filepath.Base(own)).Code == 0 }
	if in() {
		t.Error("an own disk is put into an array that runs from its clone")
	}
	r.Script("rm " + lifted + "; udevadm trigger --settle --action=add " + own)
	if !in() {
		t.Fatal("the policy does not put it in otherwise: this shows nothing")
	}
	r.Script("touch " + lifted + "; until grep -q in_sync /sys/block/md9/md/dev-" + filepath.Base(own) + "/state; do sleep 0.1; done; udevadm trigger --settle " + own)
	if r.Try("test", "-e", lifted).Code == 0 {
		t.Error("an array that does not run from its clone any more is called lifted still")
	}
}
