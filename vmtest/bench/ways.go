package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"mdclone/pkg/clone"
)

// way is one way to bring a disk up to date with the array.
type way struct {
	name   string
	disk   string // kernel name of the disk that is brought up to date
	top    string // the device through which the array is changed before; none if it is not
	before string // script; not measured, like after
	do     string // script; this is what is measured
	after  string

	parts func(sample) (clone.Seconds, error) // what the time went into; nil is not known
}

// sample is one measurement.
type sample struct {
	stdout  string
	seconds float64       // from the start of the script to its end, as seen from outside the guest
	parts   clone.Seconds // of it
	dirty   float64       // bytes that the bitmap named before
	written float64       // bytes written to the disk meanwhile, whatever they were
}

// The ways.
var (
	plain = way{
		name: "plain copy of the disk", disk: "vdd",
		do:    "dd if=/dev/md0 of=/dev/vdd bs=1M oflag=direct status=none",
		parts: allSync,
	}
	online = way{
		name: "mdclone, running system", disk: "vdc", top: "/dev/vg0/root",
		before: "vgchange -qay vg0",
		do:     "mdclone-early backup --json",
		after:  "vgchange -qan vg0",
		parts:  account,
	}
	offline = way{
		name: "mdclone, rescue shell", disk: "vdc", top: "/dev/md0",
		do:    "mdclone-early backup --offline --json",
		parts: account,
	}
	// The procedure of the article that describes the trick, to the letter. The clone has left without mdclone then, which
	// mdclone would hold against it the next time, so it is let in once more to leave with mdclone.
	article = way{
		name: "article's procedure", disk: "vdc", top: "/dev/md0",
		do: `
			mdadm --manage /dev/md0 --re-add /dev/vdc
			while [ $(cat /sys/block/md0/md/degraded) -ne 0 ]; do sleep 30; done
			echo true > /sys/block/md0/md/bitmap/can_clear
			sleep $((4 * $(cut -d. -f1 /sys/block/md0/md/bitmap/time_base)))
			mdadm --manage /dev/md0 --set-faulty /dev/vdc --remove /dev/vdc`,
		after: "mdadm --manage /dev/md0 --re-add /dev/vdc; mdclone-early detach",
	}
)

// ways are all of them, in the order of the table and of a round.
var ways = []way{article, plain, online, offline}

// allSync is a way that only copies.
func allSync(s sample) (clone.Seconds, error) { return clone.Seconds{Sync: s.seconds}, nil }

// account is what mdclone says. It compares what it copied, which belongs to the price.
func account(s sample) (clone.Seconds, error) {
	var r clone.Result
	if err := json.Unmarshal([]byte(s.stdout), &r); err != nil {
		return r.Seconds, fmt.Errorf("read mdclone's account: %w: %s", err, s.stdout)
	}
	if r.VerifiedBytes == 0 {
		return r.Seconds, errors.New("mdclone compared nothing: " + s.stdout)
	}
	return r.Seconds, nil
}
