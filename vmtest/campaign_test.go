//go:build vmtest

package vmtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mdclone/pkg/clone"
	"mdclone/vmtest/vm"
)

// The campaign: the power is cut at random moments of what the product does, with a writer on top. After each cut the array
// must assemble from its primaries, both must hold every write that was acknowledged, nothing may stay changed, and the next
// run must finish the job, incrementally, with a clone that equals the array.

// cutsByDefault is for each kernel; MDCLONE_CUTS asks for more.
const cutsByDefault = 10

// campaignSeed is MDCLONE_SEED, else a new one. It is printed, and makes the same choices again; where in the code the cut
// then falls depends on the machine.
func campaignSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64N(1 << 32)
	if text := os.Getenv("MDCLONE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("MDCLONE_SEED: %v", err)
		}
	}
	t.Logf("MDCLONE_SEED=%d", seed)
	return seed
}

func campaignCuts(t *testing.T) int {
	t.Helper()
	n, text := cutsByDefault, os.Getenv("MDCLONE_CUTS")
	if text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			t.Fatalf("MDCLONE_CUTS=%q is no number from 1 on", text)
		}
	}
	return n
}

// job is one thing that is cut.
type job struct {
	name  string
	setUp func(r *rig, c *campaign) // what comes before it
	argv  []string
	again []string // what finishes it after the cut
	mode  string   // of that; "" for whatever it is
	over  string   // a command that tells whether it had come to its end; "" for one that may be done once more
}

var jobs = []job{
	{"backup", func(r *rig, c *campaign) { c.writer(r) }, []string{"backup"}, []string{"backup"}, "incremental", ""},
	{"offline backup", func(*rig, *campaign) {}, []string{"backup", "--offline"}, []string{"backup"}, "incremental", ""},
	{"heal", func(r *rig, c *campaign) {
		r.alone(8, 90)
		c.writer(r)
	}, []string{"backup", "--heal", "--verify", "changed"}, []string{"backup", "--heal"}, "", ""},
	{"detach", func(r *rig, c *campaign) {
		r.early(0, "attach")
		c.writer(r)
	}, []string{"detach"}, []string{"backup"}, "incremental", ""},
	{
		"adopt", func(r *rig, c *campaign) {
			r.Script(`rm -r /etc/mdclone/* /var/lib/mdclone/*; mdadm --zero-superblock /dev/vdc; mdadm --grow /dev/md0 --raid-devices=2 2>/dev/null`)
			c.writer(r)
		},
		[]string{"adopt", "/dev/md0", "/dev/vdc", "--name", "data", "--overwrite"},
		[]string{"adopt", "/dev/md0", "/dev/vdc", "--name", "data", "--overwrite"},
		"full", `grep -rqs '"first_copy": true' /var/lib/mdclone/ledger && [ -e /sys/block/md0/md/dev-vdc ]`,
	},
}

// campaign is a run of it on one kernel.
type campaign struct {
	random  *rand.Rand
	took    map[string]time.Duration // how long each job takes when it is not cut
	writing *vm.Process
}

const (
	writerAt     = 150 // MiB
	writerBlocks = 64
)

// writer writes through dm on the array, block after block, and prints the number of each write once it is acknowledged.
func (c *campaign) writer(r *rig) {
	r.t.Helper()
	r.Script(`echo "0 $(blockdev --getsz /dev/md0) linear /dev/md0 0" | dmsetup create data`)
	p, err := r.Spawn(r.Context(), vm.Command{Argv: []string{"bash", "-c", fmt.Sprintf(`k=0; while :; do k=$((k + 1))
		printf '%%016d' $k | dd of=/dev/mapper/data bs=4k seek=$((%d * 256 + k %% %d)) conv=sync,notrunc oflag=direct status=none && echo "$k."
		done`, writerAt, writerBlocks)}})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := p.AwaitStdout(r.Context(), "3."); err != nil {
		r.t.Fatal(err)
	}
	c.writing = p
}

// stopWriter ends the writer and takes down what it wrote through.
func (c *campaign) stopWriter(r *rig) {
	r.t.Helper()
	if c.writing == nil {
		return
	}
	r.stopProcess(c.writing)
	c.writing = nil
	r.Script("udevadm settle 2>/dev/null || true; dmsetup remove --retry data")
}

// acknowledged requires that each primary holds, of each block, the last write that was acknowledged, or a later one.
func (c *campaign) acknowledged(r *rig) {
	r.t.Helper()
	if c.writing == nil {
		return
	}
	last := map[int]int{}
	for _, word := range strings.Fields(c.writing.Stdout()) {
		if k, err := strconv.Atoi(strings.TrimSuffix(word, ".")); err == nil && strings.HasSuffix(word, ".") {
			last[k%writerBlocks] = k
		}
	}
	c.writing = nil
	for _, name := range []string{"vda", "vdb"} {
		m := openMember(r.t, r.disk(name))
		for block, want := range last {
			var text [16]byte
			if _, err := m.file.ReadAt(text[:], m.start+writerAt*mib+int64(block)*4096); err != nil {
				r.t.Fatal(err)
			}
			if got, err := strconv.Atoi(string(text[:])); err != nil || got < want || got%writerBlocks != block {
				r.t.Errorf("%s holds write %q in block %d; want %d or a later one, which was acknowledged", name, text, block, want)
			}
		}
		_ = m.file.Close()
	}
}

// measure does a job to its end.
func (c *campaign) measure(r *rig, j job) {
	r.t.Helper()
	j.setUp(r, c)
	start := time.Now()
	r.early(0, j.argv...)
	c.took[j.name] = time.Since(start)
	c.stopWriter(r)
	r.early(0, "detach")
}

// TestPowerCuts is the campaign.
func TestPowerCuts(t *testing.T) {
	seed, cuts := campaignSeed(t), campaignCuts(t)
	eachGuest(t, func(t *testing.T, suite string) {
		r := newLastingRig(t, suite)
		r.adopted()
		c := &campaign{random: rand.New(rand.NewPCG(seed, 0)), took: map[string]time.Duration{}}
		for _, j := range jobs {
			r.write("/dev/md0", 8, 20)
			c.measure(r, j)
		}
		for i := range cuts {
			j := jobs[i%len(jobs)]
			at := time.Duration(c.random.Float64() * float64(c.took[j.name]))
			r.write("/dev/md0", 8, 20+c.random.IntN(60))
			j.setUp(r, c)
			if _, err := r.Spawn(r.Context(), vm.Command{Argv: append([]string{"mdclone-early"}, j.argv...)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(at) // the moment is the choice: any is right
			if err := r.Kill(); err != nil {
				t.Fatal(err)
			}
			c.acknowledged(r)
			r.boot(t)
			r.assemble()
			r.settled()
			r.unchanged()
			j.finishes(r)
			if t.Failed() {
				t.Fatalf("cut %d: %s after %s of %s, seed %d", i, j.name, at, c.took[j.name], seed)
			}
		}
		t.Logf("%d cuts, nothing lost", cuts)
	})
}

// unchanged requires that a cut has left nothing changed, before any command has run. The bitmap's tick lies on the disks: the
// next command puts it back, if what it was is recorded.
func (r *rig) unchanged() {
	r.t.Helper()
	const tick = "bitmap/time_base"
	r.tunables(tick)
	if got := strings.TrimSpace(r.File("/sys/block/md0/md/" + tick)); got != "5" {
		r.Script(`grep -q '"attr":"bitmap/time_base","was":"5"' /var/lib/mdclone/tunables-*.json`)
	}
}

// finishes requires that what was cut is finished by the next run, and that nothing stays changed.
func (j job) finishes(r *rig) {
	r.t.Helper()
	if j.over == "" || r.Try("bash", "-c", j.over).Code != 0 {
		got := r.account(0, j.again...)
		if j.mode != "" && got.Mode != j.mode || got.MismatchedSectors != 0 {
			r.t.Errorf("after the cut: %+v; want it finished, %s", got, j.mode)
		}
	}
	r.early(0, "detach")
	r.equal()
	r.tunables()
}

// TestSignals is the campaign with signals: a run that is interrupted at any moment says so, has the clone out when it ends,
// and has changed nothing for good; one that is killed leaves what the next run puts right.
func TestSignals(t *testing.T) {
	seed, n := campaignSeed(t), (campaignCuts(t)+1)/2
	anySuite(t, func(t *testing.T, suite string) {
		r := newRig(t, suite, 3)
		r.adopted()
		c := &campaign{random: rand.New(rand.NewPCG(seed, 1)), took: map[string]time.Duration{}}
		for _, j := range jobs {
			r.write("/dev/md0", 8, 20)
			c.measure(r, j)
		}
		signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL}
		for i := range n {
			j, signal := jobs[i%len(jobs)], signals[c.random.IntN(len(signals))]
			at := time.Duration(c.random.Float64() * float64(c.took[j.name]))
			r.write("/dev/md0", 8, 20+c.random.IntN(60))
			j.setUp(r, c)
			c.signalled(r, j, signal, at)
			c.stopWriter(r)
			j.finishes(r)
			if t.Failed() {
				t.Fatalf("signal %d: %v to %s after %s of %s, seed %d", i, signal, j.name, at, c.took[j.name], seed)
			}
		}
	})
}

// signalled sends a job a signal after a while, and requires that it ends as it should.
func (c *campaign) signalled(r *rig, j job, signal syscall.Signal, at time.Duration) {
	r.t.Helper()
	run, err := r.Spawn(r.Context(), vm.Command{Argv: append([]string{"mdclone-early", "--json"}, j.argv...)})
	if err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(at)         // the moment is the choice: any is right
	_ = run.Signal(signal) // it may have ended just before
	got, err := run.Wait(r.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	switch {
	case signal == syscall.SIGKILL:
		return
	case got.Signal == signal && got.Stdout+got.Stderr == "": // before its first line was run
	case got.Signal != 0 || got.Code != 0 && got.Code != 130:
		r.t.Errorf("exit code %d (signal %d) after %v; want 0 or 130\nstdout: %s\nstderr: %s", got.Code, got.Signal, signal, got.Stdout, got.Stderr)
	case got.Code == 130 && j.name != "adopt" && read[clone.Result](r, got.Stdout).Attached:
		r.t.Errorf("after %v the clone is in; want it out\nstdout: %s", signal, got.Stdout)
	}
	r.tunables()
}

// settled requires that both primaries are in the array and waits until md has brought them together again.
func (r *rig) settled() {
	r.t.Helper()
	r.Script(`mdadm --wait /dev/md0 || true
		for d in vda vdb; do grep -q in_sync /sys/block/md0/md/dev-$d/state; done; test "$(cat /sys/block/md0/md/sync_action)" = idle`)
}
