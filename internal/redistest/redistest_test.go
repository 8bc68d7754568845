package redistest

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestStart(t *testing.T) {
	s := Start(t, "--requirepass", "hunter2")
	ctx := t.Context()
	c := s.Client(t)
	if err := c.Set(ctx, "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	unix := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket, Password: s.Password})
	defer unix.Close()
	if got, err := unix.Get(ctx, "a").Result(); got != "1" || err != nil {
		t.Errorf("GET a over %s = %q, %v, want 1", s.Socket, got, err)
	}

	s.Freeze()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	frozen := redis.NewClient(&redis.Options{Addr: s.Addr, Password: s.Password, MaxRetries: -1, ContextTimeoutEnabled: true})
	defer frozen.Close()
	var timeout net.Error
	if err := frozen.Ping(short).Err(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("PING of a frozen server = %v, want a timeout", err)
	}
	s.Thaw()
	if got, err := c.Get(ctx, "a").Result(); got != "1" || err != nil {
		t.Errorf("GET a after Thaw = %q, %v, want 1", got, err)
	}

	s.Stop()
	if err := s.Client(t).Ping(ctx).Err(); err == nil {
		t.Error("PING after Stop: no error")
	}
	s.Restart()
	if err := s.Client(t).Get(ctx, "a").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("GET a after Restart = %v, want nothing saved", err)
	}
}

func TestRestartKeepsAnAppendOnlyFile(t *testing.T) {
	s := Start(t, "--appendonly", "yes", "--appendfsync", "always")
	if err := s.Client(t).Set(t.Context(), "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if got, err := s.Client(t).Get(t.Context(), "a").Result(); got != "1" || err != nil {
		t.Errorf("GET a after Restart = %q, %v, want 1", got, err)
	}
}

func TestStartAt(t *testing.T) {
	now := time.Date(2026, 12, 1, 23, 59, 59, 0, time.UTC)
	c := StartAt(t, now).Client(t)
	if err := c.Set(t.Context(), "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.ExpireAt(t.Context(), "a", now.Add(time.Hour)).Err(); err != nil {
		t.Fatal(err)
	}
	if left, err := c.TTL(t.Context(), "a").Result(); err != nil || left < 50*time.Minute {
		t.Errorf("TTL = %s, %v, want nearly an hour of the server's own clock", left, err)
	}
	waitFor(t, "midnight", func() error {
		got, err := c.Time(t.Context()).Result()
		if err == nil && got.UTC().Day() != 2 {
			err = errors.New("still " + got.UTC().String())
		}
		return err
	})
}

func TestClusterAndSentinel(t *testing.T) {
	nodes := StartCluster(t)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].Addr}})
	defer c.Close()
	for _, key := range []string{"{a}", "{b}", "{c}", "{d}"} { // slots 15495, 3300, 7365, 11298
		if err := c.Set(t.Context(), key, "1", 0).Err(); err != nil {
			t.Errorf("SET %s: %v", key, err)
		}
	}

	master := Start(t)
	s := StartSentinel(t, "main", master)
	f := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{s.Addr}})
	defer f.Close()
	if err := f.Ping(t.Context()).Err(); err != nil {
		t.Errorf("PING by the sentinel: %v", err)
	}
}

func TestMissing(t *testing.T) {
	t.Setenv("CI", "")
	t.Run("skips", func(t *testing.T) {
		defer func() {
			if !t.Skipped() {
				t.Error("missing did not skip")
			}
		}()
		missing(t, "nothing (this line is expected)")
	})
	if os.Getenv("CI") != "" {
		t.Fatal("CI is still set")
	}
}

func TestMove(t *testing.T) {
	const ahead = 36 * time.Hour
	s := StartMovable(t)
	c := s.Client(t)
	if err := c.Set(t.Context(), "a", "1", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	s.Move(ahead) // fails the test where TIME does not show it
	if err := c.Get(t.Context(), "a").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("GET a 36 hours later = %v, want a key that has expired", err)
	}
	s.Restart()
	at, err := s.Client(t).Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	if off := time.Until(at) - ahead; off < -patience || off > patience {
		t.Errorf("after Restart the clock is %s ahead, want %s", time.Until(at), ahead)
	}
}
