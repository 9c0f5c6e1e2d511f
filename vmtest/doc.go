// Package vmtest tests mdclone on real kernels, in virtual machines.
//
// The tests have the build tag vmtest. They need the Debian packages qemu-system-x86, qemu-utils, mmdebstrap, kmod,
// e2fsprogs and xz-utils, and root for the full machine; where something is missing they fail, they do not skip:
//
//	go test -tags vmtest -timeout 60m ./vmtest
//
// [Boot] starts a machine that ends with the test; what else there is to it is in package vm, with the environment
// variables that it reads. A test that fails prints the whole console of its machines, and QEMU's command line.
//
// What the tests read from the environment: MDCLONE_SOAK=1 adds the rarer cases, MDCLONE_CUTS is how many power cuts there are on
// each kernel, and twice how many signals, MDCLONE_SEED makes their choices again (a run prints its own).
//
// Emulated processors on a busy host are slow at times. So a wait has an event that ends it, and [Patience] as a bound
// only against waiting for ever; a figure in seconds is never a verdict.
package vmtest
