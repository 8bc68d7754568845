package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// call is one call of a service.
type call struct {
	app    int // of the fleet's
	path   string
	header http.Header
	empty  bool   // a POST without a body
	get    bool   // a GET, as each call to menuPath is
	body   string // of a POST; default message
}

// hear makes a call and returns what the caller hears: the decision and the errcode.
func (f *fleet) hear(ctx context.Context, p *process, c call) string {
	said, _ := f.answer(ctx, p, c)
	return said
}

// answer is hear with the header of the answer.
func (f *fleet) answer(ctx context.Context, p *process, c call) (said string, header http.Header) {
	method, body := http.MethodPost, io.Reader(strings.NewReader(message))
	switch {
	case c.get || c.path == menuPath:
		method, body = http.MethodGet, nil
	case c.empty:
		body = nil
	case c.body != "":
		body = strings.NewReader(c.body)
	}
	r, err := http.NewRequestWithContext(ctx, method, p.url+"/"+appid(c.app)+c.path, body)
	if err != nil {
		return err.Error(), nil
	}
	maps.Copy(r.Header, c.header)
	response, err := f.client.Do(r)
	if err != nil {
		return broken, nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return broken, nil
	}
	var answer struct{ Errcode int }
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Sprintf("HTTP %d %q", response.StatusCode, text), response.Header
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Sprintf("HTTP %d %d", response.StatusCode, answer.Errcode), response.Header
	}
	return fmt.Sprint(response.Header.Get("X-Wxproxy-Decision"), " ", answer.Errcode), response.Header
}

// load is calls by many callers at once, in turn to each of the gateways.
type load struct {
	call
	callers int
	calls   int             // in all; 0: until stop is closed
	stop    <-chan struct{} // nil: after calls
	pause   time.Duration   // of a caller after a call
	refused time.Duration   // of a caller after a call that was not sent, when that is longer
	only    []*process      // default all gateways
}

// heard is what callers heard and how often.
type heard struct {
	of      map[string]int
	slowest time.Duration
	at      time.Duration // when the slowest call began
}

func (h heard) String() string {
	return fmt.Sprintf("%v, slowest %s after %s", h.of, h.slowest.Round(time.Millisecond), h.at.Round(time.Millisecond))
}

func (h heard) total() (n int) {
	for _, times := range h.of {
		n += times
	}
	return n
}

func (f *fleet) fire(ctx context.Context, l load) heard {
	gateways := l.only
	if gateways == nil {
		gateways = f.gateways
	}
	start := time.Now()
	var mu sync.Mutex
	got := heard{of: make(map[string]int)}
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range l.callers {
		wg.Go(func() {
			for next.Add(1) <= int64(l.calls) || l.calls == 0 {
				select {
				case <-l.stop:
					return
				default:
				}
				begun := time.Now()
				said := f.hear(ctx, gateways[i%len(gateways)], l.call)
				took := time.Since(begun)
				mu.Lock()
				got.of[said]++
				if took > got.slowest {
					got.slowest, got.at = took, begun.Sub(start)
				}
				mu.Unlock()
				pause := l.pause
				if said != passed && said != alone {
					pause = max(pause, l.refused)
				}
				if pause > 0 {
					time.Sleep(pause)
				}
			}
		})
	}
	wg.Wait()
	return got
}
