package report

import (
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/jessevdk/go-flags"
)

// Parse runs args through a go-flags parser whose commands implement Execute, and returns what went wrong, which goes to log
// too; help goes to stdout. Commands return an *Error to choose their exit code.
func Parse(parser *flags.Parser, args []string, stdout io.Writer, log Log) error {
	_, err := parser.ParseArgs(args)
	var usage *flags.Error
	if errors.As(err, &usage) {
		if usage.Type == flags.ErrHelp {
			_, err := io.WriteString(stdout, usage.Message)
			return err
		}
		which := parser.Name
		if parser.Active != nil {
			which += " " + parser.Active.Name
		}
		err = Fail(Usage, "usage", "%s", lower(usage.Message)).Hint("see %s --help", which)
	}
	log.Fail(err)
	return err
}

// VersionOption is --version, which prints the version and is done.
type VersionOption struct {
	Version func() error `long:"version" description:"print the version"`
}

// NewVersionOption returns that of a program.
func NewVersionOption(program, version string) VersionOption {
	return VersionOption{func() error { // ErrHelp is what go-flags calls "print this and be done"
		return &flags.Error{Type: flags.ErrHelp, Message: program + " " + version + "\n"}
	}}
}

// WantsJSON tells whether args ask for JSON, also where they cannot be parsed.
func WantsJSON(args []string) bool { return slices.Contains(args, "--json") }

// NoMore refuses surplus arguments, which go-flags hands to Execute.
func NoMore(args []string) error {
	if len(args) == 0 {
		return nil
	}
	return Fail(Usage, "usage", "unexpected argument %q", args[0])
}

func lower(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
