// Package vm builds Debian systems and runs them as virtual machines in QEMU, for tests and the demo.
//
// # Machines
//
// A [Lab] knows two kinds of guest, both of any Debian suite:
//
//   - a bare guest ([Lab.Guest]) is Debian's kernel with mdadm, LVM and the like over busybox, in memory. It is up in
//     seconds, and is what tests of the array and of single commands run in;
//   - a full machine ([Lab.Machine]) is an installed Debian with root on LVM on RAID1, systemd, udev and Debian's own
//     initramfs. It is for what happens at boot. A [Layer] keeps what was done in one for the tests that begin there.
//
// A test runs on the host. It drives the guest through an agent there (package wire says how): it runs commands and
// carries files. No verdict rests on what a console shows, and nothing waits for time to pass: boots, disks and ends of
// commands are awaited as events, with a context as the bound.
//
// Arrays are only made inside guests, so that nothing can happen to the host's. The host's packages come from where the
// host's own apt gets them.
//
// # Files
//
// What is built is kept in the cache: trees of packages, guests, machines, each with a hash of what it is made from, so
// that a change of the recipe makes a new one; the three used last are kept. It can be removed at any time.
//
// # Environment
//
//   - MDCLONE_CACHE: the cache's directory; mdclone in the user's cache directory by default.
//   - MDCLONE_ACCEL: QEMU's -accel; "tcg,thread=multi" by default. KVM is not chosen by itself: that /dev/kvm exists
//     does not say that it works.
package vm
