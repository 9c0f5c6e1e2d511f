package clone

import (
	"fmt"
	"strings"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// losesMarks is what to know of the running kernel where a clone is away; "" for most.
func losesMarks() string {
	release, err := md.Release()
	if err != nil || !md.LosesMarks(release) {
		return ""
	}
	return fmt.Sprintf("Linux %s may have lost marks of the bitmap while a clone was away (5.12 to 5.15 do, but for stable releases with the fix): "+
		"--verify full finds what was not copied", release)
}

// notRunning says that a configured array is not assembled and, where its members tell, why this kernel cannot do it.
func (e *Env) notRunning(c config.Array) error {
	release, err := md.Release()
	if err != nil {
		return err
	}
	found, _, err := e.scanner().Scan()
	if err != nil {
		return err
	}
	if why := md.TooNewFor(release, c.UUID, found); why != "" {
		return report.Fail(report.Refused, "kernel-too-old", "array %s (%s) cannot be assembled by %s", c.Name, c.UUID, why).
			Hint("boot a rescue system with a kernel as new as the machine's own")
	}
	failed := report.Fail(report.Failed, "not-assembled", "array %s (%s) is not assembled", c.Name, c.UUID)
	if e.EarlyBoot() { // where mdadm would take a clone in
		return failed.Hint("look at /proc/mdstat for what is missing; in a rescue image: assemble")
	}
	return failed.Hint("%s", howToAssemble(c, found))
}

// howToAssemble names the array's own disks: mdadm --assemble --scan may take a clone in, one that ran alone before all. A clone
// that is not in this configuration is write-mostly, as adopt makes it.
func howToAssemble(c config.Array, found []md.Found) string {
	var own []string
	for _, f := range found {
		if f.Member.Super.Array == c.UUID && !f.Member.Super.WriteMostly && !c.HasClone(f.Member.Super.Device) {
			own = append(own, f.Path)
		}
	}
	if len(own) == 0 {
		return "none of its own disks is here"
	}
	return fmt.Sprintf("if these are all of its own disks: mdadm --assemble --run /dev/md/%s %s", c.Name, strings.Join(own, " "))
}
