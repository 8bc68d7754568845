package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"wxproxy/admin"
	"wxproxy/limits"
)

// oneAnswer answers every Exchange the same.
type oneAnswer struct {
	limits.Counters
	answer *limits.Answer
	err    error
}

func (c oneAnswer) Exchange(context.Context, *limits.Request) (*limits.Answer, error) {
	return c.answer, c.err
}

// A request without an answer, or one whose first attempt had none, may have been applied or not.
func TestStoreTimes(t *testing.T) {
	t.Parallel()
	metrics := admin.NewMetrics(admin.Build{})
	for _, c := range []oneAnswer{
		{answer: &limits.Answer{}},
		{answer: &limits.Answer{Retried: true}},
		{err: &limits.StoreError{Text: "OOM"}},
		{err: errors.New("i/o timeout")},
		{err: errors.New("i/o timeout")},
		{answer: &limits.Answer{}, err: &limits.DamagedError{}},
	} {
		timed := timedCounters{c, metrics}
		if a, err := timed.Exchange(t.Context(), nil); a != c.answer || !errors.Is(err, c.err) {
			t.Errorf("Exchange = %v, %v, want %v, %v", a, err, c.answer, c.err)
		}
	}
	limiter := limits.New(limits.Options{Counters: silent{}})
	defer func() { _ = limiter.Close(t.Context()) }()
	a := admin.New(admin.Options{
		Metrics: metrics, Apps: func() []admin.App { return nil }, Limiter: limiter,
		Stop: func() bool { return false },
	})
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	a.ServeHTTP(w, r)
	for _, want := range []string{
		`wxproxy_store_duration_seconds_count{op="count",result="ok"} 3`, `wxproxy_store_duration_seconds_count{op="count",result="error"} 1`,
		`wxproxy_store_duration_seconds_count{op="count",result="no_answer"} 2`, `wxproxy_store_indeterminate_total 3`,
	} {
		if !strings.Contains(w.Body.String(), want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// silent is a store that says nothing.
type silent struct{ limits.Counters }

func (silent) Patience() time.Duration                  { return time.Second }
func (silent) Heartbeat(context.Context) (int64, error) { return 0, nil }
func (silent) Read(context.Context, []limits.Query) ([]map[string]limits.CounterState, error) {
	return nil, nil
}
