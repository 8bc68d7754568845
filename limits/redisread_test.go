package limits

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"wxproxy/internal/redistest"
)

// fillWindows gives each of n apps two counters, with parts, in each of two windows, and returns the
// queries for them.
func fillWindows(t *testing.T, client redis.UniversalClient, n int, windows ...Window) []Query {
	t.Helper()
	var queries []Query
	pipe := client.Pipeline()
	for i := range n {
		app := fmt.Sprint("wx", i)
		for _, w := range windows {
			pipe.HSet(t.Context(), "wxp:00000000:{"+app+"}:"+w.Name, "r", fmt.Sprint("0 ", i, " 1"), "r|gw000001", fmt.Sprint("0 1 ", i), "s", "0 1 1", "s|gw000001", "0 1 1")
			queries = append(queries, Query{App: app, Window: w})
		}
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	return queries
}

func wantWindows(t *testing.T, queries []Query, found []map[string]CounterState) {
	t.Helper()
	if len(found) != len(queries) {
		t.Fatalf("%d maps for %d queries", len(found), len(queries))
	}
	for i, query := range queries {
		if got := fmt.Sprint("wx", found[i]["r"].Used); got != query.App || len(found[i]) != 2 {
			t.Fatalf("query %d, of %s: %+v, want its own two counters", i, query.App, found[i])
		}
	}
}

// Thousands of windows take few round trips, and far less than a second where one takes 5 ms.
func TestReadManyWindows(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	day := today(t, client)
	queries := fillWindows(t, client, 3000, day, windowAt(Month, day.Start, shanghai(t)))
	far := redis.NewClient(&redis.Options{Addr: delayed(t, server.Addr, 5*time.Millisecond), MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = far.Close() })
	s := NewRedis(far, "wxp:00000000:", "gw000001")
	if err := far.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	sent := &commands{}
	far.AddHook(sent)
	began := time.Now()
	found, err := s.Read(t.Context(), queries)
	took := time.Since(began)
	if err != nil {
		t.Fatal(err)
	}
	wantWindows(t, queries, found)
	t.Logf("%d windows over a link of 5 ms in %s, in %d round trips", len(queries), took.Round(time.Millisecond), sent.pipelines)
	if sent.pipelines > 40 || sent.pipelines < 2 {
		t.Errorf("%d round trips, want one for each %d windows", sent.pipelines, readBatch)
	}
	if took > 5*time.Second {
		t.Errorf("it took %s, want well under a second on a machine that is not busy", took)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Millisecond)
	defer cancel()
	found, err = s.Read(ctx, queries)
	if !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) || len(found) != len(queries) || found[len(found)-1] != nil {
		t.Errorf("with 12 ms for it: %v, want an error, and no map for what was not read", err)
	}
}

// A server that is busy for longer than one answer may take is read all the same; one that answers nothing is not
// waited for.
func TestReadOfABusyServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	queries := fillWindows(t, client, 3, today(t, client))
	impatient := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1, ContextTimeoutEnabled: true, ReadTimeout: 250 * time.Millisecond})
	t.Cleanup(func() { _ = impatient.Close() })
	sent := &commands{}
	impatient.AddHook(sent)
	s := NewRedis(impatient, "wxp:00000000:", "gw000001")
	server.Freeze()
	time.AfterFunc(400*time.Millisecond, server.Thaw)
	found, err := s.Read(t.Context(), queries)
	if err != nil || sent.pipelines < 2 {
		t.Fatalf("Read after %d round trips: %v, want an answer to the second or third", sent.pipelines, err)
	}
	wantWindows(t, queries, found)

	server.Freeze()
	defer server.Thaw()
	sent.pipelines = 0
	if _, err := s.Read(t.Context(), queries); !isTimeout(err) || sent.pipelines != readTries {
		t.Errorf("Read of a frozen server after %d round trips: %v, want a timeout after %d", sent.pipelines, err, readTries)
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// A query that Redis answers with an error has no map, and stops no other.
func TestReadWhereOneKeyIsNoHash(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	day := today(t, client)
	queries := fillWindows(t, client, 3, day)
	if err := client.Set(t.Context(), "wxp:00000000:{wx1}:"+day.Name, "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	found, err := redisStand(server)(t).Read(t.Context(), queries)
	if _, ok := errors.AsType[*StoreError](err); !ok || found[0]["r"].Version != 1 || found[1] != nil || found[2]["r"].Used != 2 {
		t.Errorf("Read = %+v, %v, want the first and the last, and a StoreError", found, err)
	}
}

func TestReadOfACluster(t *testing.T) {
	t.Parallel()
	var addrs []string
	for _, n := range redistest.StartCluster(t) {
		addrs = append(addrs, n.Addr)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	now := time.Now()
	queries := fillWindows(t, client, 300, windowAt(Day, now, shanghai(t)), windowAt(Month, now, shanghai(t)))
	queries[0].Names = []string{"r", "s", "none"}
	found, err := NewRedis(client, "wxp:00000000:", "gw000001").Read(t.Context(), queries)
	if err != nil {
		t.Fatal(err)
	}
	wantWindows(t, queries, found)
}

// delayed returns the address of a link to addr: each byte arrives after half of the round trip's time.
func delayed(t *testing.T, addr string, roundTrip time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	conns.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				_ = near.Close()
				continue
			}
			conns.Go(func() { carry(far, near, roundTrip/2) })
			conns.Go(func() { carry(near, far, roundTrip/2) })
		}
	})
	return l.Addr().String()
}

func carry(to, from net.Conn, delay time.Duration) {
	type chunk struct {
		data []byte
		due  time.Time
	}
	chunks := make(chan chunk, 1024)
	go func() {
		defer close(chunks)
		for {
			p := make([]byte, 64<<10)
			n, err := from.Read(p)
			chunks <- chunk{p[:n], time.Now().Add(delay)}
			if err != nil {
				return
			}
		}
	}()
	for c := range chunks {
		time.Sleep(time.Until(c.due))
		if _, err := to.Write(c.data); err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
	for range chunks { // until its reader has ended
		continue
	}
}
