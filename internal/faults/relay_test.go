package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"wxproxy/internal/redistest"
)

// dialRelay returns a relay in front of a server, and a client of it that tries nothing twice and
// waits a tenth of a second.
func dialRelay(t *testing.T, server *redistest.Server) (*Relay, *redis.Client) {
	t.Helper()
	relay := relayTo(t, server)
	client := redis.NewClient(&redis.Options{
		Addr: relay.Addr(), MaxRetries: -1, DialerRetries: 1, Protocol: 2, DisableIdentity: true,
		ReadTimeout: 100 * time.Millisecond,
	})
	t.Cleanup(func() { _ = client.Close() })
	return relay, client
}

// relayTo starts a relay that is closed with the test.
func relayTo(t *testing.T, server *redistest.Server) *Relay {
	t.Helper()
	relay, err := NewRelay(t.Context(), server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := relay.Close(); err != nil {
			t.Error(err)
		}
	})
	return relay
}

// order orders a fault that must have fired when the test ends.
func order(t *testing.T, relay *Relay, f Fault) *Ordered {
	t.Helper()
	o := relay.Order(f)
	t.Cleanup(func() {
		if o.Fired() == 0 {
			t.Errorf("a fault was planned and never fired: action %d after %d, every %d", f.Do, f.After, f.Every)
		}
	})
	return o
}

func named(name string) func(Command) bool {
	return func(c Command) bool { return c.Is(name) }
}

// Each action on the first of two INCR: what the client hears, and what the server did.
func TestRelayActions(t *testing.T) {
	server := redistest.Start(t)
	direct := server.Client(t)
	tests := []struct {
		name    string
		fault   Fault
		hears   int64 // 0: an error
		at      int64 // what the server holds when the client has heard
		then    int64 // and at the end
		replies int
	}{
		{name: "lose request", fault: Fault{Do: LoseRequest}},
		{name: "lose reply", fault: Fault{Do: LoseReply}, at: 1, then: 1, replies: 1},
		{name: "late request", fault: Fault{Do: LateRequest, Wait: 30 * time.Millisecond}, hears: 1, at: 1, then: 1, replies: 1},
		{name: "request after its client has gone", fault: Fault{Do: LateRequest, Hold: true}, then: 1, replies: 1},
		{name: "late reply", fault: Fault{Do: LateReply, Wait: 30 * time.Millisecond}, hears: 1, at: 1, then: 1, replies: 1},
		{name: "reply after its client has gone", fault: Fault{Do: LateReply, Hold: true}, at: 1, then: 1, replies: 1},
		{name: "cut before", fault: Fault{Do: CutBefore}},
		{name: "cut after", fault: Fault{Do: CutAfter}, at: 1, then: 1, replies: 1},
		{name: "double", fault: Fault{Do: Double}, hears: 1, at: 2, then: 2, replies: 2},
		{name: "double later", fault: Fault{Do: Double, Hold: true}, hears: 1, at: 1, then: 2, replies: 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			relay, client := dialRelay(t, server)
			if err := direct.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			test.fault.Match = named("incr")
			o := order(t, relay, test.fault)
			value := func() int64 { n, _ := direct.Get(t.Context(), "n").Int64(); return n }

			heard, err := client.Incr(t.Context(), "n").Result()
			if heard != test.hears || (err != nil) != (test.hears == 0) {
				t.Errorf("INCR = %d, %v, want %d", heard, err, test.hears)
			}
			if got := value(); got != test.at {
				t.Errorf("the server holds %d, want %d", got, test.at)
			}
			o.Release()
			waitFor(t, "the server's replies", func() bool { return len(o.Replies()) == test.replies })
			if got := value(); got != test.then {
				t.Errorf("the server holds %d at the end, want %d", got, test.then)
			}
			if o.Fired() != 1 {
				t.Errorf("fired %d times, want once", o.Fired())
			}
			if n, err := client.Incr(t.Context(), "n").Result(); n != test.then+1 || err != nil {
				t.Errorf("the next INCR = %d, %v, want %d", n, err, test.then+1)
			}
		})
	}
}

func TestRelayOrders(t *testing.T) {
	server := redistest.Start(t)
	tests := []struct {
		name  string
		fault Fault
		want  string // of ten commands in turn on two connections: those that were cut
	}{
		{"once", Fault{}, "0"},
		{"after", Fault{After: 3}, "3"},
		{"times", Fault{After: 3, Times: 2}, "3 4"},
		{"every", Fault{After: 1, Every: 3, Times: -1}, "1 4 7"},
		{"of each connection", Fault{Each: true, After: 1, Every: 9, Times: -1}, "2 3"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			relay, client := dialRelay(t, server)
			test.fault.Match, test.fault.Do = named("ping"), LateReply
			o := order(t, relay, test.fault)
			a, b := client.Conn(), client.Conn()
			defer a.Close()
			defer b.Close()
			var cut []string
			for i := range 10 {
				before := o.Fired()
				conn := a
				if i%2 == 1 {
					conn = b
				}
				if err := conn.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				if o.Fired() > before {
					cut = append(cut, fmt.Sprint(i))
				}
			}
			if got := strings.Join(cut, " "); got != test.want {
				t.Errorf("fired on %s, want %s", got, test.want)
			}
		})
	}
}

func TestRelayDoesTheFirstFaultThatIsDue(t *testing.T) {
	server := redistest.Start(t)
	relay, client := dialRelay(t, server)
	first := relay.Order(Fault{Match: named("ping"), Do: LateReply})
	second := relay.Order(Fault{Match: named("ping"), Do: LateReply, After: 1, Times: -1})
	canceled := relay.Order(Fault{Do: CutBefore, Times: -1, Match: named("ping")})
	canceled.Cancel()
	for range 4 {
		if err := client.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if first.Fired() != 1 || second.Fired() != 3 || canceled.Fired() != 0 {
		t.Errorf("fired %d, %d and %d times, want 1, 3 and 0", first.Fired(), second.Fired(), canceled.Fired())
	}
}

// Many clients at once, pipelines, errors, nil and nested replies, and a script by name.
func TestRelayPassesEverythingOn(t *testing.T) {
	relay := relayTo(t, redistest.Start(t))
	client := redis.NewClient(&redis.Options{Addr: relay.Addr(), MaxRetries: -1, Protocol: 2, DisableIdentity: true}) // a busy machine is no fault
	t.Cleanup(func() { _ = client.Close() })
	script := "return {1, 'two', {3, false}, redis.status_reply('ok')}"
	runs := relay.Order(Fault{Match: Runs(script), Do: LateReply, Times: -1})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ctx := context.WithoutCancel(t.Context())
			for j := range 20 {
				key, text := fmt.Sprint(i, "-", j), strings.Repeat("\r\n", 1000)
				pipe := client.Pipeline()
				pipe.Set(ctx, key, text, 0)
				got := pipe.Get(ctx, key)
				if _, err := pipe.Exec(ctx); err != nil || got.Val() != text {
					t.Errorf("GET %s = %d bytes, %v, want %d", key, len(got.Val()), err, len(text))
				}
				if err := client.Get(ctx, "none").Err(); !errors.Is(err, redis.Nil) {
					t.Errorf("GET none = %v, want nil", err)
				}
				if err := client.LPush(ctx, key, 1).Err(); err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
					t.Errorf("LPUSH on a string = %v, want WRONGTYPE", err)
				}
				if got, err := redis.NewScript(script).Run(ctx, client, nil).Slice(); err != nil || fmt.Sprint(got) != "[1 two [3 <nil>] ok]" {
					t.Errorf("script = %v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	if n := runs.Fired(); n < 160 || n > 168 { // and an EVAL for each EVALSHA before the script was known
		t.Errorf("the script was seen %d times, want 160 and a few", n)
	}
}

// A server that goes away takes its clients' connections along, and frozen commands run later.
func TestRelayOfAServerThatGoesAway(t *testing.T) {
	server := redistest.Start(t)
	_, client := dialRelay(t, server)
	if err := client.Incr(t.Context(), "n").Err(); err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	if err := client.Incr(t.Context(), "n").Err(); err == nil {
		t.Error("INCR of a frozen server: no error")
	}
	server.Thaw()
	waitFor(t, "the INCR to run late", func() bool { n, _ := client.Get(t.Context(), "n").Int(); return n == 2 })
	server.Stop()
	if err := client.Incr(t.Context(), "n").Err(); err == nil {
		t.Error("INCR of a dead server: no error")
	}
	server.Restart()
	if n, err := client.Incr(t.Context(), "n").Result(); n != 1 || err != nil {
		t.Errorf("INCR after a restart = %d, %v, want 1", n, err)
	}
}

func TestReadReply(t *testing.T) {
	for _, raw := range []string{
		"+OK\r\n", "-ERR x\r\n", ":5\r\n", "_\r\n", ",1.5\r\n", "#t\r\n", "(12345\r\n",
		"$3\r\na\r\n\r\n", "$0\r\n\r\n", "$-1\r\n", "=5\r\ntxt:a\r\n", "!3\r\nERR\r\n",
		"*0\r\n", "*-1\r\n", "*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", "~1\r\n:1\r\n", "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n",
		"|1\r\n+ttl\r\n:9\r\n$1\r\nx\r\n", ">2\r\n+message\r\n+hi\r\n:7\r\n",
	} {
		from := bufio.NewReader(strings.NewReader(raw + "+next\r\n"))
		if got, err := readReply(from); string(got) != raw || err != nil {
			t.Errorf("readReply(%q) = %q, %v", raw, got, err)
		}
		if next, err := readReply(from); string(next) != "+next\r\n" {
			t.Errorf("after %q comes %q, %v", raw, next, err)
		}
	}
	for _, raw := range []string{"", "+OK\n", "\r\n", "?\r\n", "*x\r\n", "*1\r\n", "$-2\r\n", "$5\r\nab\r\n"} {
		if got, err := readReply(bufio.NewReader(strings.NewReader(raw))); err == nil {
			t.Errorf("readReply(%q) = %q, want an error", raw, got)
		}
	}
	for _, raw := range []string{"PING\r\n", "*0\r\n", "*1\r\n:1\r\n", "*1\r\n$-5\r\n", "*1\r\n$4\r\nPI"} {
		if got, _, err := readCommand(bufio.NewReader(strings.NewReader(raw))); err == nil {
			t.Errorf("readCommand(%q) = %q, want an error", raw, got)
		}
	}
}
