package limits

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"wxproxy/internal/redistest"
)

// A rule may have any name that CheckRuleName allows, also that of a field of ours.
func TestRuleWithTheNameOfAField(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	open := redisStand(server)
	a, b := open(t), open(t)
	day := today(t, client)
	key := "wxp:00000000:{wx1}:" + day.Name
	g, other := day.Start.UnixMilli()+1000, day.Start.UnixMilli()+2000
	if err := client.HSet(t.Context(), key, "g", g).Err(); err != nil { // a clear through a gateway of before 2026-12
		t.Fatal(err)
	}
	first, err := a.Exchange(t.Context(), &Request{
		App: "wx1", Want: 1, Windows: []WindowReport{{Window: day}}, Counters: []Report{{Name: "r", Limit: 10}},
	})
	if err != nil || first.Status != Again || first.Generations[0] != g || first.Damaged != 0 {
		t.Fatalf("a gateway that does not know of the clear: %+v, %v, want the status %d and generation %d", first, err, Again, g)
	}
	if err := client.HDel(t.Context(), key, "|g").Err(); err != nil { // where the script has moved it to
		t.Fatal(err)
	}
	if err := client.HSet(t.Context(), key, "s", "0 7 1").Err(); err != nil {
		t.Fatal(err)
	}
	if found, err := a.Read(t.Context(), []Query{{App: "wx1", Window: day}}); err != nil || found[0]["s"] != (CounterState{Generation: g}) {
		t.Errorf("Read = %+v, %v, want s with 0 used in generation %d", found, err, g)
	}
	if err := client.HDel(t.Context(), key, "s").Err(); err != nil {
		t.Fatal(err)
	}
	ask := func(s Counters, name string, generation, want int64) CounterState {
		t.Helper()
		answer, err := s.Exchange(t.Context(), &Request{
			App: "wx1", Want: want, Windows: []WindowReport{{Window: day, Generation: generation}},
			Counters: []Report{{Name: name, Limit: 10, Generation: generation}},
		})
		if err != nil || answer.Status != OK || answer.Damaged != 0 || answer.Generations[0] != generation {
			t.Fatalf("Exchange(%s) = %+v, %v, want it to be granted in generation %d", name, answer, err, generation)
		}
		return answer.Counters[0]
	}
	for i, name := range []string{"g", "r", "r@g", "g@g"} {
		if c := ask([]Counters{a, b}[i%2], name, g, 1); c.Used != 1 {
			t.Errorf("%s: used %d, want 1", name, c.Used)
		}
	}
	found, err := a.Read(t.Context(), []Query{{App: "wx1", Window: day}, {App: "wx1", Window: day, Names: []string{"g", "none"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(found[0]); !slices.Equal(got, []string{"g", "g@g", "r", "r@g"}) {
		t.Errorf("Read: counters %q, want g, g@g, r and r@g", got)
	}
	if got := names(found[1]); !slices.Equal(got, []string{"g"}) || found[1]["g"].Generation != g {
		t.Errorf("Read of some: %+v, want g in generation %d", found[1], g)
	}
	ask(b, "r", other, 1) // a clear through this gateway
	if c := ask(a, "g", other, 0); c.Generation != other || c.Used != 0 {
		t.Errorf("after a clear of the window: g = %+v, want 0 used in generation %d", c, other)
	}
}

func names(counters map[string]CounterState) []string { return slices.Sorted(maps.Keys(counters)) }

// A field that cannot be read costs no other counter anything, and its own counter one answer that
// says so: what the parts have is kept, and the gateways restore the rest.
func TestDamagedField(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	open := patientStand(server)
	day := today(t, client)
	key := "wxp:00000000:{wx1}:" + day.Name
	for i, text := range damagedRecords(day) {
		a, b := open(t), open(t)
		app := fmt.Sprint("wx", i)
		key := strings.Replace(key, "wx1", app, 1)
		send := func(s Counters, want int64, rs ...Report) *Answer {
			t.Helper()
			for i := range rs {
				rs[i].Limit = 1000
			}
			answer, err := s.Exchange(t.Context(), &Request{App: app, Want: want, Windows: []WindowReport{{Window: day}}, Counters: rs})
			if err != nil {
				t.Fatalf("%q: Exchange(%+v) = %v", text, rs, err)
			}
			return answer
		}
		send(a, 7, Report{Name: "r"}, Report{Name: "s"})
		send(b, 2, Report{Name: "r"})
		send(a, 0, Report{Name: "r", Version: 1, Acked: 7, Local: 7, Raise: 20})
		if err := client.HSet(t.Context(), key, "r", text).Err(); err != nil {
			t.Fatal(err)
		}

		found, err := a.Read(t.Context(), []Query{{App: app, Window: day}, {App: app, Window: day, Names: []string{"r", "s"}}})
		for i, counters := range found {
			if got := names(counters); !slices.Equal(got, []string{"s"}) || counters["s"].Used != 7 {
				t.Errorf("%q: Read %d: %+v, want the sound counter", text, i, counters)
			}
		}
		if damaged, ok := errors.AsType[*DamagedError](err); !ok || *damaged != (DamagedError{key, "r", text}) {
			t.Errorf("%q: Read = %v, want a DamagedError of %s, r", text, err, key)
		}

		if answer := send(b, 1, Report{Name: "s"}); answer.Damaged != 0 || answer.Counters[0].Used != 8 {
			t.Errorf("%q: another counter: %+v, want 8 used, and nothing damaged", text, answer)
		}
		answer := send(b, 1, Report{Name: "s", Version: 2, Others: 7, Acked: 1, Local: 1}, Report{Name: "r", Version: 2, Others: 7, Acked: 2, Local: 2})
		if answer.Damaged != 2 || answer.Status != OK || answer.Counters[1].Used != 7+2+1 {
			t.Errorf("%q: the damaged counter: %+v, want the second one reported, and 10 used", text, answer)
		}
		answer = send(a, 0, Report{Name: "r", Version: 9, Others: 13, Acked: 7, Local: 7})
		if answer.Damaged != 0 || !answer.Lost || answer.Counters[0].Used != 20 {
			t.Errorf("%q: a gateway that knows more: %+v, want 20 used, and nothing damaged any more", text, answer)
		}
		if _, err := a.Read(t.Context(), []Query{{App: app, Window: day}}); err != nil {
			t.Errorf("%q: Read once it is written anew = %v", text, err)
		}
	}
}

// The part of a gateway, the generation of a window and a counter without its field.
func TestOtherDamagedFields(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	s := patientStand(server)(t).(*Redis)
	day := today(t, client)
	key := "wxp:00000000:{wx1}:" + day.Name
	part := "a|" + s.gateway
	set := func(field, text string) {
		t.Helper()
		if err := client.HSet(t.Context(), key, field, text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	exchange(t, s, day, 0, demand{want: 4})
	for _, text := range []string{"nan 1 1", "0 9000000000000000000 4", "0 1", "garbage"} {
		set("a", "0 4 9")
		set(part, text)
		if got := exchange(t, s, day, 0, demand{report: Report{Version: 9, Acked: 4, Local: 4}}); got.Used != 8 {
			t.Errorf("part %q: used %d, want 8: a damaged part is no part", text, got.Used)
		}
		if got := exchange(t, s, day, 0, demand{report: Report{Version: 9, Acked: 4, Local: 3}}); got.Used != 7 {
			t.Errorf("part %q, one returned: used %d, want 7", text, got.Used)
		}
	}
	for _, text := range []string{"nan", "9000000000000000000", "-5", "5.5", ""} {
		set("|g", text)
		_, err := s.Read(t.Context(), []Query{{App: "wx1", Window: day}})
		if damaged, ok := errors.AsType[*DamagedError](err); !ok || damaged.Field != "|g" {
			t.Errorf("generation %q: Read = %v, want a DamagedError of |g", text, err)
		}
		if got := exchange(t, s, day, 0, demand{report: Report{Version: 9, Acked: 3, Local: 3}}); got.Status != OK || got.Generated != 0 {
			t.Errorf("generation %q: %+v, want an answer of generation 0", text, got)
		}
		if got := client.HGet(t.Context(), key, "|g").Val(); got != "0" {
			t.Errorf("generation %q: now %q, want it written anew", text, got)
		}
	}
	client.HDel(t.Context(), key, "a")
	a, err := s.Exchange(t.Context(), &Request{App: "wx1", Windows: []WindowReport{{Window: day}}, Counters: []Report{
		{Name: "a", Limit: 10, Acked: 3, Local: 2},
	}})
	if err != nil || a.Damaged != 1 || a.Counters[0].Used != 2 {
		t.Errorf("without the counter's field: %+v, %v, want it reported, and the part's 2 used", a, err)
	}
}
