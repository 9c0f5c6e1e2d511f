package report

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jessevdk/go-flags"
)

// Parse runs args through a go-flags parser whose commands implement Execute, and ends with an exit code: help goes to
// stdout, everything wrong to log. Commands return an *Error to choose their code.
func Parse(parser *flags.Parser, args []string, stdout io.Writer, log Log) Code {
	_, err := parser.ParseArgs(args)
	var usage *flags.Error
	if errors.As(err, &usage) {
		if usage.Type == flags.ErrHelp {
			fmt.Fprint(stdout, usage.Message)
			return Done
		}
		err = Fail(Usage, "usage", "%s", lower(usage.Message)).Hint("see %s --help", parser.Name)
	}
	log.Fail(err)
	return CodeOf(err)
}

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
