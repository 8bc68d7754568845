package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wxproxy/config"
)

// usageError is a command line that makes no sense: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// wantCommand refuses what is not the name of a command.
func wantCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	if names := root.SuggestionsFor(args[0]); len(names) > 0 {
		text += fmt.Sprintf(": did you mean %s?", names[0])
	}
	return usageError{errors.New(text)}
}

// wantArgs refuses another number of arguments.
func wantArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		_, want, _ := strings.Cut(cmd.Use, " ")
		if want == "" {
			want = "no arguments"
		}
		return usageError{fmt.Errorf("%s: %d arguments: want %s", cmd.CommandPath(), len(args), want)}
	}
}

// flagError says what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		lacks   *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	text := err.Error()
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		text = "unknown flag --" + unknown.GetSpecifiedName()
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		if name := config.Closest(unknown.GetSpecifiedName(), known); name != "" {
			text += ": did you mean --" + name + "?"
		}
	case errors.As(err, &unknown):
		text = "unknown flag -" + unknown.GetSpecifiedName()
	case errors.As(err, &lacks):
		text = "flag --" + lacks.GetFlag().Name + ": want a value"
	case errors.As(err, &invalid):
		text = fmt.Sprintf("flag --%s: %q: want a %s", invalid.GetFlag().Name, invalid.GetValue(), invalid.GetFlag().Value.Type())
	}
	return usageError{fmt.Errorf("%s: %s", cmd.CommandPath(), text)}
}
