package faults

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wxproxy/internal/redistest"
)

// The metrics of 3000 accounts are complete at each of 20 scrapes and take less than a second, over
// a link of 5 ms too.
func TestScrapeOfManyAccounts(t *testing.T) {
	const accounts, rulesOfEach, used, scrapes = 3000, 20, 7, 20
	var rules []rule
	for i := range rulesOfEach {
		rules = append(rules, rule{fmt.Sprintf("r%02d", i), fmt.Sprintf("/cgi-bin/r%02d", i), "1000/day", ""})
	}
	for _, delay := range []time.Duration{0, 5 * time.Millisecond} {
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			server := redistest.Start(t)
			s := setup{gateways: 1, apps: accounts, redis: server, rules: rules}
			if delay > 0 {
				s.store = delayed(t, server.Addr, delay)
			}
			f := newFleet(t, s)
			gateway := f.gateways[0]
			// A first call makes a hash; those of the other accounts are like it.
			if said := f.hear(t.Context(), gateway, call{path: "/cgi-bin/r00", get: true}); !strings.HasPrefix(said, "pass ") {
				t.Fatalf("a call is answered %s", said)
			}
			key := f.dayKey(t, 0)
			pipe := f.direct.Pipeline()
			for i := range accounts {
				for _, r := range rules[:3] {
					pipe.HSet(t.Context(), strings.Replace(key, appid(0), appid(i), 1), r.name, fmt.Sprintf("0 %d 100", used))
				}
			}
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			line := fmt.Sprintf(`",period="day",rule="r01"} %d`+"\n", used) // of wxproxy_quota_used: the limit and the rest are larger
			var took []time.Duration
			for i := range scrapes {
				begun := time.Now()
				text := f.metrics(t, gateway)
				took = append(took, time.Since(begun))
				complete, ok := metric(text, "wxproxy_quota_scrape_complete")
				if n := strings.Count(text, line); n != accounts || complete != 1 {
					t.Errorf("scrape %d after %s: %d of %d accounts, wxproxy_quota_scrape_complete %v (there: %t)", i, took[i].Round(time.Millisecond), n, accounts, complete, ok)
				}
			}
			slices.Sort(took)
			t.Logf("%d scrapes took %s to %s, half of them at most %s", scrapes, took[0].Round(time.Millisecond), took[scrapes-1].Round(time.Millisecond), took[scrapes/2].Round(time.Millisecond))
			// Under a second on an idle machine. A busy one slows them down, but the metrics must not wait for each account.
			if took[scrapes/2] > 3*time.Second || took[scrapes-1] > 3*time.Second+slack {
				t.Errorf("a scrape takes %s to %s, half of them %s or more, want under 3s", took[0], took[scrapes-1], took[scrapes/2])
			}
		})
	}
}

// delayed is the address of a link to a server whose replies arrive later than they are sent. Unlike
// a Relay it keeps the commands of a pipeline together. It is closed with the test.
func delayed(t *testing.T, server string, delay time.Duration) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // covers open and closed
	var open []net.Conn
	closed := false
	keep := func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		if open = append(open, c); closed {
			_ = c.Close()
		}
	}
	var work sync.WaitGroup
	type piece struct {
		due  time.Time
		data []byte
	}
	serve := func(client, to net.Conn) {
		keep(client)
		keep(to)
		pieces := make(chan piece, 4096)
		work.Go(func() {
			_, _ = io.Copy(to, client)
			_ = to.Close()
		})
		work.Go(func() {
			defer close(pieces)
			for {
				buffer := make([]byte, 64<<10)
				n, err := to.Read(buffer)
				if n > 0 {
					pieces <- piece{time.Now().Add(delay), buffer[:n]}
				}
				if err != nil {
					return
				}
			}
		})
		work.Go(func() {
			for p := range pieces {
				time.Sleep(time.Until(p.due))
				_, _ = client.Write(p.data) // where the client is gone the rest is read and dropped
			}
			_ = client.Close()
		})
	}
	work.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			to, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			serve(client, to)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		closed = true
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return listener.Addr().String()
}
