// Command agent runs in the guests of the VM tests and does there what the test on the host asks for: it runs commands,
// carries files and tells when disks come and go, over the virtio-serial port that package wire names.
//
// As process 1 (the /init of a bare guest) it first mounts the kernel's file systems and loads the modules listed in
// /mods/order; then a second process of the same program serves, and process 1 reaps. In a full machine it is a service.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Getpid(), os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "agent: %v\n", err)
		os.Exit(1)
	}
}

func run(pid int, args []string, log io.Writer) error {
	switch {
	case pid == 1:
		return bringUp(log)
	case len(args) == 0:
		return serve(log)
	}
	return fmt.Errorf("unexpected argument %q: the agent takes none", args[0])
}
