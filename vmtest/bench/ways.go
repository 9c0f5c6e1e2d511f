package main

import "mdclone/pkg/clone"

// way is one way to bring a disk up to date with the array.
type way struct {
	name   string
	disk   string // kernel name of the disk that is brought up to date
	top    string // the device that is written to before
	before string // script; not measured, like after
	do     string // script; this is what is measured
	after  string

	account bool // it prints mdclone's JSON
}

// The ways, in the order of the table and of a round.
var (
	plain   = way{name: "plain copy of the disk", disk: "vdd", do: "dd if=/dev/md0 of=/dev/vdd bs=1M oflag=direct status=none"}
	offline = way{name: "mdclone, rescue shell", disk: "vdc", top: "/dev/md0", do: "mdclone-early backup --offline --json", account: true}
	online  = way{
		name: "mdclone, running system", disk: "vdc", top: "/dev/mapper/root",
		before: `dmsetup create root --table "0 $(blockdev --getsz /dev/md0) linear /dev/md0 0"`,
		do:     "mdclone-early backup --json",
		after:  "dmsetup remove root", account: true,
	}
	// The procedure of the article that describes the trick, to the letter. A clone that left without mdclone is refused or
	// compared as a whole the next time, so it is let in once more, to leave with it.
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
	ways = []way{article, plain, online, offline}
)

// sample is one measurement.
type sample struct {
	seconds float64       // from the start of the command to its end, as seen from outside the guest
	parts   clone.Seconds // of it, as mdclone says; zero for what is not mdclone
	dirty   float64       // bytes that the bitmap named before
	written float64       // bytes written to the disk meanwhile, whatever they were
}
