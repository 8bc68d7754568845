package token_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/token"
)

func newTickets(tb testing.TB, st token.Store, now func() time.Time) *token.Tickets {
	tb.Helper()
	s := token.NewTickets(st, now)
	tb.Cleanup(s.Close)
	return s
}

// ticketAnswer is what WeChat says.
func ticketAnswer(text string, left time.Duration) []byte {
	return fmt.Appendf(nil, `{"errcode":0,"errmsg":"ok","ticket":"%s","expires_in":%d}`, text, left/time.Second)
}

// wantTicket checks that a Lead gave out a ticket.
func wantTicket(t *testing.T, s *token.Tickets, text string, left time.Duration) {
	t.Helper()
	answer, lead := s.Lead(t.Context(), appid, "jsapi")
	if want := string(ticketAnswer(text, left)); lead || string(answer) != want {
		t.Errorf("Lead = %s, lead %v, want %s", answer, lead, want)
	}
}

func wantLead(t *testing.T, s *token.Tickets) {
	t.Helper()
	if answer, lead := s.Lead(t.Context(), appid, "jsapi"); !lead || answer != nil {
		t.Fatalf("Lead = %s, lead %v, want the lead", answer, lead)
	}
}

func TestTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemoryStore()
		a, b := newTickets(t, st, nil), newTickets(t, st, time.Now)
		wantLead(t, a)
		a.Save(t.Context(), appid, "jsapi", ticketAnswer("one", 2*time.Hour))
		wantTicket(t, a, "one", 2*time.Hour)
		words := st.words.Load()
		time.Sleep(90*time.Minute - time.Second)
		wantTicket(t, a, "one", 30*time.Minute+time.Second)
		if got := st.words.Load(); got != words {
			t.Errorf("a ticket in memory cost %d words with the store", got-words)
		}
		wantTicket(t, b, "one", 30*time.Minute+time.Second)

		// Other kinds and other apps have tickets of their own.
		for _, id := range [][2]string{{appid, "wx_card"}, {"wx2", "jsapi"}} {
			if answer, lead := a.Lead(t.Context(), id[0], id[1]); !lead || answer != nil {
				t.Errorf("Lead of %s = %s, lead %v, want the lead", id, answer, lead)
			}
			a.Save(t.Context(), id[0], id[1], ticketAnswer(id[0]+id[1], 2*time.Hour))
			if answer, _ := b.Lead(t.Context(), id[0], id[1]); string(answer) != string(ticketAnswer(id[0]+id[1], 2*time.Hour)) {
				t.Errorf("Lead of %s = %s", id, answer)
			}
		}

		time.Sleep(time.Second)
		wantLead(t, b) // 30 minutes are left
		b.Save(t.Context(), appid, "jsapi", ticketAnswer("two", 2*time.Hour))
		wantTicket(t, b, "two", 2*time.Hour)
		wantTicket(t, a, "two", 2*time.Hour)
		time.Sleep(3 * time.Hour)
		wantLead(t, a)
	})
}

// A ticket ages from the moment that it was asked for.
func TestTicketAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTickets(t, newMemoryStore(), nil)
		wantLead(t, s)
		time.Sleep(2 * time.Second)
		s.Save(t.Context(), appid, "jsapi", ticketAnswer("one", 2*time.Hour))
		wantTicket(t, s, "one", 2*time.Hour-2*time.Second)
	})
}

// WeChat gives the same ticket until it ends. It is not asked over and over then.
func TestTicketOfWeChatsOwnCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTickets(t, newMemoryStore(), nil)
		ends := time.Now().Add(2 * time.Hour)
		leads := 0
		for ; time.Now().Before(ends); time.Sleep(1100 * time.Millisecond) {
			if _, lead := s.Lead(t.Context(), appid, "jsapi"); lead {
				leads++
				s.Save(t.Context(), appid, "jsapi", ticketAnswer("one", time.Until(ends)))
			}
		}
		if leads > 15 {
			t.Errorf("%d fetches in the life of a ticket, want at most 15", leads)
		}
	})
}

// One call of the fleet fetches the ticket, and everybody gets it.
func TestTicketOnceForAFleet(t *testing.T) {
	url := redistest.Start(t).URL()
	var gateways []*token.Tickets
	for range 3 {
		gateways = append(gateways, newTickets(t, openStore(t, url), nil))
	}
	var leads atomic.Int32
	var wg sync.WaitGroup
	for i := range 600 {
		wg.Go(func() {
			s := gateways[i%3]
			answer, lead := s.Lead(t.Context(), appid, "jsapi")
			if lead {
				leads.Add(1)
				time.Sleep(50 * time.Millisecond) // WeChat's
				s.Save(t.Context(), appid, "jsapi", ticketAnswer("one", 2*time.Hour))
				return
			}
			if !strings.HasPrefix(string(answer), `{"errcode":0,"errmsg":"ok","ticket":"one","expires_in":7`) {
				t.Errorf("gateway %d: Lead = %s, want the ticket", i%3, answer)
			}
		})
	}
	wg.Wait()
	if got := leads.Load(); got != 1 {
		t.Errorf("%d calls fetched the ticket, want 1", got)
	}
}

// Where there is no ticket to be had those who wait are told at once, and the next one may try.
func TestTicketAbandoned(t *testing.T) {
	for _, end := range []struct {
		name string
		end  func(ctx context.Context, s *token.Tickets)
	}{
		{"abandoned", func(ctx context.Context, s *token.Tickets) { s.Abandon(ctx, appid, "jsapi") }},
		{"refused", func(ctx context.Context, s *token.Tickets) {
			s.Save(ctx, appid, "jsapi", []byte(`{"errcode":48001,"errmsg":"api unauthorized"}`))
		}},
	} {
		t.Run(end.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newMemoryStore()
				a, b := newTickets(t, st, nil), newTickets(t, st, nil)
				wantLead(t, a)
				var wg sync.WaitGroup
				began := time.Now()
				for range 20 {
					wg.Go(func() {
						if answer, lead := a.Lead(t.Context(), appid, "jsapi"); lead || answer != nil {
							t.Errorf("Lead = %s, lead %v, want neither", answer, lead)
						}
					})
				}
				time.Sleep(time.Second)
				end.end(t.Context(), a)
				wg.Wait()
				if took := time.Since(began); took != time.Second {
					t.Errorf("those who waited were told after %s, want 1s", took)
				}
				wantLead(t, b)
				b.Abandon(t.Context(), appid, "jsapi")
				wantLead(t, a)
				a.Save(t.Context(), appid, "jsapi", ticketAnswer("one", 2*time.Hour))
				wantTicket(t, b, "one", 2*time.Hour)
			})
		})
	}
}

// A leader that is never heard of again, here or on another gateway, costs the others 3 s, and
// after 5 s somebody else may lead.
func TestTicketLeaderDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemoryStore()
		a, b := newTickets(t, st, nil), newTickets(t, st, nil)
		wantLead(t, a)
		for _, s := range []*token.Tickets{a, b} {
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					began := time.Now()
					if answer, lead := s.Lead(t.Context(), appid, "jsapi"); lead || answer != nil || time.Since(began) > 3*time.Second+250*time.Millisecond {
						t.Errorf("Lead = %s, lead %v after %s, want neither after 3s", answer, lead, time.Since(began))
					}
				})
			}
			if s == b {
				wg.Wait()
			}
		}
		time.Sleep(2 * time.Second)
		wantLead(t, b)
		b.Save(t.Context(), appid, "jsapi", ticketAnswer("two", 2*time.Hour))
		a.Save(t.Context(), appid, "jsapi", ticketAnswer("one", time.Hour)) // it was only slow
		wantTicket(t, b, "two", 2*time.Hour)
		wantTicket(t, newTickets(t, st, nil), "two", 2*time.Hour)
		b.Save(t.Context(), appid, "jsapi", ticketAnswer("three", time.Hour))
		wantTicket(t, b, "two", 2*time.Hour)
	})
}

// A gateway that finds the lease free may be a moment late: somebody else has just fetched. And
// who has saved its ticket has given the lease back.
func TestTicketSavedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemoryStore()
		a := newTickets(t, st, nil)
		var once sync.Once
		b := newTickets(t, &between{st, func() {
			once.Do(func() {
				wantLead(t, a)
				a.Save(t.Context(), appid, "jsapi", ticketAnswer("one", 4*time.Second))
			})
		}}, nil)
		wantTicket(t, b, "one", 4*time.Second)
		time.Sleep(2 * time.Second)
		wantLead(t, a)
		a.Save(t.Context(), appid, "jsapi", ticketAnswer("two", 4*time.Second))
		time.Sleep(2 * time.Second)
		wantLead(t, b)
	})
}

// A client that goes away while it waits takes nobody with it.
func TestTicketClientsLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemoryStore()
		a, b := newTickets(t, st, nil), newTickets(t, st, nil)
		wantLead(t, a)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { b.Lead(ctx, appid, "jsapi") }) // waits for a, and the others for it
		synctest.Wait()
		wg.Go(func() { wantTicket(t, b, "one", 2*time.Hour-3*time.Second) }) // 2 s and a moment
		wg.Go(func() {
			began := time.Now()
			if answer, lead := b.Lead(ctx, appid, "jsapi"); answer != nil || lead || time.Since(began) != time.Second {
				t.Errorf("Lead = %s, lead %v after %s, want neither after 1s", answer, lead, time.Since(began))
			}
		})
		time.Sleep(2 * time.Second)
		a.Save(t.Context(), appid, "jsapi", ticketAnswer("one", 2*time.Hour))
		wg.Wait()
	})
}

// While no new ticket is to be had the old one will do, and WeChat is not asked by everybody.
func TestTicketOldOneWillDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTickets(t, newMemoryStore(), nil)
		wantLead(t, s)
		s.Save(t.Context(), appid, "jsapi", ticketAnswer("one", 2*time.Hour))
		time.Sleep(95 * time.Minute)
		wantLead(t, s)
		var wg sync.WaitGroup
		wg.Go(func() { wantTicket(t, s, "one", 25*time.Minute-time.Second) })
		time.Sleep(time.Second)
		s.Abandon(t.Context(), appid, "jsapi")
		wg.Wait()
		time.Sleep(10*time.Second - time.Nanosecond)
		wantTicket(t, s, "one", 25*time.Minute-11*time.Second)
		time.Sleep(time.Nanosecond)
		wantLead(t, s)
		time.Sleep(24 * time.Minute) // only 49 s are left
		wantLead(t, s)
		s.Abandon(t.Context(), appid, "jsapi")
		wantLead(t, s)
	})
}

func TestTicketAnswers(t *testing.T) {
	tests := []struct {
		name   string
		answer string
		want   string // of a ticket, "" for none
		left   time.Duration
	}{
		{"plain", `{"errcode":0,"errmsg":"ok","ticket":"abc","expires_in":7200}`, "abc", 2 * time.Hour},
		{"no errcode", `{"ticket":"abc","expires_in":7200}`, "abc", 2 * time.Hour},
		{"texts for numbers", ` {"errcode":"0","ticket":"abc","expires_in":"7200"}`, "abc", 2 * time.Hour},
		{"odd characters", `{"ticket":"a+/=<>&'@-_.~","expires_in":7200}`, "a+/=<>&'@-_.~", 2 * time.Hour},
		{"no end in sight", `{"ticket":"abc","expires_in":9223372036854775807}`, "abc", 24 * time.Hour},
		{"refused", `{"errcode":40001,"errmsg":"invalid credential","ticket":"abc","expires_in":7200}`, "", 0},
		{"busy", `{"errcode":-1,"errmsg":"system error"}`, "", 0},
		{"no ticket", `{"errcode":0,"errmsg":"ok","expires_in":7200}`, "", 0},
		{"no end", `{"errcode":0,"ticket":"abc"}`, "", 0},
		{"past end", `{"errcode":0,"ticket":"abc","expires_in":-1}`, "", 0},
		{"quotes", `{"ticket":"a\"b","expires_in":7200}`, "", 0},
		{"backslash", `{"ticket":"a\\b","expires_in":7200}`, "", 0},
		{"line end", `{"ticket":"a\nb","expires_in":7200}`, "", 0},
		{"not ASCII", `{"ticket":"票","expires_in":7200}`, "", 0},
		{"long", `{"ticket":"` + strings.Repeat("x", 1025) + `","expires_in":7200}`, "", 0},
		{"a page", `<html>`, "", 0},
		{"nothing", ``, "", 0},
		{"null", `null`, "", 0},
		{"very long", `{"ticket":"abc","expires_in":7200,"x":"` + strings.Repeat("x", 64<<10) + `"}`, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTickets(t, newMemoryStore(), nil)
				wantLead(t, s)
				s.Save(t.Context(), appid, "jsapi", []byte(tt.answer))
				if tt.want == "" {
					wantLead(t, s)
					return
				}
				wantTicket(t, s, tt.want, tt.left)
			})
		})
	}
}

// What somebody else has broken in the store is no worse than nothing.
func TestTicketForeignRecord(t *testing.T) {
	for _, raw := range []string{"x", "null", `{}`, `{"ticket":"a b","ends_ms":99999999999999}`, `{"ticket":"old","ends_ms":1}`, `{"ticket":"never ends","ends_ms":9223372036854775807}`, `{"ticket":"far","got_ms":0,"ends_ms":99999999999999}`} {
		st := newMemoryStore()
		st.put(appid, "ticket:jsapi", raw)
		s := newTickets(t, st, nil)
		wantLead(t, s)
		s.Save(t.Context(), appid, "jsapi", ticketAnswer("one", 2*time.Hour))
		if answer, lead := newTickets(t, st, nil).Lead(t.Context(), appid, "jsapi"); lead || !strings.Contains(string(answer), `"one"`) {
			t.Errorf("after %s: Lead = %s, lead %v, want the new ticket", raw, answer, lead)
		}
	}
}

// Without the store each gateway leads its own.
func TestTicketStoreDown(t *testing.T) {
	st := newMemoryStore()
	st.down.Store(true)
	for _, store := range []token.Store{nil, st} {
		synctest.Test(t, func(t *testing.T) {
			s := newTickets(t, store, nil)
			wantLead(t, s)
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() { wantTicket(t, s, "one", 2*time.Hour-time.Second) })
			}
			time.Sleep(time.Second)
			s.Save(t.Context(), appid, "jsapi", ticketAnswer("one", 2*time.Hour))
			wg.Wait()
			s.Abandon(t.Context(), appid, "jsapi") // twice ended is ended
			wantTicket(t, s, "one", 2*time.Hour-time.Second)
		})
	}
}

// Whenever the store fails, a call leads and its ticket is shared here at least.
func TestTicketStoreFails(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		for last := range int64(10) {
			t.Run(fmt.Sprintf("after %d words, lossy %v", last, lossy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					st := newMemoryStore()
					st.last, st.lossy = last, lossy
					a, b := newTickets(t, st, nil), newTickets(t, st, nil)
					wantLead(t, a)
					a.Save(t.Context(), appid, "jsapi", ticketAnswer("one", 2*time.Hour))
					wantTicket(t, a, "one", 2*time.Hour)
					st.last = 0
					time.Sleep(5 * time.Second) // what is left of a lease
					if answer, lead := b.Lead(t.Context(), appid, "jsapi"); lead {
						b.Save(t.Context(), appid, "jsapi", ticketAnswer("two", 2*time.Hour))
						wantTicket(t, b, "two", 2*time.Hour)
					} else if string(answer) != string(ticketAnswer("one", 2*time.Hour-5*time.Second)) {
						t.Errorf("Lead = %s, want the ticket of the other gateway", answer)
					}
				})
			})
		}
	}
}

// Kinds that nobody documents go past, as do names that the store does not take.
func TestTicketNotShared(t *testing.T) {
	s := newTickets(t, newMemoryStore(), nil)
	for _, id := range [][2]string{{appid, ""}, {appid, "JSAPI"}, {appid, "sdk"}, {"", "jsapi"}, {"a:b", "jsapi"}, {strings.Repeat("a", 65), "jsapi"}} {
		s.Save(t.Context(), id[0], id[1], ticketAnswer("one", 2*time.Hour))
		s.Abandon(t.Context(), id[0], id[1])
		if answer, lead := s.Lead(t.Context(), id[0], id[1]); answer != nil || lead {
			t.Errorf("Lead of %q = %s, lead %v, want neither", id, answer, lead)
		}
	}
}

func TestTicketsAreNotPrinted(t *testing.T) {
	s := newTickets(t, newMemoryStore(), nil)
	s.Save(t.Context(), appid, "jsapi", ticketAnswer("canary", 2*time.Hour))
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, s); strings.Contains(text, "canary") {
			t.Errorf("%s of %T is %s", format, s, text)
		}
	}
}

// Whatever WeChat answers, what is given out is JSON with the very ticket in it.
func FuzzTicketSave(f *testing.F) {
	for _, seed := range []string{string(ticketAnswer("one", 2*time.Hour)), `{"errcode":40001}`, `{"ticket":"\u003c\"","expires_in":"1"}`, `{"ticket":"x","expires_in":1e3}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := newTickets(t, nil, func() time.Time { return noon })
		s.Save(t.Context(), appid, "jsapi", []byte(text))
		answer, lead := s.Lead(t.Context(), appid, "jsapi")
		if lead {
			s.Abandon(t.Context(), appid, "jsapi")
			return
		}
		var in, out struct {
			ErrCode json.Number `json:"errcode"`
			Ticket  string      `json:"ticket"`
			Expires int64       `json:"expires_in"`
		}
		_ = json.Unmarshal([]byte(text), &in) // expires_in may be a text
		if err := json.Unmarshal(answer, &out); err != nil || out.Ticket != in.Ticket || out.ErrCode != "0" || out.Expires <= 0 || out.Expires > 86400 {
			t.Errorf("Save(%q), then Lead = %s", text, answer)
		}
	})
}

func BenchmarkTicketsLead(b *testing.B) {
	s := newTickets(b, nil, nil)
	s.Save(b.Context(), appid, "jsapi", ticketAnswer(strings.Repeat("x", 86), 2*time.Hour))
	b.ReportAllocs()
	for b.Loop() {
		if _, lead := s.Lead(b.Context(), appid, "jsapi"); lead {
			b.Fatal("it is not cached")
		}
	}
}
