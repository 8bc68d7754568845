package proxy

import (
	"io"
	"net/http"
	"testing"
)

// TestPanicsKeepNoPlace: a panic of the transport or of Record ends its call, whose place is free again.
func TestPanicsKeepNoPlace(t *testing.T) {
	const places = 20
	for _, tt := range []struct {
		name   string
		change func(*Options, *bool)
	}{
		{"transport", func(o *Options, broken *bool) {
			o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
				if *broken {
					panic("test")
				}
				return http.DefaultTransport.RoundTrip(r)
			})
		}},
		{"record", func(o *Options, broken *bool) {
			o.Record = func(*Record) {
				if *broken {
					panic("test")
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) { say(w, `{"errcode":0}`) })
			broken := true
			g := newGateway(t, u.URL, func(o *Options) {
				o.MaxInFlight = places
				tt.change(o, &broken)
			})
			for range places + 5 {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+"/cgi-bin/user/info", nil)
				if err != nil {
					t.Fatal(err)
				}
				if res, err := g.client.Do(r); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			}
			broken = false
			if _, body := g.do(t, "GET", "/cgi-bin/user/info", ""); body != `{"errcode":0}` {
				t.Errorf("after %d panics with %d places: %s, want WeChat's answer", places+5, places, body)
			}
			if n := g.h.inFlight.Load(); n != 0 {
				t.Errorf("%d calls in flight, want 0", n)
			}
		})
	}
}
