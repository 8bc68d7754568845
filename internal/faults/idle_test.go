package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// What a gateway logs at the beginning and at the end of an outage.
const (
	logDown = "store unavailable"
	logUp   = "store available again"
)

// outages are the ways in which Redis goes away and comes back.
var outages = []struct {
	name      string
	gone, run func(f *fleet)
}{
	{"killed", func(f *fleet) { f.redis.Stop() }, func(f *fleet) { f.redis.Restart() }},
	{"frozen", func(f *fleet) { f.redis.Freeze() }, func(f *fleet) { f.redis.Thaw() }},
}

// A gateway without any call notices within three seconds that Redis is gone: it logs it, /-/ready
// and wxproxy_store_up report it. The end of the outage it notices as soon.
func TestIdleGatewayNoticesAnOutage(t *testing.T) {
	t.Parallel()
	const promised = 3 * time.Second
	for _, outage := range outages {
		t.Run(outage.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, setup{gateways: 2, rules: []rule{{"large", textPath, "5000/day", ""}}})
			// The first has been called a while ago, the second never.
			if said := f.hear(t.Context(), f.gateways[0], call{path: textPath}); said != passed {
				t.Fatalf("a call is answered %s", said)
			}
			time.Sleep(idle)
			is := func(up float64) {
				t.Helper()
				for i, p := range f.gateways {
					if got := f.ready(t, p); (got == "ok") != (up == 1) {
						t.Errorf("gateway %d: /-/ready reports the store as %q", i, got)
					}
					if got, ok := metric(f.metrics(t, p), "wxproxy_store_up"); got != up || !ok {
						t.Errorf("gateway %d: wxproxy_store_up is %v, want %v", i, got, up)
					}
				}
			}
			is(1)
			outage.gone(f)
			noticed := make([]bool, len(f.gateways))
			var wg sync.WaitGroup
			for i, p := range f.gateways { // by the log alone: a question would be a request to the store
				wg.Go(func() {
					noticed[i] = within(t, promised, fmt.Sprint("gateway ", i, " has logged the outage"), func() bool { return p.logged(logDown) > 0 })
				})
			}
			wg.Wait()
			is(0)
			outage.run(f)
			for i, p := range f.gateways {
				within(t, promised, fmt.Sprint("gateway ", i, " has logged the end of the outage"), func() bool { return !noticed[i] || p.logged(logUp) > 0 })
			}
			is(1)
			for i, p := range f.gateways {
				if down, up := p.logged(logDown), p.logged(logUp); down != 1 || up != 1 {
					t.Errorf("gateway %d has logged the outage %d times and its end %d times, want once each", i, down, up)
				}
			}
		})
	}
}

// ready is what /-/ready reports of the store.
func (f *fleet) ready(t *testing.T, p *process) string {
	t.Helper()
	_, text := f.ask(t, p, http.MethodGet, "/-/ready")
	var answer struct{ Store string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("/-/ready is answered %q: %v", text, err)
	}
	return answer.Store
}

// One limited call a second is enough to notice an outage: a rule that goes on locally answers -1
// three times at most, and is sent from then on. The whole outage long it must not be refused.
func TestOneCallASecondInAnOutage(t *testing.T) {
	t.Parallel()
	const quota, calls, refused = 5000, 6, 3
	f := newFleet(t, setup{gateways: 2, rules: []rule{{"large", textPath, fmt.Sprint(quota, "/day"), ""}, {"small", sendPath, "500/day", ""}}})
	time.Sleep(26 * time.Second) // a gateway counts the fleet for 20 s, from its first heartbeat that was answered, before it goes on alone
	large, small := call{path: textPath}, call{path: sendPath}
	for _, outage := range outages {
		for _, p := range f.gateways {
			within(t, 3*time.Second, "both rules pass", func() bool {
				return f.hear(t.Context(), p, large) == passed && f.hear(t.Context(), p, small) == passed
			})
		}
		time.Sleep(idle)
		before := f.executed(0, textPath)
		outage.gone(f)
		var wg sync.WaitGroup
		for i, p := range f.gateways {
			wg.Go(func() {
				var got []string
				tick := time.NewTicker(time.Second)
				defer tick.Stop()
				for range calls {
					got = append(got, f.hear(t.Context(), p, large))
					<-tick.C
				}
				t.Logf("%s, gateway %d: %v", outage.name, i, got)
				for n, said := range got {
					if said != alone && (said != noStore || n >= refused) {
						t.Errorf("%s, gateway %d: call %d is answered %s, want %s, or %s up to the third", outage.name, i, n+1, said, alone, noStore)
					}
				}
				if said := f.hear(t.Context(), p, small); said != noStore {
					t.Errorf("%s, gateway %d: a small quota is answered %s, want %s", outage.name, i, said, noStore)
				}
			})
		}
		wg.Wait()
		if sent := f.executed(0, textPath) - before; sent < 2*(calls-refused) {
			t.Errorf("%s: WeChat has executed %d calls, want at least %d", outage.name, sent, 2*(calls-refused))
		}
		outage.run(f)
	}
	for _, p := range f.gateways {
		within(t, 3*time.Second, "both rules pass", func() bool {
			return f.hear(t.Context(), p, large) == passed && f.hear(t.Context(), p, small) == passed
		})
	}
	time.Sleep(idle)
	if counted, executed := f.counted(t, 0, "large", "d"), f.executed(0, textPath); counted < executed {
		t.Errorf("after the outages %d are counted, WeChat has executed %d", counted, executed)
	}
}
