package history

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"wxproxy/internal/redistest"
)

// commands is how many commands a Redis has run since its counters were reset, those inside scripts included.
func commands(t *testing.T, info string) (n int) {
	t.Helper()
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":calls=")
		if !ok || name == "cmdstat_info" || strings.HasPrefix(name, "cmdstat_config") || name == "cmdstat_hello" || strings.HasPrefix(name, "cmdstat_client") {
			continue
		}
		calls, _, _ := strings.Cut(rest, ",")
		count, err := strconv.Atoi(calls)
		if err != nil {
			t.Fatal(err)
		}
		n += count
	}
	return n
}

// However they are counted: at most one command every two seconds for a busy account, from before the end of an
// hour until after it.
func TestCommands(t *testing.T) {
	client := redistest.Start(t).Client(t)
	now := begin
	r := New(Options{Store: NewRedis(client, "p:", "life0001"), Gateway: "gw000001", Zone: shanghai, Now: func() time.Time { return now }})
	if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	const flushes = 60
	for range flushes {
		for _, e := range events(now, 1) {
			r.Add(e)
		}
		flush(t, r)
		now = now.Add(r.o.Every)
	}
	info, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	got, seconds := commands(t, info), flushes*int(r.o.Every/time.Second)
	t.Logf("%d commands in %d s", got, seconds)
	if got > seconds/2 || got < flushes {
		t.Errorf("%d commands in %d s, want at most one every 2 s:\n%s", got, seconds, info)
	}
}

// An outage of several hours is told once, and loses nothing.
func TestOutage(t *testing.T) {
	server := redistest.Start(t)
	now := begin
	var observed []error
	r := New(Options{
		Store: NewRedis(server.Client(t), "p:", "life0001"), Gateway: "gw000001", Zone: shanghai,
		Now: func() time.Time { return now }, Observe: func(err error) { observed = append(observed, err) },
	})
	e := Event{App: "wx1", Rule: "a", Caller: "crm", Outcome: passed}
	server.Stop()
	for range 5 {
		for range 3 {
			e.At = now
			r.Add(e)
			if err := r.Flush(t.Context()); err == nil {
				t.Fatal("no error of a Redis that is gone")
			}
			now = now.Add(7 * time.Minute)
		}
		now = now.Add(40 * time.Minute)
	}
	server.Restart()
	e.At = now
	r.Add(e)
	flush(t, r)
	if len(observed) != 2 || observed[0] == nil || observed[1] != nil {
		t.Errorf("observed %v, want one error and its end", observed)
	}
	reader := New(Options{Store: NewRedis(server.Client(t), "p:", "life0002"), Gateway: "gw000002", Zone: shanghai, Now: r.o.Now})
	lines, err := reader.History(t.Context(), Query{Apps: []string{"wx1"}, From: begin, To: now.Add(time.Second), Step: ByHour})
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, l := range lines {
		total += l.Sent
	}
	if total != 16 || len(lines) < 5 {
		t.Errorf("%d calls in %d hours, want 16 in 5 at least: %+v", total, len(lines), lines)
	}
}
