package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/sandbox"
)

// demoConfig is the whole configuration of the demo.
const demoConfig = `listen: "%s"
admin: {listen: "%s"}
upstream: {url: %q}
store: {url: %q}
fuse: on
apps:
  - {name: demo, appid: %s, secret: %s, profile: demo}
callers:
  - {name: crm, key: %s, apps: [demo]}
  - {name: campaign, key: %s, apps: [demo]}
  - {name: reporter, key: %s, apps: [demo]}
access_log: {file: %q, max_size_mb: 10, keep: 1}
`

// demoTable has quotas that are small, so that a few calls use them up.
const demoTable = `version: 1
timezone: Asia/Shanghai
profiles:
  demo:
    extends: production
    rules:
      - {name: menu.create, quota: 2/day}
      - {name: user.info, quota: 5000/day}
      - {name: user.get, quota: 500/day}
      - {name: message.template.send, quota: 1000/day, shares: {campaign: 5/day}}
      - {name: message.mass.send, quota: 3/day}
`

// The addresses of the demo; a busy one gives way to a free port.
const (
	demoListen  = "127.0.0.1:8080"
	demoAdmin   = "127.0.0.1:8081"
	demoSandbox = "127.0.0.1:9000"
	demoFree    = "127.0.0.1:0"
)

const (
	demoLoop = 6 * time.Second // in place of fuse.Period: a demo has no minutes to wait
	demoCode = 24 * time.Hour  // a code for the pages of a made-up account is good as long as the demo runs
)

func demoCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "demo",
		SuggestFor: []string{"演示"},
		Short:      l.Text(words.DemoShort),
		Long:       l.Text(words.DemoLong),
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
	signal.Ignore(syscall.SIGPIPE) // a reader that has gone must not keep the files from being removed
	if !signal.Ignored(syscall.SIGHUP) {
		var stop func()
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP) // the terminal was closed
		defer stop()
	}
	folder, err := os.MkdirTemp("", "wxproxy-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()

	busy := func(address, instead string) {
		fmt.Fprintln(stderr, l.Text(words.DemoBusy, "address", address, "instead", strings.TrimPrefix(instead, "http://")))
	}
	main, err := listenNear(ctx, demoListen, busy)
	if err != nil {
		return err
	}
	defer main.Close()
	admin, err := listenNear(ctx, demoAdmin, busy)
	if err != nil {
		return err
	}
	defer admin.Close()
	wechat, err := sandbox.Listen(demoSandbox, sandbox.Options{})
	if err != nil {
		if wechat, err = sandbox.Listen(demoFree, sandbox.Options{}); err != nil {
			return err
		}
		busy(demoSandbox, wechat.URL)
	}
	defer func() { err = errors.Join(err, wechat.Close()) }()

	d := &demoRun{
		l: l, out: stdout, folder: folder, wechat: wechat, keys: make(map[string]string),
		gateway: "http://" + main.Addr().String(), admin: "http://" + admin.Addr().String(),
	}
	for _, name := range []string{demoCRM, demoCampaign, demoReporter} {
		d.keys[name] = rand.Text()
	}
	file := d.config()
	text := fmt.Sprintf(demoConfig, main.Addr(), admin.Addr(), wechat.URL, "file:"+filepath.Join(folder, "wxproxy.db"),
		sandbox.DefaultAppID, sandbox.DefaultSecret, d.keys[demoCRM], d.keys[demoCampaign], d.keys[demoReporter], filepath.Join(folder, "access.log"))
	err = errors.Join(os.WriteFile(file, []byte(text), 0o600), os.WriteFile(filepath.Join(folder, config.LimitsFile), []byte(demoTable), 0o600))
	if err != nil {
		return err
	}
	load := loadOptions(file)
	load.Env = func(string) (string, bool) { return "", false } // nothing of this machine's environment
	c, err := config.Load(load)
	if err != nil {
		return err
	}

	quotas, err := dayQuotas(c.Table, "demo")
	if err != nil {
		return err
	}
	for path, n := range quotas { // those of the stand-in too
		wechat.SetQuota("", path, n)
	}
	d.userGets = quotas[userGet]

	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // the services end before the gateway
	defer stop()
	started := make(chan struct{})
	stopped := make(chan error, 1)
	go func() {
		// The calls are what is to be seen.
		log := newLog(stderr).WithOptions(zap.IncreaseLevel(zap.ErrorLevel))
		stopped <- serveConfig(running, serving{
			load: load, stdout: stdout, log: log, loopTime: demoLoop, codeLife: demoCode,
			main: main, admin: admin, started: func(net.Addr, net.Addr) { close(started) },
		}, c)
	}()
	select {
	case <-started:
	case err := <-stopped:
		return err
	}
	if once {
		t := tour{l: l, gateway: d.gateway, wechat: wechat.URL, out: stdout}
		err = t.walk(ctx)
	} else if d.token, err = adminTokenOf(c); err == nil {
		err = d.show(ctx)
	}
	stop()
	return errors.Join(err, <-stopped)
}

// adminTokenOf reads the admin token that the gateway of a configuration has written.
func adminTokenOf(c *config.Config) (string, error) {
	path, err := adminTokenPath(c.Admin.Listen, c.Store.URL)
	if err != nil {
		return "", err
	}
	return readTokenFile(path)
}

// listenNear listens on an address, or if it is in use on a free port, which busy is told.
func listenNear(ctx context.Context, address string, busy func(address, instead string)) (net.Listener, error) {
	l, err := listen(ctx, address, 0)
	if err != nil {
		if l, err = listen(ctx, demoFree, 0); err != nil {
			return nil, err
		}
		busy(address, l.Addr().String())
	}
	return l, nil
}
