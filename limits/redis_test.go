package limits

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"wxproxy/internal/redistest"
)

// today is the day's window by the store's clock.
func today(t *testing.T, client *redis.Client) Window {
	t.Helper()
	now, err := client.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return windowAt(Day, now, shanghai(t))
}

// demand is one request for the counter "a" with a limit of 10.
type demand struct {
	want   int64
	report Report
}

// outcome is what an answer says of that counter.
type outcome struct {
	Status    Status
	Granted   int64
	Lost      bool
	Used      int64
	Version   int64
	Generated int64
	Latch     Latch
}

func exchange(t *testing.T, s Counters, w Window, generation int64, d demand) outcome {
	t.Helper()
	d.report.Name = "a"
	if d.report.Limit == 0 {
		d.report.Limit = 10
	}
	a, err := s.Exchange(t.Context(), &Request{
		App: "wx1", Want: d.want, Windows: []WindowReport{{Window: w, Generation: generation}}, Counters: []Report{d.report},
	})
	if err != nil {
		t.Fatalf("Exchange(%+v) = %v", d, err)
	}
	c := a.Counters[0]
	return outcome{a.Status, a.Granted, a.Lost, c.Used, c.Version, c.Generation, c.Latch}
}

// The cases of the protocol, one after the other.
func TestScript(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	open := redisStand(server)
	a, b := open(t), open(t)
	day := today(t, client)

	until := day.End.UnixMilli()
	steps := []struct {
		name string
		send func() outcome
		want outcome
	}{
		{"a spends 4", func() outcome { return exchange(t, a, day, 0, demand{want: 4}) }, outcome{Granted: 4, Used: 4, Version: 1}},
		{"a returns 1", func() outcome {
			return exchange(t, a, day, 0, demand{report: Report{Version: 1, Acked: 4, Local: 3}})
		}, outcome{Used: 3, Version: 2}},
		{"b spends 5", func() outcome { return exchange(t, b, day, 0, demand{want: 5}) }, outcome{Granted: 5, Used: 8, Version: 3}},
		{"b had no answer: its next report returns the grant", func() outcome { return exchange(t, b, day, 0, demand{want: 1}) }, outcome{Granted: 1, Used: 4, Version: 4}},
		{"a asks for more than there is", func() outcome {
			return exchange(t, a, day, 0, demand{want: 9, report: Report{Version: 2, Acked: 3, Local: 3}})
		}, outcome{Status: Full, Granted: 6, Used: 10, Version: 5}},
		{"refused, and nothing is written", func() outcome {
			return exchange(t, b, day, 0, demand{want: 1, report: Report{Version: 4, Others: 3, Acked: 1, Local: 1}})
		}, outcome{Status: Full, Used: 10, Version: 5}},
		{"the limit is raised in b's table", func() outcome {
			return exchange(t, b, day, 0, demand{want: 1, report: Report{Limit: 20, Version: 5, Others: 9, Acked: 1, Local: 1}})
		}, outcome{Granted: 1, Used: 11, Version: 6}},
		{"a has sent 2 while the store was unavailable", func() outcome {
			return exchange(t, a, day, 0, demand{report: Report{Version: 5, Others: 1, Acked: 9, Local: 11}})
		}, outcome{Used: 13, Version: 7}},
		{"the store loses everything; b restores what it knew", func() outcome {
			client.FlushAll(t.Context())
			return exchange(t, b, day, 0, demand{report: Report{Version: 6, Others: 9, Acked: 2, Local: 2}})
		}, outcome{Lost: true, Used: 11, Version: 7}},
		{"a claims its part of that", func() outcome {
			return exchange(t, a, day, 0, demand{report: Report{Version: 7, Others: 2, Acked: 11, Local: 11}})
		}, outcome{Lost: true, Used: 13, Version: 8}},
		{"a clear through a", func() outcome {
			return exchange(t, a, day, 99, demand{want: 1, report: Report{Generation: 99}})
		}, outcome{Granted: 1, Used: 1, Version: 1, Generated: 99}},
		{"b does not know of the clear: its figures count for nothing", func() outcome {
			return exchange(t, b, day, 0, demand{want: 1, report: Report{Version: 7, Others: 9, Acked: 2, Local: 2}})
		}, outcome{Status: Again, Used: 1, Version: 1, Generated: 99}},
		{"b in the new generation", func() outcome {
			return exchange(t, b, day, 99, demand{want: 1, report: Report{Generation: 99}})
		}, outcome{Granted: 1, Used: 2, Version: 2, Generated: 99}},
		{"a count learned from WeChat only raises", func() outcome {
			return exchange(t, b, day, 99, demand{report: Report{Generation: 99, Version: 2, Others: 1, Acked: 1, Local: 1, Raise: 8}})
		}, outcome{Used: 8, Version: 3, Generated: 99}},
		{"a latch refuses", func() outcome {
			return exchange(t, b, day, 99, demand{want: 1, report: Report{Generation: 99, Version: 3, Others: 7, Acked: 1, Local: 1, Latch: Latch{until, 5}}})
		}, outcome{Status: Latched, Used: 8, Version: 4, Generated: 99, Latch: Latch{until, 5}}},
		{"a later latch never ends before an earlier one", func() outcome {
			return exchange(t, a, day, 99, demand{report: Report{Generation: 99, Version: 1, Acked: 1, Local: 1, Latch: Latch{until - 9, 7}}})
		}, outcome{Used: 8, Version: 5, Generated: 99, Latch: Latch{until, 7}}},
		{"a latch from before that comes late", func() outcome {
			return exchange(t, b, day, 99, demand{report: Report{Generation: 99, Version: 4, Others: 7, Acked: 1, Local: 1, Latch: Latch{until, 5}}})
		}, outcome{Used: 8, Version: 6, Generated: 99, Latch: Latch{until, 7}}},
		{"lifted: nothing is forgotten, and calls are granted", func() outcome {
			return exchange(t, b, day, 99, demand{want: 1, report: Report{Generation: 99, Version: 6, Others: 7, Acked: 1, Local: 1, Latch: Latch{0, 9}}})
		}, outcome{Granted: 1, Used: 9, Version: 7, Generated: 99, Latch: Latch{0, 9}}},
		{"a new generation that begins with WeChat's count, and a call in flight", func() outcome {
			return exchange(t, a, day, 99, demand{report: Report{Generation: 200, Local: 1, Raise: 4}})
		}, outcome{Used: 5, Version: 1, Generated: 200}},
		{"the same once more", func() outcome {
			return exchange(t, a, day, 99, demand{report: Report{Generation: 200, Local: 1, Raise: 4}})
		}, outcome{Used: 5, Version: 2, Generated: 200}},
		{"the next day by the gateway's clock", func() outcome {
			return exchange(t, a, windowAt(Day, day.End, shanghai(t)), 0, demand{want: 1})
		}, outcome{Status: Outside, Version: 0}},
	}
	for _, step := range steps {
		if diff := cmp.Diff(step.want, step.send()); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	for _, key := range client.Keys(t.Context(), "*").Val() {
		end := day.End
		if ttl := client.ExpireTime(t.Context(), key).Val(); ttl != time.Duration(end.AddDate(0, 0, 1).Unix())*time.Second && ttl != time.Duration(end.AddDate(0, 0, 2).Unix())*time.Second {
			t.Errorf("%s expires at %s, want a day after its window", key, ttl)
		}
	}
}

func TestStaleRequestsChangeNothing(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	s := redisStand(server)(t).(*Redis)
	day := today(t, client)
	exchange(t, s, day, 0, demand{want: 4})
	exchange(t, s, day, 0, demand{want: 2, report: Report{Version: 1, Acked: 4, Local: 4}})

	for _, q := range []int64{1, 2} { // the first request once more, late, and the second one doubled
		s.q.Store(q - 1)
		_, err := s.try(t.Context(), &Request{App: "wx1", Windows: []WindowReport{{Window: day}}, Counters: []Report{
			{Name: "a", Limit: 10, Version: 1, Acked: 4, Local: 4},
		}})
		if !errors.Is(err, errStale) {
			t.Errorf("request %d once more: %v, want %v", q, err, errStale)
		}
	}
	s.q.Store(100)
	if got := exchange(t, s, day, 0, demand{report: Report{Version: 2, Acked: 6, Local: 6}}); got.Used != 6 {
		t.Errorf("used %d after a late request, want 6", got.Used)
	}
}

// Parts of two lives of a counter in one process are apart.
func TestLives(t *testing.T) {
	server := redistest.Start(t)
	s := patientStand(server)(t)
	day := today(t, server.Client(t))
	for i, life := range []string{"", "1", "2"} {
		a, err := s.Exchange(t.Context(), &Request{App: "wx1", Life: life, Want: 2, Windows: []WindowReport{{Window: day}}, Counters: []Report{{Name: "a", Limit: 10}}})
		if err != nil || a.Counters[0].Used != 2*int64(i+1) {
			t.Errorf("life %q: %+v, %v, want %d used", life, a, err, 2*(i+1))
		}
	}
}

// The generation of every window is answered, whether or not a counter of it was asked for.
func TestGenerationsWithoutCounters(t *testing.T) {
	server := redistest.Start(t)
	open := patientStand(server)
	day := today(t, server.Client(t))
	month := windowAt(Month, day.Start, shanghai(t))
	r := &Request{App: "wx1", Windows: []WindowReport{{Window: month}, {Window: day, Generation: 5}}}
	for _, want := range [][]int64{{0, 5}, {0, 7}} {
		r.Windows[1].Generation = want[1]
		if _, err := open(t).Exchange(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		r.Windows[1].Generation = 0
		a, err := open(t).Exchange(t.Context(), r)
		if err != nil || !slices.Equal(a.Generations, want) || a.Status != OK {
			t.Errorf("%+v, %v, want generations %v", a, err, want)
		}
	}
}
