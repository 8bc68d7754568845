package admin

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"wxproxy/token"
)

func wantMetrics(t *testing.T, body string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

// What operators have to act on: latches, clears, tokens.
func TestMetricsOfAccounts(t *testing.T) {
	o := newOperated(t, func(o *Options) {
		o.Tokens = func(_ context.Context, appids []string, fleet bool) ([]*token.State, error) {
			if fleet {
				t.Error("a scrape reads the tokens of the fleet from the store")
			}
			states := make([]*token.State, len(appids))
			states[0] = &token.State{Expires: midnight}
			states[1] = &token.State{Rejected: &token.Rejected{ErrCode: 40164}}
			states[2] = &token.State{}
			return states, nil
		}
	})
	o.lines[2].Latched = true // of mass
	_, body := o.do(t, "GET", "/metrics")
	wantMetrics(
		t, body,
		`wxproxy_latched{app="shop",rule="mass"} 1`,
		`wxproxy_clears_remaining{app="shop",kind="app"} 7`,
		`wxproxy_clears_remaining{app="shop",kind="rule"} 49`,
		`wxproxy_token_expires_timestamp_seconds{app="shop"} 1.7954784e+09`,
		`wxproxy_token_refresh_blocked{app="shop"} 0`,
		`wxproxy_token_refresh_blocked{app="wx0000000000000002"} 1`,
	)
	for _, unwanted := range []string{`wxproxy_latched{app="shop",rule="menu.create"}`, `blocked{app="gone"}`, `expires_timestamp_seconds{app="wx0000000000000002"}`} {
		if strings.Contains(body, unwanted) {
			t.Errorf("the metrics have %s", unwanted)
		}
	}
}

// Calls near their limit and calls that only shadow lets through are counted, of those that were sent.
func TestMetricsOfCalls(t *testing.T) {
	s := newStand(t)
	call := func(c Call) {
		c.App, c.Rule = "shop", "near"
		s.metrics.Call(c)
	}
	call(Call{Decision: "pass", Sent: 1, Quota: 10, Used: 7})
	call(Call{Decision: "pass", Sent: 1, Quota: 10, Used: 8, Duration: 30 * time.Millisecond, Upstream: 29800 * time.Microsecond})
	call(Call{Decision: "degraded", Sent: 1, Quota: 10, Used: 10})
	call(Call{Decision: "refused-quota", Quota: 10, Used: 10})
	call(Call{Decision: "pass", Sent: 1})
	call(Call{Decision: "shadow", Sent: 1, Quota: 10, Used: 11})
	s.metrics.Store("count", "ok", time.Millisecond)
	s.metrics.Store("count", "ok", time.Millisecond)
	s.metrics.Indeterminate()
	s.metrics.Watch(Process{InFlight: func() int { return 3 }, Spooled: func() int64 { return 4 }, Certificate: func() time.Time { return midnight }})
	_, body := s.do(t, "GET", "/metrics")
	wantMetrics(
		t, body,
		`wxproxy_quota_near_limit_total{app="shop",rule="near"} 3`,
		`wxproxy_shadow_refusals_total{app="shop",rule="near"} 1`,
		`wxproxy_overhead_seconds_bucket{le="0.00025"} 5`,
		`wxproxy_overhead_seconds_bucket{le="0.0001"} 4`,
		`wxproxy_store_duration_seconds_count{op="count",result="ok"} 2`,
		`wxproxy_store_indeterminate_total 1`,
		`wxproxy_requests_in_flight 3`,
		`wxproxy_spooled_bytes 4`,
		`wxproxy_tls_cert_not_after_timestamp_seconds 1.7954784e+09`,
	)
}

// A store that answers no question about gateways leaves the rest of the status as it is.
func TestStatusWithoutTheFleet(t *testing.T) {
	o := newOperated(t, func(o *Options) {
		o.Gateways = func(context.Context) (map[string]time.Time, error) {
			return nil, errors.New("dial tcp 10.0.0.7:6379: i/o timeout")
		}
		o.Reloaded = func() (time.Time, error) { return midnight, nil }
	})
	var s Status
	if status := o.ask(t, "GET", "/api/v1/status", &s); status != 200 || s.GatewaysError != "the store does not answer" || len(s.Accounts) != 4 {
		t.Errorf("status = %d, %q, %d accounts", status, s.GatewaysError, len(s.Accounts))
	}
}
