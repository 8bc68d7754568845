// Command wxproxy is a gateway in front of api.weixin.qq.com: it counts the calls of WeChat
// accounts against their quotas, injects the access_token, and refuses calls over budget itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // midnight is Asia/Shanghai's, with or without a zone database on the machine

	"github.com/spf13/cobra"

	"wxproxy/admin"
	"wxproxy/config"
	"wxproxy/internal/words"
)

// Set by the linker. Without a revision it is the one that the build itself has noted.
var (
	version  = "dev"
	revision = ""
)

// build is this program.
func build() admin.Build {
	b := admin.Build{Version: version, Revision: revision}
	if info, ok := debug.ReadBuildInfo(); ok && b.Revision == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	return b
}

func main() {
	// Nothing here logs with package log but net/http, of bytes that a server sends unasked, and it quotes
	// them: they may be an answer with a token.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code: 0, 1 for what went wrong, 2 for a
// command line that makes no sense, 3 for warnings of doctor, 130 for a report that was interrupted. It returns once ctx
// is done and all is closed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	l, err := languageOf(args, os.Getenv)
	if err == nil {
		root := rootCommand(l)
		root.SetArgs(args)
		root.SetOut(stdout)
		root.SetErr(stderr)
		err = root.ExecuteContext(ctx)
	}
	var found foundError
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(usageError)):
		fmt.Fprintf(stderr, "%s\n%s\n", l.Text(words.ErrorLine, "error", err), l.Text(words.HelpHint))
		return 2
	case errors.As(err, new(interruptedError)):
		fmt.Fprintln(stderr, l.Text(words.ErrorLine, "error", err))
		return 130
	case errors.As(err, &found): // doctor's own
		fmt.Fprintln(stderr, l.Text(words.ErrorLine, "error", found.error))
		return found.code
	case errors.As(err, new(config.Faults)): // each line begins with its file, as editors like it
		fmt.Fprintln(stderr, l.Error(err))
		return 1
	default:
		fmt.Fprintln(stderr, l.Text(words.ErrorLine, "error", err))
		return 1
	}
}

func rootCommand(l words.Language) *cobra.Command {
	serve := serveCommand(l)
	root := &cobra.Command{
		Use:   "wxproxy",
		Short: l.Text(words.RootShort),
		Long:  l.Text(words.RootLong),
		Args:  wantCommand,
		RunE:  serve.RunE,

		SilenceUsage:  true,
		SilenceErrors: true,

		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.PersistentFlags().String("config", "", l.Text(words.FlagConfig))
	root.PersistentFlags().String("lang", "", l.Text(words.FlagLang))
	root.PersistentFlags().BoolP("help", "h", false, l.Text(words.FlagHelp))
	root.Flags().AddFlagSet(serve.Flags())
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { printHelp(cmd.OutOrStdout(), l, cmd) })
	root.SetHelpCommand(helpCommand(l))
	root.AddCommand(
		serve, validateCommand(l), explainCommand(l), usageCommand(l), statusCommand(l), historyCommand(l), tailCommand(l), reportCommand(l),
		limitsCommand(l), clearCommand(l), grantCommand(l), forgetCommand(l), alertCommand(l), doctorCommand(l),
		uiCommand(l), sandboxCommand(l), demoCommand(l), healthcheckCommand(l), versionCommand(l), completionCommand(l),
	)
	return root
}

// loadConfig reads the configuration of a command.
func loadConfig(cmd *cobra.Command) (*config.Config, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	return config.Load(loadOptions(path))
}

func versionCommand(l words.Language) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: l.Text(words.VersionShort),
		Args:  wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "wxproxy %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
