package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/core"
	"github.com/u-root/u-root/pkg/core/cat"
	"github.com/u-root/u-root/pkg/core/chmod"
	"github.com/u-root/u-root/pkg/core/cp"
	"github.com/u-root/u-root/pkg/core/find"
	"github.com/u-root/u-root/pkg/core/ls"
	"github.com/u-root/u-root/pkg/core/mkdir"
	"github.com/u-root/u-root/pkg/core/mv"
	"github.com/u-root/u-root/pkg/core/rm"
	"github.com/u-root/u-root/pkg/core/touch"

	"mdclone/pkg/report"
)

// tool is one of the program's names.
type tool func(s streams, args []string) error

// Parts of the start that are processes of their own.
const (
	prepareName = "prepare"
	loadName    = "load"
	gatherName  = "gather"
	menuName    = "menu"
)

// parts are the names that are not typed.
func parts() map[string]tool {
	return map[string]tool{prepareName: prepare, loadName: loadAtStart, gatherName: gatherAtStart, menuName: showMenu}
}

// tools are the names that are.
func tools() map[string]tool {
	return map[string]tool{
		"assemble": assemble,
		"help":     help,
		"sh":       shell,
		"reboot":   powerTool("reboot"),
		"poweroff": powerTool("poweroff"),

		"cat":   uroot(cat.New),
		"chmod": uroot(chmod.New),
		"cp":    uroot(cp.New),
		"find":  uroot(find.New),
		"ls":    uroot(ls.New),
		"mkdir": uroot(mkdir.New),
		"mv":    uroot(mv.New),
		"rm":    uroot(rm.New),
		"touch": uroot(touch.New),

		"dd":       dd,
		"dmesg":    dmesg,
		"grep":     grep,
		"head":     head,
		"hexdump":  hexdump,
		"insmod":   insmod,
		"kill":     kill,
		"lsblk":    lsblk,
		"lsmod":    lsmod,
		"modprobe": modprobe,
		"mount":    mountTool,
		"ps":       ps,
		"rmmod":    rmmod,
		"sleep":    sleep,
		"sync":     syncTool,
		"tail":     tail,
		"umount":   umount,
		"uname":    uname,
	}
}

// uroot is a command of u-root's.
func uroot(command func() core.Command) tool {
	return func(s streams, args []string) error {
		c := command()
		c.SetIO(s.in, s.out, s.err)
		return c.Run(args...)
	}
}

// usage says how a tool is called.
func usage(text string) error { return report.Fail(report.Usage, "usage", "usage: %s", text) }

// help lists the tools.
func help(s streams, _ []string) error {
	_, err := fmt.Fprintf(s.out, `mdclone-early backup --offline     the clone is made; --verify full compares all of it
mdclone-early status, check, ...   see mdclone-early --help
assemble                           once more, when disks were plugged in since: from the machine's own disks, never a clone
mdadm                              what is typed is done: --assemble --scan takes a clone in, past all checks
tools: %s
`, strings.Join(slices.Sorted(maps.Keys(tools())), " "))
	return err
}
