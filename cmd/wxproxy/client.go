package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wxproxy/internal/reason"
	"wxproxy/internal/words"
)

// healthTimeout bounds the question whether a gateway lives.
const healthTimeout = 10 * time.Second

// clientFor returns a client for a URL or a listen address, and the URL to begin with. An address of
// every interface is asked on this machine.
func clientFor(listen string) (*http.Client, string) {
	transport := &http.Transport{DisableKeepAlives: true} // no proxy: it is this machine, or close by
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		return client, "http://localhost"
	}
	if strings.Contains(listen, "://") {
		return client, listen
	}
	host, port, err := net.SplitHostPort(listen)
	if err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		listen = net.JoinHostPort(host, port)
	}
	return client, "http://" + listen
}

func healthcheckCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "healthcheck",
		SuggestFor: []string{"health", "ping"},
		Short:      l.Text(words.HealthShort),
		Args:       wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			access, _, err := adminAddress(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
			defer cancel()
			client, base := clientFor(access.address)
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/-/healthy", nil)
			if err != nil {
				return err
			}
			response, err := client.Do(r)
			if err != nil {
				return words.New(words.Unhealthy, "reason", errors.New(reason.Of(err)))
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(io.LimitReader(response.Body, 16)); err != nil || response.StatusCode != http.StatusOK || string(body) != "ok" {
				return words.New(words.Unhealthy, "reason", words.New(words.UnhealthyStatus, "status", response.StatusCode))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return err
		},
	}
	addAdmin(cmd, l)
	return cmd
}
