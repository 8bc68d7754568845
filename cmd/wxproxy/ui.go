package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wxproxy/admin"
	"wxproxy/internal/words"
)

func uiCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "ui",
		SuggestFor: []string{"页面", "dashboard", "web", "open"},
		Short:      l.Text(words.UIShort),
		Long:       l.Text(words.UILong),
		Args:       wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := pageAddress(cmd)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), address)
			only, err := cmd.Flags().GetBool("print")
			if err != nil || only {
				return err
			}
			if opener := browserCommand(); opener != nil && launch(cmd.Context(), append(opener, address)) == nil {
				return nil
			}
			fmt.Fprintln(cmd.ErrOrStderr(), l.Text(words.UIByHand))
			return nil
		},
	}
	cmd.Flags().Bool("print", false, l.Text(words.UIPrint))
	addAccess(cmd, l)
	return cmd
}

// pageAddress is that of the pages with a one-time code behind #, where no server and no log sees it.
func pageAddress(cmd *cobra.Command) (string, error) {
	access, err := accessOf(cmd)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(access.address, "unix:") {
		return "", words.New(words.UIUnix, "address", access.address)
	}
	var issued admin.SessionCode
	if err := operate(cmd, http.MethodPost, "/api/v1/session/code", nil, &issued); err != nil {
		return "", err
	}
	_, base := clientFor(access.address)
	return base + "/#code=" + issued.Code, nil
}

// browserCommand is what opens an address in the browser of the person at this terminal, or nil where there is none.
func browserCommand() []string {
	switch runtime.GOOS {
	case "darwin":
		return []string{"open"}
	case "windows":
		return []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return nil
	}
	return []string{"xdg-open"}
}

// launch runs the command and gives it some seconds to fail. It may stay as long as the browser does.
func launch(ctx context.Context, command []string) error {
	const patience = 2 * time.Second
	cmd := exec.CommandContext(context.WithoutCancel(ctx), command[0], command[1:]...) //nolint:gosec // one of browserCommand
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
	case <-ctx.Done():
	}
	return nil
}
