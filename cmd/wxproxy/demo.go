package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/sandbox"
)

// demoConfig is the whole configuration of the demo. The quota is small, so that a few calls use
// it up.
const demoConfig = `listen: %s
admin:
  listen: %s
upstream:
  url: %s
store:
  url: file:%s
apps:
  - name: demo
    appid: %s
    secret: %s
    quotas: {menu.create: 2/day}
access_log: {file: %s}
`

// The addresses of the demo; a busy one gives way to a free port.
const (
	demoListen  = "127.0.0.1:8080"
	demoAdmin   = "127.0.0.1:8081"
	demoSandbox = "127.0.0.1:9000"
)

func demoCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "demo",
		SuggestFor: []string{"演示"},
		Short:      l.Text(words.DemoShort),
		Args:       wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			once, err := cmd.Flags().GetBool("once")
			if err != nil {
				return err
			}
			return demo(cmd.Context(), l, cmd.OutOrStdout(), cmd.ErrOrStderr(), once)
		},
	}
	cmd.Flags().Bool("once", false, l.Text(words.DemoOnce))
	return cmd
}

func demo(ctx context.Context, l words.Language, stdout, stderr io.Writer, once bool) (err error) {
	folder, err := os.MkdirTemp("", "wxproxy-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()

	wechat, err := sandbox.Listen(freeOr(ctx, demoSandbox), sandbox.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, wechat.Close()) }()

	file := filepath.Join(folder, "wxproxy.yaml")
	text := fmt.Sprintf(demoConfig, freeOr(ctx, demoListen), freeOr(ctx, demoAdmin), wechat.URL,
		filepath.Join(folder, "wxproxy.db"), sandbox.DefaultAppID, sandbox.DefaultSecret, filepath.Join(folder, "access.log"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	load := loadOptions(file)
	load.Env = func(string) (string, bool) { return "", false } // nothing of this machine's environment
	c, err := config.Load(load)
	if err != nil {
		return err
	}

	running, stop := context.WithCancel(ctx)
	defer stop()
	type addresses struct{ main, admin net.Addr }
	started := make(chan addresses, 1)
	stopped := make(chan error, 1)
	go func() {
		log := newLog(stderr)
		if once { // the calls are what is to be seen
			log = log.WithOptions(zap.IncreaseLevel(zap.WarnLevel))
		}
		stopped <- serveConfig(running, serving{
			load: load, stdout: stdout, log: log,
			started: func(main, admin net.Addr) { started <- addresses{main, admin} },
		}, c)
	}()
	var at addresses
	select {
	case at = <-started:
	case err := <-stopped:
		return err
	}
	t := tour{l: l, gateway: "http://" + at.main.String(), admin: "http://" + at.admin.String(), wechat: wechat.URL, out: stdout}
	if once {
		err := t.walk(ctx)
		stop()
		return errors.Join(err, <-stopped)
	}
	t.print(file, filepath.Join(folder, "access.log"))
	return <-stopped
}

// freeOr returns an address if it is free, else the same host with any free port.
func freeOr(ctx context.Context, address string) string {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		host, _, _ := net.SplitHostPort(address) // a constant
		if l, err = lc.Listen(ctx, "tcp", host+":0"); err != nil {
			return address
		}
	}
	free := l.Addr().String()
	_ = l.Close() // it was only asked for its port
	return free
}

// tour shows a call being sent, the token being injected, and a call being refused.
type tour struct {
	l                      words.Language
	gateway, admin, wechat string
	out                    io.Writer
}

// stop is one call of the tour.
type stop struct {
	title words.Message
	body  string // of a POST; "" is a GET
	url   string
	want  string // what its answer contains
}

func (t *tour) stops() []stop {
	menu := `{"button":[{"type":"click","name":"demo","key":"demo"}]}`
	return []stop{
		{words.DemoDirect, "", t.wechat + "/cgi-bin/get_api_domain_ip", `"errcode":41001`},
		{words.DemoInjected, "", t.gateway + "/cgi-bin/get_api_domain_ip", `"ip_list"`},
		{words.DemoFirst, menu, t.gateway + "/cgi-bin/menu/create", `"errcode":0`},
		{words.DemoSecond, menu, t.gateway + "/cgi-bin/menu/create?access_token=SOME_OLD_TOKEN", `"errcode":0`},
		{words.DemoRefused, menu, t.gateway + "/cgi-bin/menu/create", `{"errcode":45009,"errmsg":"api freq out of limit"}`},
		{words.DemoExecuted, "", t.wechat + "/-/sandbox/state", `"/cgi-bin/menu/create":2`},
	}
}

func (s stop) curl() string {
	if s.body == "" {
		return fmt.Sprintf("curl -i '%s'", s.url)
	}
	return fmt.Sprintf("curl -i '%s' -d '%s'", s.url, s.body)
}

func (t *tour) print(config, accessLog string) {
	fmt.Fprintf(t.out, "\n%s\n", t.l.Text(words.DemoStarted, "gateway", t.gateway, "wechat", t.wechat))
	for _, s := range t.stops() {
		fmt.Fprintf(t.out, "\n# %s\n%s\n", t.l.Text(s.title), s.curl())
	}
	fmt.Fprintf(t.out, `
# %s
tail -f %s

# %s
go run ./cmd/wxproxy usage --config %s
curl %s/metrics

%s
`, t.l.Text(words.DemoAccessLog), accessLog, t.l.Text(words.DemoUsage), config, t.admin, t.l.Text(words.DemoEnd))
}

// walk makes the calls, prints them with their answers, and returns an error for the first answer
// that is not what it should be.
func (t *tour) walk(ctx context.Context) error {
	for _, s := range t.stops() {
		fmt.Fprintf(t.out, "\n# %s\n%s\n", t.l.Text(s.title), s.curl())
		method, body := http.MethodGet, io.Reader(nil)
		if s.body != "" {
			method, body = http.MethodPost, strings.NewReader(s.body)
		}
		r, err := http.NewRequestWithContext(ctx, method, s.url, body)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%s %s\n", response.Proto, response.Status)
		for _, name := range []string{"Content-Type", "X-Wxproxy-Decision", "X-Wxproxy-Reason", "X-Wxproxy-Rule", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"} {
			if value := response.Header.Get(name); value != "" {
				fmt.Fprintf(t.out, "%s: %s\n", name, value)
			}
		}
		fmt.Fprintf(t.out, "\n%s\n", answer)
		if !strings.Contains(compact(answer), s.want) {
			return words.New(words.DemoUnexpected, "url", s.url, "want", s.want)
		}
	}
	return nil
}

// compact takes the blanks out of an answer.
func compact(answer []byte) string {
	return string(bytes.Join(bytes.Fields(bytes.ReplaceAll(answer, []byte(`": `), []byte(`":`))), []byte(" ")))
}
