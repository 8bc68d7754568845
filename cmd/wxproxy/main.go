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
	"syscall"
	_ "time/tzdata" // midnight is Asia/Shanghai's, with or without a zone database on the machine

	"github.com/spf13/cobra"

	"wxproxy/config"
)

// version is set by the linker.
var version = "dev"

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
// command line that makes no sense. It returns once ctx is done and all is closed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(usageError)):
		fmt.Fprintf(stderr, "wxproxy: %v\nRun 'wxproxy --help' for usage.\n", err)
		return 2
	case errors.As(err, new(config.Faults)): // each line begins with its file, as editors like it
		fmt.Fprintln(stderr, err)
		return 1
	default:
		fmt.Fprintf(stderr, "wxproxy: %v\n", err)
		return 1
	}
}

func rootCommand() *cobra.Command {
	serve := serveCommand()
	root := &cobra.Command{
		Use:   "wxproxy",
		Short: "A gateway in front of api.weixin.qq.com that keeps WeChat's quotas",
		Long: `wxproxy stands between your services and api.weixin.qq.com. It counts every call
against the quota of its account and API, injects the account's access_token, and
answers calls over budget itself with WeChat's own 45009.

With no command it serves, as "wxproxy serve" does.`,
		Args:          wantCommand,
		RunE:          serve.RunE,
		SilenceUsage:  true,
		SilenceErrors: true,

		SuggestionsMinimumDistance: 2,
	}
	root.PersistentFlags().String("config", "", "configuration file (default: ./wxproxy.yaml if it is there)")
	root.Flags().AddFlagSet(serve.Flags())
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		serve, validateCommand(), explainCommand(), usageCommand(), limitsCommand(), clearCommand(), forgetCommand(), sandboxCommand(), demoCommand(), healthcheckCommand(), versionCommand(),
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

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "wxproxy %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
