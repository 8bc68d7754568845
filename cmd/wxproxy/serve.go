package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"wxproxy/admin"
	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/proxy"
)

// errNoApps says what to do first.
var errNoApps = words.New(words.NoApps)

func serveCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "serve",
		SuggestFor: []string{"启动", "start", "run"},
		Short:      l.Text(words.ServeShort),
		Args:       wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := cmd.Flags().GetString("config")
			if err != nil {
				return err
			}
			load := loadOptions(path)
			if load.Listen, err = cmd.Flags().GetString("listen"); err != nil {
				return err
			}
			return serve(cmd.Context(), load, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().String("listen", "", l.Text(words.FlagListen))
	return cmd
}

// newLog returns the program's own log: JSON lines.
func newLog(w io.Writer) *zap.Logger {
	encoder := zap.NewProductionEncoderConfig()
	encoder.TimeKey, encoder.EncodeTime = "time", zapcore.RFC3339TimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoder), zapcore.Lock(zapcore.AddSync(w)), zap.InfoLevel))
}

// redisLog logs what the Redis client would print, at debug level: that the store is unavailable is logged
// once, elsewhere, and not at each failed dial.
type redisLog struct{ log *zap.Logger }

func (l redisLog) Printf(_ context.Context, format string, v ...any) {
	l.log.Debug("redis client", zap.String("text", fmt.Sprintf(format, v...)))
}

// The live heap is small, a few megabytes: collections that are rare save about a tenth of the CPU. With
// thousands of accounts it is large, and must not be multiplied: so the collector has its usual 100 %,
// and a ballast that keeps it from starting early. The limit has it work harder before a small machine
// is in trouble. GOGC and GOMEMLIMIT in the environment win.
const (
	memoryLimit  = 1 << 30
	ballastBytes = 56 << 20
)

// tuneCollector sets the collector. The ballast that it returns is never touched, so that it takes no
// memory; but as long as it is kept the collector counts it as live.
func tuneCollector() (ballast []byte) {
	if os.Getenv("GOGC") == "" {
		ballast = make([]byte, ballastBytes)
		if os.Getenv("GOMEMLIMIT") == "" {
			debug.SetMemoryLimit(memoryLimit)
		}
	}
	return ballast
}

// logPatience is how long the last lines of the program's own log may take.
const logPatience = time.Second

// serve runs the gateway until ctx is done.
func serve(ctx context.Context, load config.LoadOptions, stdout, stderr io.Writer) error {
	c, err := config.Load(load)
	if err != nil {
		return err
	}
	if len(c.Apps) == 0 && !learns(c) {
		return errNoApps
	}
	defer runtime.KeepAlive(tuneCollector())
	// A pipe that is no longer read must end neither the process nor a call.
	signal.Ignore(syscall.SIGPIPE)
	lines := proxy.NewLineWriter(stderr, nil)
	defer lines.Close(logPatience)
	log := newLog(lines)
	if len(c.Apps) == 0 {
		folder, err := filepath.Abs(filepath.Dir(c.AutoFile))
		if err != nil {
			folder = err.Error()
		}
		log.Warn("NO APP IS CONFIGURED: apps are learned from their own token requests, which go to WeChat; to configure one, write wxproxy.yaml or set WX_APPID and WX_SECRET",
			zap.Strings("files", c.Paths), zap.String("folder", folder))
	}
	return serveConfig(ctx, serving{load: load, stdout: stdout, log: log}, c)
}

// serving is what serveConfig needs beside a configuration.
type serving struct {
	load    config.LoadOptions
	stdout  io.Writer
	log     *zap.Logger
	started func(main, admin net.Addr) // called with the addresses of both listeners once they listen; may be nil

	main, admin net.Listener // listen already, and are closed at the end; nil: as the configuration says

	stall time.Duration // default writeStall
	grace time.Duration // default shutdownGrace

	loopTime time.Duration // see proxy.Options
	codeLife time.Duration // see admin.Options
}

// serveConfig runs the gateway of a configuration until ctx is done.
func serveConfig(ctx context.Context, o serving, c *config.Config) error {
	log := o.log
	redis.SetLogger(redisLog{log})
	var err error
	mainListener := o.main
	if mainListener == nil {
		if mainListener, err = listen(ctx, c.Listen, c.ListenMode); err != nil {
			return err
		}
	}
	defer mainListener.Close()
	cert, err := loadCertificate(c.TLS)
	if err != nil {
		return err
	}
	adminListener := o.admin
	if adminListener == nil {
		if adminListener, err = listen(ctx, c.Admin.Listen, 0); err != nil {
			return fmt.Errorf("admin: %w", err)
		}
	}
	defer adminListener.Close()
	adminToken, err := prepareAdminToken(c)
	if err != nil {
		return err
	}
	g, err := openGateway(ctx, o, c, adminToken, mainListener.Addr(), adminListener.Addr())
	if err != nil {
		return err
	}
	g.certificate = cert
	g.metrics.Watch(g.process())

	guard := func(l net.Listener) net.Listener {
		return &listener{Listener: l, stall: cmp.Or(o.stall, writeStall), failed: g.acceptFailed}
	}
	mainGuarded, adminGuarded := guard(mainListener), guard(adminListener)
	if cert != nil {
		mainGuarded = tls.NewListener(mainGuarded, cert.config())
	}
	calls, endCalls := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endCalls(nil)
	server, adminServer := newServer(calls, g.front(), log), newServer(calls, recovering(g.admin, g.seldom, g.metrics.Panic), log)
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, failed := errgroup.WithContext(work)
	adminServer.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return admin.WithConn(connContext(ctx, c), c) }
	serveOn := func(server *http.Server, l net.Listener) {
		group.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("%s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	serveOn(server, mainGuarded)
	serveOn(adminServer, adminGuarded)
	group.Go(func() error { g.watch(work); return nil })
	group.Go(func() error { g.auditor.Run(work); return nil })
	group.Go(func() error { g.history.Run(work); return nil })
	group.Go(func() error { g.alerts.Run(work); return nil })
	group.Go(func() error { g.reloadOnSignal(work); return nil })
	log.Info("listening", zap.String("version", version), zap.Stringer("address", mainListener.Addr()), zap.Stringer("admin", adminListener.Addr()),
		zap.String("upstream", c.Upstream.URL.String()), zap.Int("apps", len(c.Apps)), zap.Strings("files", c.Paths))
	if o.started != nil {
		o.started(mainListener.Addr(), adminListener.Addr())
	}

	select {
	case <-ctx.Done():
	case <-failed.Done(): // a listener broke
	}
	grace := cmp.Or(o.grace, shutdownGrace)
	again, release := signal.NotifyContext(context.WithoutCancel(ctx), os.Interrupt, syscall.SIGTERM)
	defer release()
	g.stopping.Store(true)
	delay := g.config.Load().ShutdownDelay
	log.Info("stopping: waiting for calls in flight", zap.Duration("shutdown_delay", delay), zap.Duration("timeout", grace))
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-again.Done():
		case <-failed.Done():
		}
	}
	g.tail.Close()
	last, done := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer done()
	errs := []error{drain(again, server, grace-2*lastAnswers, log, endCalls)}
	cancel()
	if err := atMost(last, lastAnswers/2, func(context.Context) error {
		return errors.Join(server.Close(), adminServer.Close(), group.Wait())
	}); ended(err) {
		log.Warn("connections were not closed in time")
	} else {
		errs = append(errs, err)
	}
	errs = append(errs, atMost(last, grace, g.close))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	log.Info("stopped")
	return nil
}

// listen listens on host:port or unix:/path. mode is that of the socket; 0: as the umask has it.
func listen(ctx context.Context, address string, mode fs.FileMode) (net.Listener, error) {
	var lc net.ListenConfig
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if err := removeSocket(ctx, path); err != nil {
			return nil, err
		}
		l, err := lc.Listen(ctx, "unix", path)
		if err != nil || mode == 0 {
			return l, err
		}
		if err := os.Chmod(path, mode); err != nil {
			return nil, errors.Join(fmt.Errorf("listen_mode: %w", err), l.Close())
		}
		return l, nil
	}
	l, err := lc.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, words.New(words.PortInUse, "address", address)
	}
	return l, err
}

// removeSocket removes a socket that a killed process has left. One that still answers is another
// gateway's.
func removeSocket(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return nil //nolint:nilerr // nothing there, or something that listening will complain about
	}
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return words.New(words.SocketInUse, "address", path)
	}
	return os.Remove(path)
}

// newServer returns a server without a ServeMux in front: that would redirect //cgi-bin/x and so
// lose the body of a POST. The requests' contexts come from calls.
//
// Each step of a client's is bounded: a TLS handshake and a header by ReadHeaderTimeout, a whole request by
// ReadTimeout, the time between two by IdleTimeout, and the taking of the answer by listener.
func newServer(calls context.Context, h http.Handler, log *zap.Logger) *http.Server {
	quiet, err := zap.NewStdLogAt(log, zap.DebugLevel) // malformed requests of clients are not worth a line
	if err != nil {
		panic("wxproxy: " + err.Error())
	}
	return &http.Server{
		Handler:                      h,
		BaseContext:                  func(net.Listener) context.Context { return calls },
		ConnContext:                  connContext,
		ReadHeaderTimeout:            10 * time.Second,
		ReadTimeout:                  5 * time.Minute, // a body that trickles holds a place of max_in_flight
		IdleTimeout:                  2 * time.Minute,
		MaxHeaderBytes:               64 << 10,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     quiet,
	}
}
