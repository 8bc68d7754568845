package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"wxproxy/admin"
	"wxproxy/config"
	"wxproxy/internal/faults"
	"wxproxy/internal/redistest"
	"wxproxy/limits"
	"wxproxy/sandbox"
)

// open opens the gateway of a configuration in this process, with its log.
func open(t *testing.T, path string) (*gateway, *observer.ObservedLogs) {
	t.Helper()
	c, err := config.Load(loadOptions(path))
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	g, err := openGateway(t.Context(), serving{load: loadOptions(path), stdout: io.Discard, log: zap.New(core)}, c, canaryAdmin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return g, logs
}

// within returns what f returns, and fails the test if f takes too long.
func within(t *testing.T, what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatalf("%s has not returned after 20 s", what)
		return nil
	}
}

// TestForgetOfAnAppThatIsConfiguredAgain: forget reads all keys of a Redis. A reload goes on meanwhile,
// and one that configures the app again stops it.
func TestForgetOfAnAppThatIsConfiguredAgain(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} {
		name := "another reload"
		if again {
			name = "a reload with the app"
		}
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			relay, err := faults.NewRelay(t.Context(), server.Addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = relay.Close() }) // everything on it has ended
			path := write(t, newWechat(t, sandbox.Options{}), strings.Replace(server.URL(), server.Addr, relay.Addr(), 1)+"?read_timeout=1m", "")
			with := readFile(t, path)
			var lines []string
			for line := range strings.Lines(with) {
				if !strings.Contains(line, appA) {
					lines = append(lines, line)
				}
			}
			without := strings.Join(lines, "")
			writeFile(t, path, without)
			g, logs := open(t, path)
			direct := server.Client(t)
			key := g.store.Prefix() + "{" + appA + "}:x"
			if err := direct.Set(t.Context(), key, "1", 0).Err(); err != nil {
				t.Fatal(err)
			}

			held := relay.Order(faults.Fault{Match: func(c faults.Command) bool { return c.Is("SCAN") }, Do: faults.LateReply, Hold: true})
			forgotten := make(chan error, 1)
			go func() { forgotten <- g.forget(t.Context(), appA) }()
			select {
			case <-held.Begun():
			case <-time.After(20 * time.Second):
				t.Fatal("forget has not read a key after 20 s")
			}
			if again {
				writeFile(t, path, with)
			}
			if err := within(t, "a reload during forget", func() error { return g.reload(t.Context()) }); err != nil {
				t.Fatal(err)
			}
			if got := g.configured(appA) != nil; got != again {
				t.Errorf("app a is configured: %t, want %t", got, again)
			}
			select {
			case err := <-forgotten:
				t.Fatalf("forget = %v, want it to wait for Redis", err)
			default:
			}
			held.Release()
			err = within(t, "forget", func() error { return <-forgotten })
			exists, redisErr := direct.Exists(t.Context(), key).Result()
			if redisErr != nil {
				t.Fatal(redisErr)
			}
			stopped := logs.FilterMessageSnippet("forget canceled").Len()
			switch {
			case again && (!errors.Is(err, admin.ErrConfigured) || exists != 1 || stopped != 1):
				t.Errorf("forget = %v with %d keys left, logged %d times; want %v, 1 and 1", err, exists, stopped, admin.ErrConfigured)
			case !again && (err != nil || exists != 0 || stopped != 0):
				t.Errorf("forget = %v with %d keys left, logged %d times that it was stopped; want none", err, exists, stopped)
			}
			if len(g.erasures) != 0 {
				t.Errorf("%d erasures under way, want none", len(g.erasures))
			}
		})
	}
}

// TestLatchedIsLoggedAndAsked: a 45009 of WeChat is in the log, and has quota/get asked once.
func TestLatchedIsLoggedAndAsked(t *testing.T) {
	t.Parallel()
	wechat := noonWechat(t, map[string]int64{createPath: 100})
	g, logs := open(t, write(t, wechat, redistest.Start(t).URL(), noonTable("100/day", "7/day")))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.auditor.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	until := time.Now().Add(time.Minute)
	for range 3 {
		g.observeLimits(limits.Event{Kind: limits.RuleLatched, App: appA, Rule: "menu.create", Counter: "menu.create", Until: until})
	}
	waitFor(t, "quota/get to be asked", func() bool { return wechat.Calls(appA, askPath) > 0 })
	logged := logs.FilterMessageSnippet("45009").FilterField(zap.String("app", "a")).FilterField(zap.String("rule", "menu.create")).
		FilterField(zap.Time("until", until)).Len()
	if asked := wechat.Calls(appA, askPath); logged != 3 || asked != 1 {
		t.Errorf("logged %d times, asked %d times, want 3 and 1", logged, asked)
	}
}
