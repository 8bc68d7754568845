package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wxproxy/config"
	"wxproxy/internal/words"
)

// usageError is a command line that makes no sense: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// languageOf returns the language that --lang names, or else the environment. It is needed before the
// command line is parsed, because help and errors are in it.
func languageOf(args []string, getenv func(string) string) (words.Language, error) {
	l := words.FromEnv(getenv)
	for i, arg := range args {
		value, found := strings.CutPrefix(arg, "--lang=")
		switch {
		case arg == "--":
			return l, nil
		case arg == "--lang" && i+1 < len(args):
			value = args[i+1]
		case !found:
			continue
		}
		chosen, ok := words.Parse(value)
		if !ok {
			return l, usageError{words.New(words.WrongLanguage, "value", strconv.Quote(value))}
		}
		l = chosen
	}
	return l, nil
}

// wantCommand refuses what is not the name of a command.
func wantCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := words.New(words.UnknownCommand, "name", strconv.Quote(args[0]))
	if names := root.SuggestionsFor(args[0]); len(names) > 0 {
		err = words.New(words.DidYouMean, "error", err, "name", names[0])
	}
	return usageError{err}
}

// wantArgs refuses another number of arguments.
func wantArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		var want any = words.NoArguments
		if _, names, ok := strings.Cut(cmd.Use, " "); ok {
			want = names
		}
		return usageError{words.New(words.WrongArguments, "command", cmd.CommandPath(), "got", len(args), "want", want)}
	}
}

// flagError says what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		lacks   *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
		syntax  *pflag.InvalidSyntaxError
	)
	command := cmd.CommandPath()
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		err = words.New(words.UnknownFlag, "command", command, "flag", "-"+unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		err = words.New(words.UnknownFlag, "command", command, "flag", "--"+unknown.GetSpecifiedName())
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		if name := config.Closest(unknown.GetSpecifiedName(), known); name != "" {
			err = words.New(words.DidYouMean, "error", err, "name", "--"+name)
		}
	case errors.As(err, &lacks):
		err = words.New(words.FlagWithoutValue, "command", command, "flag", "--"+lacks.GetFlag().Name)
	case errors.As(err, &invalid):
		var want any = invalid.GetFlag().Value.Type()
		if want == "bool" {
			want = words.FlagTypeBool
		}
		err = words.New(words.FlagInvalid, "command", command, "flag", "--"+invalid.GetFlag().Name, "value", strconv.Quote(invalid.GetValue()), "type", want)
	case errors.As(err, &syntax):
		err = words.New(words.FlagSyntax, "command", command, "flag", syntax.GetSpecifiedFlag())
	}
	return usageError{err}
}

// printHelp prints the help of a command.
func printHelp(w io.Writer, l words.Language, cmd *cobra.Command) {
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	fmt.Fprintf(w, "%s\n\n%s\n  %s", text, l.Text(words.HelpUsage), cmd.CommandPath())
	if cmd.HasSubCommands() {
		fmt.Fprint(w, " "+l.Text(words.HelpCommand))
	}
	if _, args, ok := strings.Cut(cmd.Use, " "); ok {
		fmt.Fprint(w, " "+args)
	}
	fmt.Fprintln(w, " "+l.Text(words.HelpLine))
	if cmd.Example != "" {
		fmt.Fprintf(w, "\n%s\n%s\n", l.Text(words.HelpExamples), cmd.Example)
	}
	if cmd.HasSubCommands() {
		fmt.Fprintf(w, "\n%s\n", l.Text(words.HelpCommands))
		var rows [][]string
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() || c.Name() == "help" {
				rows = append(rows, []string{"  " + c.Name(), c.Short})
			}
		}
		printTable(w, rows)
	}
	fmt.Fprintf(w, "\n%s\n", l.Text(words.HelpFlags))
	var rows [][]string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { rows = append(rows, flagRow(l, f)) })
	printTable(w, rows)
	if cmd.HasSubCommands() {
		fmt.Fprintf(w, "\n%s\n\n%s\n", l.Text(words.HelpExit), l.Text(words.HelpMore))
	}
}

// flagRow is a flag with its meaning.
func flagRow(l words.Language, f *pflag.Flag) []string {
	value, usage := pflag.UnquoteUsage(f)
	name := "      --" + f.Name
	if f.Shorthand != "" {
		name = "  -" + f.Shorthand + ", --" + f.Name
	}
	if value != "" {
		name += " " + value
	}
	if none := []string{"", "[]", "0"}; !slices.Contains(none, f.DefValue) && f.Value.Type() != "bool" {
		usage = l.Text(words.HelpDefault, "usage", usage, "value", f.DefValue)
	}
	return []string{name, usage}
}

func helpCommand(l words.Language) *cobra.Command {
	return &cobra.Command{
		Use:   "help " + l.Text(words.HelpCommand),
		Short: l.Text(words.HelpShort),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			found, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return wantCommand(root, args)
			}
			return found.Help()
		},
	}
}

func completionCommand(l words.Language) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     l.Text(words.CompletionShort),
		Long:      l.Text(words.CompletionLong),
		Example:   "  source <(wxproxy completion bash)",
		Args:      wantArgs(1, 1),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usageError{words.New(words.UnknownShell, "name", strconv.Quote(args[0]))}
		},
	}
}
