//go:build vmtest

package vmtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"mdclone/pkg/clone"
	"mdclone/pkg/md"
	"mdclone/vmtest/vm"
)

// suites are the Debian releases whose kernel and mdadm the product is tested on.
var suites = []string{"bookworm", "trixie"}

// systems are the full machines whose boot is tested: those suites with initramfs-tools, and the newer with both variants of
// dracut.
var systems = append(slices.Clone(suites), "trixie"+vm.Dracut, "trixie"+vm.DracutPlain)

// kernels are the suites of bare guests: those, and Debian's newest kernel and mdadm, where md's rules may differ.
var kernels = append(slices.Clone(suites), "sid")

// eachSuite runs a test on each of suites' full machines.
func eachSuite(t *testing.T, do func(t *testing.T, suite string)) { onEach(t, suites, do) }

// anySuite runs a test for which the suite hardly matters: on all of them only if there is time.
func anySuite(t *testing.T, do func(t *testing.T, suite string)) {
	some := suites
	if !soaking() {
		some = suites[len(suites)-1:]
	}
	onEach(t, some, do)
}

// eachSystem runs a test of the boot on some of systems, and on all if there is time.
func eachSystem(t *testing.T, some []string, do func(t *testing.T, system string)) {
	if soaking() {
		some = systems
	}
	onEach(t, some, do)
}

// eachGuest runs a test on the suites' bare guests, and on the newest kernel too if there is time.
func eachGuest(t *testing.T, do func(t *testing.T, suite string)) {
	if soaking() {
		onEach(t, kernels, do)
		return
	}
	onEach(t, suites, do)
}

// eachKernel runs a test on each of kernels.
func eachKernel(t *testing.T, do func(t *testing.T, suite string)) { onEach(t, kernels, do) }

// onEach runs a test on each of some systems, beside all other tests.
func onEach(t *testing.T, suites []string, do func(t *testing.T, suite string)) {
	t.Parallel()
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			t.Parallel() // mostly they wait for timers
			do(t, suite)
		})
	}
}

// soaking tells whether the rarer cases are tried too.
func soaking() bool { return os.Getenv("MDCLONE_SOAK") == "1" }

// built is the product, built once for all tests.
var built struct {
	sync.Mutex
	files []vm.File
}

func productFiles(t *testing.T, l *vm.Lab) []vm.File {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.files != nil {
		return built.files
	}
	dir, err := os.MkdirTemp("", "mdclone-product")
	if err != nil {
		t.Fatal(err)
	}
	if built.files, err = l.Product(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return built.files
}

// TestMain removes what productFiles built.
func TestMain(m *testing.M) {
	m.Run()
	for _, f := range built.files {
		_ = os.Remove(f.Host)
	}
}

// rig is a bare guest with the product and disks vda, vdb, ... of 160 MiB.
type rig struct {
	*Machine
	disks []vm.Disk
	suite string
	// state holds the product's configuration and what it remembers, as a root file system would; else they are gone with
	// the guest.
	state *vm.Disk
	// top is what is written to while a cycle runs beside it: a device on the array, or a file.
	top string
}

const diskMiB = 160

func newRig(t *testing.T, suite string, disks int, change ...func(*vm.Config)) *rig {
	t.Helper()
	r := &rig{suite: suite}
	for i := range disks {
		r.disks = append(r.disks, NewDisk(t, fmt.Sprintf("disk%d", i), diskMiB))
	}
	r.boot(t, change...)
	return r
}

// newLastingRig is a rig of three disks whose configuration, ledger and history outlast a power cut.
func newLastingRig(t *testing.T, suite string) *rig {
	t.Helper()
	r := newRig(t, suite, 3)
	d := NewDisk(t, "state", 16)
	name := r.Plugged(d)
	r.Script("mkfs.ext4 -q /dev/" + name)
	r.state = &d
	r.mountState(name)
	return r
}

// mountState puts the state disk where the product keeps what it must remember.
func (r *rig) mountState(name string) {
	r.t.Helper()
	r.Script(`mkdir -p /state /etc/mdclone /var/lib/mdclone; mount /dev/` + name + ` /state; mkdir -p /state/etc /state/lib
		mount --bind /state/etc /etc/mdclone; mount --bind /state/lib /var/lib/mdclone`)
}

// boot starts a guest on the rig's disks; after a power cut, again.
func (r *rig) boot(t *testing.T, change ...func(*vm.Config)) {
	t.Helper()
	l := Lab(t)
	c := vm.Config{Suite: r.suite, Disks: r.disks, Files: productFiles(t, l)}
	if soaking() {
		c.CPUs = 2 // what happens side by side
	}
	for _, f := range change {
		f(&c)
	}
	r.Machine = BootIn(t, l, c)
	if r.state != nil {
		r.mountState(r.Plugged(*r.state))
	}
}

// cut loses the power at this moment and boots again on the same disks. The array is assembled from its primaries.
func (r *rig) cut(t *testing.T) {
	t.Helper()
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	r.boot(t)
	r.assemble()
}

// at is the rig for a subtest.
func (r *rig) at(t *testing.T) *rig {
	sub := *r
	sub.Machine = r.In(t)
	return &sub
}

// create makes /dev/md0 of two primaries, vda and vdb, in sync, with a bitmap of 1 MiB chunks that is all clear.
func (r *rig) create() {
	r.t.Helper()
	r.Script(`
		for d in vda vdb; do dd if=/dev/urandom of=/dev/$d bs=1M count=8 oflag=direct status=none; done
		mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --bitmap=internal --bitmap-chunk=1M /dev/vda /dev/vdb
		mdadm --wait /dev/md0 || true
		test "$(cat /sys/block/md0/md/degraded)" = 0`)
}

// adopted makes /dev/md0 with vdc as its clone, detached.
func (r *rig) adopted() {
	r.t.Helper()
	r.create()
	r.adopt()
}

// adopt makes vdc the clone of /dev/md0, and detaches it.
func (r *rig) adopt() {
	r.t.Helper()
	r.early(0, "adopt", "/dev/md0", "/dev/vdc", "--name", "data")
	r.early(0, "detach")
}

// write changes so many MiB from a MiB on, through dev.
func (r *rig) write(dev string, mib, at int) {
	r.t.Helper()
	r.Script(fmt.Sprintf("dd if=/dev/urandom of=%s bs=1M count=%d seek=%d oflag=direct status=none", dev, mib, at))
}

// early runs mdclone-early, which must end with the exit code given.
func (r *rig) early(want int, args ...string) vm.Result {
	r.t.Helper()
	got := r.Try(append([]string{"mdclone-early"}, args...)...)
	if got.Code != want || got.Signal != 0 {
		r.t.Fatalf("mdclone-early %s: exit code %d (signal %d); want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got.Code,
			got.Signal, want, got.Stdout, got.Stderr)
	}
	return got
}

// account runs a command with --json and reads its account.
func (r *rig) account(want int, args ...string) clone.Result {
	r.t.Helper()
	return read[clone.Result](r, r.early(want, append(args, "--json")...).Stdout)
}

func (r *rig) status() clone.ArrayStatus {
	r.t.Helper()
	s := read[clone.Status](r, r.early(0, "status", "--json").Stdout)
	if len(s.Arrays) != 1 {
		r.t.Fatalf("status shows %d arrays; want 1", len(s.Arrays))
	}
	return s.Arrays[0]
}

// at is the device of a clone in status, "" for none, and "unknown" where status does not know.
func at(c clone.DriveStatus) string {
	if c.Device == nil {
		return "unknown"
	}
	return *c.Device
}

// toCopy is what the next backup copies by status, and more than any where status does not know.
func toCopy(c clone.DriveStatus) uint64 {
	if c.CopyBytes == nil {
		return math.MaxUint64
	}
	return *c.CopyBytes
}

// read reads the one JSON object that text must be.
func read[T any](r *rig, text string) T {
	r.t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&v); err != nil {
		r.t.Fatalf("stdout is no JSON object: %v\n%s", err, text)
	}
	if d.More() {
		r.t.Fatalf("stdout is more than one JSON object:\n%s", text)
	}
	return v
}

// disk finds a disk of the rig by its name in the guest: vda is the first.
func (r *rig) disk(name string) string {
	r.t.Helper()
	i := int(name[len(name)-1] - 'a')
	if !strings.HasPrefix(name, "vd") || i >= len(r.disks) {
		r.t.Fatalf("the rig has no %s", name)
	}
	return r.disks[i].Path
}

// equal requires that the clone, vdc, holds what the primary vda holds, byte for byte.
func (r *rig) equal() { r.t.Helper(); r.same("vda", "vdc") }

// same requires that two members hold the same, byte for byte. Both are read by the host, beneath the guest: what is in
// its caches does not count.
func (r *rig) same(primary, member string) {
	r.t.Helper()
	sameMembers(r.t, r.disk(primary), r.disk(member))
}

// sameMembers is same for two images.
func sameMembers(t testing.TB, primary, member string) {
	t.Helper()
	a, b := openMember(t, primary), openMember(t, member)
	defer a.file.Close()
	defer b.file.Close()
	if a.size != b.size || a.size == 0 {
		t.Fatalf("%s mirrors %d bytes, %s %d", primary, a.size, member, b.size)
	}
	left, right := make([]byte, mib), make([]byte, mib)
	for off := int64(0); off < a.size; off += mib {
		n := min(a.size-off, mib)
		_, err1 := a.file.ReadAt(left[:n], a.start+off)
		_, err2 := b.file.ReadAt(right[:n], b.start+off)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(left[:n], right[:n]) {
			t.Errorf("%s is no copy of %s: it differs in the MiB at %d MiB", member, primary, off/mib)
			return
		}
	}
}

// image is the data area of a member, as the host sees it.
type image struct {
	file        *os.File
	start, size int64
}

func openMember(t testing.TB, path string) image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := md.ReadMember(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return image{f, int64(m.Super.DataOffset) * 512, int64(m.Super.Size) * 512}
}

// sums hashes the rig's disks on the host.
func (r *rig) sums() []uint64 {
	r.t.Helper()
	out := make([]uint64, 0, len(r.disks))
	for _, d := range r.disks {
		f, err := os.Open(d.Path)
		if err != nil {
			r.t.Fatal(err)
		}
		h := maphash.Hash{}
		h.SetSeed(seed)
		if _, err := io.Copy(&h, f); err != nil {
			r.t.Fatal(err)
		}
		_ = f.Close()
		out = append(out, h.Sum64())
	}
	return out
}

var seed = maphash.MakeSeed()

// quiet waits until md has nothing more to write by itself: the superblocks are clean, and the bits are clear or, with a
// slot empty, stay as they are. A guest with 6.1 once did not come to that in ten minutes: so after a while it prints what it
// waits for, and asks md.
func (r *rig) quiet() {
	r.t.Helper()
	r.Script(`sync
		for a in /sys/block/md*/md; do
			[ -e $a/sync_action ] || continue
			tick=; [ "$(cat $a/degraded)" = 0 ] && [ -e $a/bitmap/time_base ] && tick=$(cat $a/bitmap/time_base) && echo 1 > $a/bitmap/time_base
			member=/dev/$(basename "$(ls -d $a/dev-* | head -n1)" | sed s/dev-//)
			turn=0
			until [ "$(cat $a/array_state)" = clean ] && { [ "$(cat $a/degraded)" != 0 ] || [ -z "$tick" ] || mdadm -X $member | grep -q ' 0 dirty'; }
			do
				sleep 0.1
				turn=$((turn + 1))
				[ $((turn % 300)) = 0 ] || continue
				echo "after $turn turns: $(cat $a/array_state), $(cat $a/degraded) missing"
				{ echo clean > $a/array_state; echo idle > $a/sync_action; } 2>/dev/null || true # the second wakes md's thread
			done
			[ -z "$tick" ] || echo $tick > $a/bitmap/time_base
		done
		stats() { cat /sys/block/vd*/stat | awk '{ n += $7 } END { print n }'; }
		last=; same=0; turn=0; while [ $same -lt 12 ]; do
			now=$(stats); [ "$now" = "$last" ] && same=$((same + 1)) || same=0; last=$now; sleep 0.1
			turn=$((turn + 1)); [ $((turn % 300)) != 0 ] || echo "after $turn turns: $now sectors written"
		done`)
}

// untouched runs do on a quiet array and requires that not one byte of any disk changed meanwhile.
func (r *rig) untouched(do func()) {
	r.t.Helper()
	before := r.sums()
	do()
	if after := r.sums(); !slices.Equal(before, after) {
		r.t.Errorf("a refusal wrote to a disk: %x before, %x after", before, after)
	}
}

// tunables requires that nothing of the array is left changed, but for some attributes.
func (r *rig) tunables(but ...string) {
	r.t.Helper()
	for attr, want := range map[string]string{
		"sync_speed_min": "1000 (system)", "sync_speed_max": "200000 (system)", "bitmap/time_base": "5", "sync_min": "0", "sync_max": "max",
	} {
		if got := strings.TrimSpace(r.File("/sys/block/md0/md/" + attr)); got != want && !slices.Contains(but, attr) {
			r.t.Errorf("%s is left at %q; want %q", attr, got, want)
		}
	}
	if got := strings.TrimSpace(r.File("/sys/block/md0/md/array_state")); got == "readonly" {
		r.t.Error("the array is left read-only")
	}
}

// code requires a reason with that code.
func code(t testing.TB, got clone.Result, want string) {
	t.Helper()
	for _, reason := range got.Reasons {
		if reason.Code == want {
			return
		}
	}
	t.Errorf("reasons are %v; want %q among them", got.Reasons, want)
}
