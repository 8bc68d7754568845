package admin

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// raw sends a request byte by byte and returns the status of the answer.
func raw(t *testing.T, address, request string) int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// A name that was rebound to this machine is the page's own, and in the Host.
func TestHost(t *testing.T) {
	var mu sync.Mutex
	var refused []Refusal
	s := newStand(t, func(o *Options) {
		o.Hosts = []string{"gateway.example.com", "10.1.2.3"}
		o.Refused = func(r Refusal) {
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, r)
		}
	})
	address := s.server.Listener.Addr().String()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{"/metrics", "/-/healthy", "/-/ready", "/api/v1/usage", "/", "/elsewhere"}
	for _, tt := range []struct {
		host string
		ok   bool
	}{
		{address, true},
		{"127.0.0.1", true},
		{"127.0.0.1:9999", true}, // as a forwarded port
		{"localhost:" + port, true},
		{"LOCALHOST", true},
		{"[::1]:" + port, true},
		{"gateway.example.com", true},
		{"Gateway.Example.com:443", true},
		{"10.1.2.3:8081", true},

		{"evil.example", false},
		{"evil.example:" + port, false},
		{"127.0.0.1.evil.example", false},
		{"localhost.evil.example", false},
		{"localhost.", false},
		{"sub.gateway.example.com", false},
		{"gateway.example.com.", false},
		{"api.weixin.qq.com", false},
		{"10.1.2.4", false},
		{"127.0.0.2:" + port, false}, // not where the request came in
		{"127.1", false},
		{"0.0.0.0:" + port, false},
		{"2130706433", false},
		{"0x7f.1", false},
		{"0177.0.0.1", false},
		{"[::ffff:127.0.0.1]:" + port, false},
		{"[::ffff:7f00:1]", false},
		{"[0:0:0:0:0:0:0:1]", false},
		{"[::]", false},
		{"[::1]x", false},
		{"[localhost]", false},
		{"::1", false},
		{"", false},
	} {
		for _, target := range targets {
			status := raw(t, address, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer correct\r\nConnection: close\r\n\r\n", target, tt.host))
			if got := status != http.StatusMisdirectedRequest; got != tt.ok {
				t.Errorf("Host %q, %s = %d, want 421: %t", tt.host, target, status, !tt.ok)
			}
		}
	}
	mu.Lock()
	refused = slices.Clone(refused)
	mu.Unlock()
	if want := (Refusal{Reason: WrongHost, Client: "127.0.0.1", Host: "evil.example"}); len(refused) != 23*len(targets) || refused[0] != want {
		t.Errorf("%d requests were reported as refused, first %v, want %d and %v", len(refused), refused[0], 23*len(targets), want)
	}
	_, metrics := s.do(t, "GET", "/metrics")
	if want := fmt.Sprintf(`wxproxy_admin_refused_total{reason="wrong-host"} %d`+"\n", len(refused)); !strings.Contains(metrics, want) {
		t.Errorf("metrics lack %s", want)
	}
	for _, tt := range []struct {
		request string
		want    int
	}{
		{"GET /-/healthy HTTP/1.0\r\n\r\n", 200}, // a load balancer's check
		{"GET /-/healthy HTTP/1.0\r\nHost: evil.example\r\n\r\n", 421},
		{"GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 421},
	} {
		if status := raw(t, address, tt.request); status != tt.want {
			t.Errorf("%q = %d, want %d", tt.request, status, tt.want)
		}
	}
}

// A listener on every address is named by that one at which a request came in.
func TestHostIsTheAddressOfTheConnection(t *testing.T) {
	a := New(Options{Token: "correct", Metrics: NewMetrics(Build{Version: "test"})})
	for _, tt := range []struct {
		local, host string
		want        int
	}{
		{"10.0.0.5:8081", "10.0.0.5:8081", 200},
		{"10.0.0.5:8081", "10.0.0.5", 200},
		{"10.0.0.5:8081", "10.0.0.6:8081", 421},
		{"[::ffff:10.0.0.5]:8081", "10.0.0.5:8081", 200}, // as Go writes IPv4 on a dual-stack listener
		{"[2001:db8::5]:8081", "[2001:db8::5]:8081", 200},
		{"[2001:db8::5]:8081", "[2001:db8:0::5]:8081", 421},
		{"127.0.0.2:8081", "127.0.0.2:8081", 200},
	} {
		r := httptest.NewRequest(http.MethodGet, "/-/healthy", nil)
		r.Host = tt.host
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tt.local))))
		w := httptest.NewRecorder()
		if a.ServeHTTP(w, r); w.Code != tt.want {
			t.Errorf("to %s with Host %s: %d, want %d", tt.local, tt.host, w.Code, tt.want)
		}
	}
}

// A page of the gateway's own may act, with the token. One of another site may not, even with it.
func TestOrigin(t *testing.T) {
	s := newStand(t)
	own := s.server.URL
	for _, tt := range []struct {
		name, method, target, site, origin string
		want                               int
		mode                               string
	}{
		{"our page", "POST", "/-/reload", "same-origin", own, 200, ""},
		{"our page, in a browser that tells only the origin", "POST", "/-/reload", "", own, 200, ""},
		{"our page asks", "GET", "/api/v1/usage", "same-origin", "", 200, ""},
		{"a link to us", "GET", "/-/ready", "cross-site", "", 200, "navigate"},
		{"an image of another site", "GET", "/metrics", "cross-site", "", 403, "no-cors"},
		{"a script of another port", "GET", "/api/v1/usage", "same-site", "http://127.0.0.1:1", 403, "cors"},
		{"a form of another site", "POST", "/-/reload", "cross-site", "https://evil.example", 403, "navigate"},
		{"a program", "POST", "/-/reload", "", "", 200, ""},
		{"another site", "POST", "/-/reload", "cross-site", "https://evil.example", 403, ""},
		{"another site, in a browser that tells only the origin", "POST", "/-/reload", "", "https://evil.example", 403, ""},
		{"another port of this machine", "POST", "/-/reload", "same-site", "http://127.0.0.1:1", 403, ""},
		{"a sandboxed frame", "POST", "/api/v1/forget?app=wx2", "", "null", 403, ""},
		{"before anything else", "POST", "/elsewhere", "cross-site", "https://evil.example", 403, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			header := []string{"Authorization", "Bearer correct"}
			if tt.site != "" {
				header = append(header, "Sec-Fetch-Site", tt.site)
			}
			if tt.mode != "" {
				header = append(header, "Sec-Fetch-Mode", tt.mode)
			}
			if tt.origin != "" {
				header = append(header, "Origin", tt.origin)
			}
			if status, body := s.do(t, tt.method, tt.target, header...); status != tt.want {
				t.Errorf("%s %s = %d %s, want %d", tt.method, tt.target, status, body, tt.want)
			}
		})
	}
}

// Without a token the metrics are for this machine, not for a proxy on it.
func TestMetricsThroughAProxy(t *testing.T) {
	s := newStand(t, func(o *Options) { o.Hosts = []string{"gateway.example.com"} })
	address := s.server.Listener.Addr().String()
	for _, tt := range []struct {
		head string
		want int
	}{
		{"Host: localhost\r\n", 200},
		{"Host: gateway.example.com\r\n", 401},
		{"Host: localhost\r\nX-Forwarded-For: 10.0.0.9\r\n", 401},
		{"Host: localhost\r\nForwarded: for=10.0.0.9\r\n", 401},
		{"Host: localhost\r\nX-Real-IP: 10.0.0.9\r\n", 401},
		{"Host: localhost\r\nVia: 1.1 proxy\r\n", 401},
		{"Host: localhost\r\nVia: 1.1 proxy\r\nAuthorization: Bearer correct\r\n", 200},
	} {
		if status := raw(t, address, "GET /metrics HTTP/1.1\r\nConnection: close\r\n"+tt.head+"\r\n"); status != tt.want {
			t.Errorf("%q = %d, want %d", tt.head, status, tt.want)
		}
	}
}

// ask sends a request with a token from an address, and tells the status and how long the answer took.
func ask(a *Admin, from, token string) (int, time.Duration) {
	begun := time.Now()
	r := httptest.NewRequest(http.MethodPost, "/-/reload", nil)
	r.Host, r.RemoteAddr = "localhost", from
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w.Code, time.Since(begun)
}

func TestWrongTokensSlowDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // covers refused and got
		var refused []Refusal
		a := New(Options{Token: "correct", Metrics: NewMetrics(Build{Version: "test"}), Reload: func(context.Context) error { return nil }, Refused: func(r Refusal) {
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, r)
		}})
		const attacker, operator = "10.0.0.9:1000", "10.0.0.8:1000"
		for i := range 12 {
			want := time.Duration(0)
			if i >= 10 {
				want = time.Second
			}
			if status, took := ask(a, attacker, "wrong"); status != 401 || took != want {
				t.Errorf("wrong token %d: %d after %s, want 401 after %s", i+1, status, took, want)
			}
		}
		for _, from := range []string{operator, attacker} { // a client with an old token may be beside the operator
			if status, took := ask(a, from, "correct"); status != 200 || took != 0 {
				t.Errorf("right token from %s: %d after %s, want 200 at once", from, status, took)
			}
		}
		if want := (Refusal{Reason: WrongToken, Client: "10.0.0.9"}); len(refused) != 12 || refused[11] != want {
			t.Errorf("refused: %v, want 12 of %v", refused, want)
		}

		// Many at once learn no faster: what does not wait is not compared.
		var wg sync.WaitGroup
		got := make(map[string]int)
		for i := range 100 {
			wg.Go(func() {
				status, took := ask(a, fmt.Sprintf("10.0.0.9:%d", 2000+i), "guess")
				mu.Lock()
				defer mu.Unlock()
				got[fmt.Sprint(status, " ", took)]++
			})
		}
		time.Sleep(wrongDelay / 2)
		if status, took := ask(a, attacker, "correct"); status != 429 || took != 0 {
			t.Errorf("right token among ten wrong ones of one client: %d after %s, want 429 at once", status, took)
		}
		if status, took := ask(a, operator, "correct"); status != 200 || took != 0 {
			t.Errorf("right token of another client meanwhile: %d after %s, want 200 at once", status, took)
		}
		wg.Wait()
		if diff := cmp.Diff(map[string]int{"401 1s": 10, "429 0s": 90}, got); diff != "" {
			t.Errorf("100 guesses at once (-want +got):\n%s", diff)
		}

		time.Sleep(attemptsLast + time.Second)
		if status, took := ask(a, attacker, "wrong"); status != 401 || took != 0 {
			t.Errorf("a wrong token after a quiet time: %d after %s, want 401 at once", status, took)
		}
	})
}

// A client that shows nothing asks what is wanted.
func TestNoTokenIsNoWrongToken(t *testing.T) {
	s := newStand(t, func(o *Options) { o.Refused = func(r Refusal) { t.Errorf("refused %v, want no report", r) } })
	for range 2 * freeAttempts {
		if status, _ := s.do(t, "POST", "/-/reload"); status != 401 {
			t.Fatalf("without a token: %d, want 401", status)
		}
	}
}

// The memory of wrong tokens is bounded, and one client of IPv6 is a network.
func TestAttemptsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(Options{Token: "correct", Metrics: NewMetrics(Build{Version: "test"})})
		for i := range maxAttempters + 100 {
			time.Sleep(time.Millisecond)
			ask(a, fmt.Sprintf("[2001:db8:%x::1]:1", i), "wrong")
		}
		if n := len(a.attempts.by); n != maxAttempters {
			t.Errorf("%d clients are known, want %d", n, maxAttempters)
		}
		for i := range freeAttempts {
			ask(a, fmt.Sprintf("[2001:db8::%x]:1", i), "wrong")
		}
		if _, took := ask(a, "[2001:db8::ffff]:1", "wrong"); took != wrongDelay {
			t.Errorf("the eleventh of one network: after %s, want %s", took, wrongDelay)
		}
		if _, took := ask(a, "[2001:db8:fff0::1]:1", "wrong"); took != 0 {
			t.Errorf("another network: after %s, want at once", took)
		}
	})
}

func TestActionsAreReported(t *testing.T) {
	var actions []Action
	var fault error
	s := newOperated(t, func(o *Options) {
		o.TokenName = "configured"
		o.Acted = func(a Action) { actions = append(actions, a) }
		o.Reload = func(context.Context) error { return fault }
	})
	s.clears = ClearResult{Calls: []ClearCall{{Sent: true}}}
	post := func(target string) { s.do(t, "POST", target, "Authorization", "Bearer correct") }
	post("/-/reload")
	fault = fmt.Errorf("wxproxy.yaml:3:1: lisen: unknown key")
	post("/-/reload")
	post("/api/v1/clear?app=shop&rule=menu.create")
	s.clears.Calls[0] = ClearCall{ErrCode: 48006, Sent: true}
	post("/api/v1/clear?app=shop&rule=menu.create")
	post("/api/v1/forget?app=wx0123456789abcdef")
	s.unforgot = fmt.Errorf("dial tcp 10.0.0.7:6379: connection refused")
	post("/api/v1/forget?app=wx0123456789abcdef")
	s.do(t, "GET", "/api/v1/clear?app=shop", "Authorization", "Bearer correct") // changes nothing
	post("/api/v1/clear?app=nobody")

	by := func(name, app, rule, outcome string) Action {
		return Action{Name: name, App: app, Rule: rule, Outcome: outcome, Client: "127.0.0.1", Token: "configured"}
	}
	const appid = "wx0123456789abcdef"
	want := []Action{
		by("reload", "", "", "done"),
		by("reload", "", "", "a fault"),
		by("clear", "shop", "menu.create", "done"),
		by("clear", "shop", "menu.create", "errcode 48006: forbid to clear quota because of reaching the limit: WeChat grants no more clears this month; nothing was cleared, and it cost nothing"),
		by("forget", appid, "", "done"),
		by("forget", appid, "", "the store does not answer: some of it may be erased, and some not"),
	}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
}
