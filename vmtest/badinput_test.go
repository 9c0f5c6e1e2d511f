//go:build vmtest

package vmtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// TestBadInput gives the commands what a hostile or unlucky world holds: configurations, names, devices, superblocks and
// bitmaps. Each is refused with the right exit code and a clear word, and nothing is written.
func TestBadInput(t *testing.T) {
	anySuite(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 4)
		r.adopted()
		r.quiet()
		r.untouched(func() {
			t.Run("configurations", func(t *testing.T) { r.at(t).badConfigurations() })
			t.Run("records", func(t *testing.T) { r.at(t).badRecords() })
			t.Run("names", func(t *testing.T) { r.at(t).badNames() })
			t.Run("devices", func(t *testing.T) { r.at(t).badDevices() })
		})
		t.Run("members", func(t *testing.T) { r.at(t).badMembers(t) })
	})
}

// saysNo runs a command that must end with the exit code, say why in plain text, and not panic.
func (r *rig) saysNo(want int, says string, args ...string) {
	r.t.Helper()
	got := r.Try(append([]string{"mdclone-early"}, args...)...)
	said := got.Stderr
	if got.Code != want || !strings.Contains(said, "mdclone: error: ") || !strings.Contains(said, says) || strings.Contains(said, "goroutine ") {
		r.t.Errorf("mdclone-early %q: exit code %d; want %d and a word of %q\n%s", args, got.Code, want, says, said)
	}
	if i := strings.IndexFunc(got.Stdout+said, func(c rune) bool { return c < ' ' && c != '\n' || c == 0x7f }); i >= 0 {
		r.t.Errorf("mdclone-early %q prints a control character: %q %q", args, got.Stdout, said)
	}
}

// badRecords damages what is recorded of the clone.
func (r *rig) badRecords() {
	r.Script("cd /var/lib/mdclone/ledger; cp *.json /run/good")
	for _, make := range []string{
		": > $x", "head -c 99 /run/good > $x", "sed 's/\"clone\": \"..../\"clone\": \"0000/' /run/good > $x", "sed 's/\"slot\": 2/\"slot\": {}/' /run/good > $x",
		`sed 's/"First": [0-9]*/"First": 18446744073709551615/' /run/good > $x`,
	} {
		r.Script("cd /var/lib/mdclone/ledger; x=$(echo *.json); " + make + "; ! cmp -s /run/good $x")
		r.saysNo(1, "cannot be read", "backup")
		r.saysNo(1, "compared in full", "check", "/dev/vdc")
	}
	r.Script("cd /var/lib/mdclone/ledger; mv /run/good *.json")
}

func (r *rig) badConfigurations() {
	r.Script("cp /etc/mdclone/data.conf /run/good")
	for _, test := range []struct{ make, says string }{
		{": > data.conf", "array = UUID"},
		{"echo nonsense > data.conf", "line 1"},
		{"echo 'array = /dev/md0' > data.conf", "UUID"},
		{"echo 'array = 0123' > data.conf", "UUID"},
		{"echo 'colour = red' >> data.conf", "colour"},
		{"echo 'max-sectors-kb = 99999999999999999999' >> data.conf", "max-sectors-kb"},
		{"echo 'clone-max-sectors-kb = -5' >> data.conf", "clone-max-sectors-kb"},
		{"echo 'verify = perhaps' >> data.conf", "verify"},
		{"grep array data.conf >> data.conf", "more than one"},
		{"grep clone.= data.conf >> data.conf", "twice"},
		{"cp data.conf more.conf", "already"},
		{"sed 's/^array.*/array = 11111111:11111111:11111111:11111111/' data.conf > more.conf", "already"},
		{`printf '#\0' >> data.conf`, "no text"},
		{"head -c 10000000 /dev/zero | tr '\\0' '#' >> data.conf", "larger"},
		{"mkdir x.conf", "no plain file"},
		{"mkfifo x.conf", "no plain file"},
		{"ln -s /dev/zero x.conf", "no plain file"},
		{"ln -s x.conf x.conf", "too many"},
		{"ln -s none x.conf", "no such file"},
		{`cp data.conf $'a\nb\e[2J.conf'`, "not a name"},
		{`printf 'array = \033[31m\n' > data.conf`, "UUID"},
	} {
		r.Script("cd /etc/mdclone; " + test.make)
		for _, command := range [][]string{{"status"}, {"backup"}, {"pin"}, {"check", "/dev/vdc"}, {"adopt", "/dev/md0", "/dev/vdd"}} {
			r.saysNo(2, test.says, command...)
			if r.t.Failed() {
				r.t.Fatalf("after %s", test.make)
			}
		}
		// udev's rules wait for it, and what the files say of the array for certain holds
		if got := r.early(0, "pin", "--export", "/dev/md0"); !strings.Contains(got.Stderr, test.says) {
			r.t.Errorf("after %s pin --export says %q; want %q", test.make, got.Stderr, test.says)
		}
		r.Script("rm -rf /etc/mdclone/*; cp /run/good /etc/mdclone/data.conf")
	}
	for _, good := range []string{`sed -i 's/$/\r/' data.conf`, `{ printf '\xef\xbb\xbf'; cat /run/good; } > data.conf`} {
		r.Script("cd /etc/mdclone; " + good)
		r.early(0, "status")
		r.Script("cp /run/good /etc/mdclone/data.conf")
	}
}

func (r *rig) badNames() {
	for _, name := range []string{"", "/dev/none", "/dev/a\nmdclone: safe to unplug", "/dev/\x1b[2J\x07", "%s%n%!d(x)", strings.Repeat("x/", 3000), "../../dev", "--"} {
		r.saysNo(2, "", "check", name)
		r.saysNo(2, "", "adopt", "/dev/md0", name)
		if name != "" && name != "--" { // else it is as if none was given
			r.saysNo(2, "", "check", "/dev/md0", name)
			r.saysNo(2, "", "backup", name)
			r.saysNo(2, "", "status", name)
			r.saysNo(2, "", "pin", name)
		}
	}
	r.saysNo(4, "", "backup", "--clone", "/dev/none")
	r.saysNo(2, "UUID", "backup", "--clone", "a\x1b[2J")
	for _, wait := range []string{"-1s", "5", "9999999999999h", "1e99s", "\x1b[2J"} {
		r.saysNo(2, "wait", "backup", "--wait="+wait)
	}
	for _, kb := range []string{"-1", "0", "99999999999", "x\x1b"} {
		r.saysNo(2, "max-sectors-kb", "pin", "--max-sectors-kb="+kb)
	}
	r.saysNo(2, "name", "adopt", "/dev/md0", "/dev/vdd", "--name", "../a\nb")
}

func (r *rig) badDevices() {
	for _, path := range []string{"/dev/null", "/dev", "/etc/passwd", "/run/pipe", "/proc/self/mem"} {
		if path == "/run/pipe" {
			r.Script("mkfifo /run/pipe")
		}
		for _, args := range [][]string{{"check", path}, {"adopt", "/dev/md0", path}, {"adopt", path, "/dev/vdd"}, {"backup", path}, {"status", path}, {"pin", path}} {
			r.saysNo(2, "", args...)
		}
	}
	r.saysNo(3, "", "check", "/dev/md0", "/dev/vdd") // empty
	r.saysNo(3, "", "check", "/dev/vdd")
	// the array as its own drive: itself, a device on it, and a loop device over a member, which nothing claims
	r.Script(`echo 0 2048 linear /dev/md0 0 | dmsetup create top; losetup /dev/loop1 /dev/vda; losetup /dev/loop2 /dev/mapper/top
		losetup /dev/loop3 /dev/md0`)
	for _, drive := range []string{"/dev/md0", "/dev/mapper/top", "/dev/loop1", "/dev/loop2", "/dev/loop3", "/dev/vda"} {
		r.saysNo(3, "", "check", "/dev/md0", drive)
		r.saysNo(3, "", "adopt", "/dev/md0", drive)
		r.saysNo(3, "", "adopt", "/dev/md0", drive, "--overwrite")
	}
	r.saysNo(3, "vda", "adopt", "/dev/md0", "/dev/loop1", "--overwrite")
	r.Script("losetup -d /dev/loop1; losetup -d /dev/loop2; losetup -d /dev/loop3; dmsetup remove top")
}

// seal gives a superblock the checksum that makes the rest of it count (drivers/md/md.c, calc_sb_1_csum, Linux 6.12).
func seal(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[216:], 0)
	var sum uint64
	end := 256 + 2*int(min(le.Uint32(b[220:]), (md.SuperSize-256)/2))
	for i := 0; i+4 <= end; i += 4 {
		sum += uint64(le.Uint32(b[i:]))
	}
	if end%4 == 2 {
		sum += uint64(le.Uint16(b[end-2:]))
	}
	le.PutUint32(b[216:], uint32(sum)+uint32(sum>>32))
}

// badMembers moves the clone's metadata, damaged, to a scratch drive, which is what the drive then is.
func (r *rig) badMembers(t *testing.T) {
	clone := r.onDisk(t, "vdc")
	at := int64(clone.Super.BitmapOffset) * 512
	head := make([]byte, at+md.SuperSize) // from the superblock to the bitmap
	f, err := os.Open(r.disk("vdc"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(head, int64(clone.Super.SuperOffset)*512); err != nil {
		t.Fatal(err)
	}
	r.Script("dd if=/dev/zero of=/dev/vdc bs=64k count=16 oflag=direct status=none")
	own := 256 + 2*clone.Super.DevNumber
	le := binary.LittleEndian
	for i, test := range []struct {
		name string
		do   func(super, bits []byte)
	}{
		{"as it was", func(_, _ []byte) {}}, // may join
		{"checksum", func(b, _ []byte) { b[216]++ }},
		{"version 2", func(b, _ []byte) { b[4] = 2 }},
		{"max_dev 0", func(b, _ []byte) { le.PutUint32(b[220:], 0) }},
		{"max_dev 65535", func(b, _ []byte) { le.PutUint32(b[220:], 65535) }},
		{"raid_disks 0", func(b, _ []byte) { le.PutUint32(b[92:], 0) }},
		{"raid_disks 60000", func(b, _ []byte) { le.PutUint32(b[92:], 60000) }},
		{"level -4", func(b, _ []byte) { le.PutUint32(b[72:], 1<<32-4) }},
		{"own number", func(b, _ []byte) { le.PutUint32(b[160:], 1<<31) }},
		{"slot beyond raid_disks", func(b, _ []byte) { le.PutUint16(b[own:], 9) }},
		{"data offset 2^55", func(b, _ []byte) { le.PutUint64(b[128:], 1<<55) }},
		{"data offset behind the end", func(b, _ []byte) { le.PutUint64(b[128:], diskMiB*2048-8) }},
		{"size 2^62", func(b, _ []byte) { le.PutUint64(b[80:], 1<<62) }},
		{"size larger than the device", func(b, _ []byte) { le.PutUint64(b[80:], diskMiB*2048+8) }},
		{"bitmap offset", func(b, _ []byte) { le.PutUint32(b[96:], 1<<31) }},
		{"bitmap offset behind the end", func(b, _ []byte) { le.PutUint32(b[96:], 1<<30) }},
		{"bitmap magic", func(_, m []byte) { m[0]++ }},
		{"bitmap version", func(_, m []byte) { m[4] = 99 }},
		{"bitmap UUID", func(_, m []byte) { m[8]++ }},
		{"chunk size 0", func(_, m []byte) { le.PutUint32(m[52:], 0) }},
		{"chunk size 2^31", func(_, m []byte) { le.PutUint32(m[52:], 1<<31) }},
		{"chunk size 512", func(_, m []byte) { le.PutUint32(m[52:], 512) }},
		{"sync size 2^63", func(_, m []byte) { le.PutUint64(m[40:], 1<<63) }},
		{"sync size 0", func(_, m []byte) { le.PutUint64(m[40:], 0) }},
		{"events cleared above the array's", func(_, m []byte) { le.PutUint64(m[32:], 1<<60) }},
		{"array UUID", func(b, _ []byte) { b[16]++ }},
		{"device UUID", func(b, _ []byte) { b[168]++ }},
		{"name with escapes", func(b, _ []byte) { copy(b[32:], "\x1b[2J\n\x07%s"); b[16]++ }},
		{"all ones", func(b, _ []byte) { copy(b[8:], bytes.Repeat([]byte{0xff}, 200)) }},
	} {
		block := bytes.Clone(head)
		test.do(block, block[at:])
		if test.name != "checksum" {
			seal(block)
		}
		p, err := r.Spawn(r.Context(), vm.Command{
			Argv:  []string{"dd", "of=/dev/vdd", "bs=4k", fmt.Sprint("seek=", clone.Super.SuperOffset/8), "iflag=fullblock", "oflag=direct", "status=none"},
			Stdin: block,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Wait(r.Context()); err != nil || got.Err() != nil {
			t.Fatalf("write the metadata: %v, %v", err, got.Err())
		}
		if i == 0 {
			r.early(0, "check", "/dev/md0", "/dev/vdd")
			continue
		}
		r.saysNo(3, "", "check", "/dev/md0", "/dev/vdd")
		r.saysNo(3, "", "backup", "--clone", "/dev/vdd")
		if got := r.Try("mdclone-early", "status"); got.Code != 0 || strings.Contains(got.Stderr, "goroutine ") {
			t.Errorf("status = %d\n%s", got.Code, got.Stderr)
		}
		after := make([]byte, len(block))
		d, err := os.Open(r.disk("vdd"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.ReadAt(after, int64(clone.Super.SuperOffset)*512)
		_ = d.Close()
		if err != nil || !bytes.Equal(after, block) {
			t.Errorf("what lies on the drive was changed: %v", err)
		}
		if t.Failed() {
			t.Fatalf("with %s", test.name)
		}
	}
	if got := strings.TrimSpace(r.File("/sys/block/md0/md/degraded")); got != "1" {
		t.Errorf("degraded = %s; want 1", got)
	}
}
