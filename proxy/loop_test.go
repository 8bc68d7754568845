package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wxproxy/limits"
)

const loopTime = 600 * time.Millisecond

// loopStand is a gateway whose fuse has a short time, before a WeChat that answers what says is said.
type loopStand struct {
	*gateway
	says     atomic.Value // string
	executed atomic.Int64
	loops    chan Loop
}

func newLoopStand(t *testing.T, change func(*Options)) *loopStand {
	t.Helper()
	s := &loopStand{loops: make(chan Loop, 64)}
	s.says.Store(`{"errcode":40003,"errmsg":"invalid openid hint: [oCANARY0openid0of0a0user000001] rid: 617682e0-09059ac5-34a8e2ea"}`)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.executed.Add(1)
		drain(r.Body)
		text := s.says.Load().(string)
		if r.URL.Query().Get("openid") == "good" {
			text = okText
		}
		w.Header()["Content-Type"] = jsonType
		say(w, text)
	}))
	t.Cleanup(upstream.Close)
	s.gateway = newGateway(t, upstream.URL, func(o *Options) {
		o.Fuse, o.LoopTime, o.Looping = limits.FuseOn, loopTime, func(l Loop) { s.loops <- l }
		if change != nil {
			change(o)
		}
	})
	return s
}

const badCall = "/cgi-bin/user/info?openid=bad&access_token="

// loop makes calls until the fuse has tripped, and returns how many.
func (s *loopStand) loop(t *testing.T) int {
	t.Helper()
	for n := 1; n <= 10_000; n++ {
		s.do(t, "GET", badCall+fmt.Sprint(n), "")
		select {
		case l := <-s.loops:
			if want := (Loop{App: "shop", AppID: "wx0123456789abcdef", Rule: "user.info", Errcode: 40003, Refuses: l.Refuses}); l != want {
				t.Fatalf("told of %+v, want %+v", l, want)
			}
			return n
		default:
		}
		if n > 150 {
			time.Sleep(loopTime / 40) // the loop must last as long
		}
	}
	t.Fatal("not tripped")
	return 0
}

// A loop is refused with WeChat's own errcode and errmsg and nothing that is of one call, is not counted, and goes
// on to be tried. Other calls of the same caller pass.
func TestLoopIsRefused(t *testing.T) {
	t.Parallel()
	s := newLoopStand(t, nil)
	began := time.Now()
	if n := s.loop(t); n < 200 || n > 400 && time.Since(began) < 10*loopTime { // else a run has begun anew
		t.Errorf("tripped after %d calls, want 200 over %s", n, loopTime)
	}
	executed, counted := s.executed.Load(), s.limiter.counted(t)
	res, text := s.do(t, "GET", badCall+"another", "")
	for range 5 {
		if res.Header.Get("X-Wxproxy-Decision") != "pass" {
			break
		}
		executed, counted = s.executed.Load(), s.limiter.counted(t) // it was a probe
		res, text = s.do(t, "GET", badCall+"another", "")
	}
	if text != `{"errcode":40003,"errmsg":"invalid openid"}` || res.StatusCode != http.StatusOK {
		t.Errorf("a refused call is answered %d %s", res.StatusCode, text)
	}
	for name, want := range map[string]string{"X-Wxproxy-Decision": "refused-fuse", "X-Wxproxy-Reason": "fuse", "X-Wxproxy-Rule": "user.info", "Retry-After": "1", "Content-Type": jsonType[0]} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if s.executed.Load() != executed || s.limiter.counted(t) != counted {
		t.Error("a refused call was sent or counted")
	}
	s.do(t, "GET", badCall, "")
	if e, err := s.h.Explain(t.Context(), Question{AppID: testAppID, Method: "GET", Target: "/cgi-bin/user/info?openid=bad"}); err != nil || e.Decision != refusedFuse || e.Reason != Looping || e.Errcode != 40003 {
		t.Errorf("explained as %+v, %v", e, err)
	}
	if res, _ := s.do(t, "GET", "/cgi-bin/user/info?openid=good", ""); res.Header.Get("X-Wxproxy-Decision") != "pass" {
		t.Error("another call of the rule was refused")
	}
	if res, _ := s.do(t, "GET", "/cgi-bin/menu/get?openid=bad", ""); res.Header.Get("X-Wxproxy-Decision") != "pass" {
		t.Error("a call of another rule was refused")
	}
	before := s.executed.Load()
	began = time.Now()
	for time.Since(began) < 3*loopTime {
		s.do(t, "GET", badCall, "")
	}
	if probes := s.executed.Load() - before; probes < 1 || probes > int64(time.Since(began)/loopTime)+1 {
		t.Errorf("%d probes in %s, want one in each %s", probes, time.Since(began), loopTime)
	}
}

// Once WeChat answers otherwise, the first probe ends it.
func TestLoopEnds(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]string{
		"success": okText, "another errcode": `{"errcode":45009,"errmsg":"reach max api daily quota limit"}`, "busy": `{"errcode":-1,"errmsg":"system error"}`, "another loop": `{"errcode":40007,"errmsg":"invalid media_id"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLoopStand(t, nil)
			s.loop(t)
			s.says.Store(says)
			deadline := time.Now().Add(10 * time.Second)
			for refused := true; refused; {
				res, _ := s.do(t, "GET", badCall, "")
				if refused = res.Header.Get("X-Wxproxy-Decision") == refusedFuse; refused && time.Now().After(deadline) {
					t.Fatal("still refused")
				}
			}
			if l := <-s.loops; !l.Ended || l.Rule != "user.info" {
				t.Errorf("told of %+v, want an end", l)
			}
			if res, _ := s.do(t, "GET", badCall, ""); res.Header.Get("X-Wxproxy-Decision") != "pass" {
				t.Error("the call after the probe was refused")
			}
		})
	}
}

// With watch a loop is told and sent; so it is for a rule that is a shadow. off looks for none, and a reload of it
// ends what it refuses.
func TestLoopModes(t *testing.T) {
	t.Parallel()
	shadow := func(o *Options) {
		for _, rule := range o.Limiter.Rules(testAppID).Rules {
			rule.Shadow = true
		}
	}
	for name, change := range map[string]func(*Options){
		"watch":   func(o *Options) { o.Fuse = limits.FuseWatch },
		"default": func(o *Options) { o.Fuse = limits.FuseDefault },
		"rule": func(o *Options) {
			o.Limiter.Rules(testAppID).Rule("user.info").Fuse = limits.FuseWatch
		},
		"shadow": shadow,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLoopStand(t, change)
			s.loop(t)
			before := s.executed.Load()
			for range 50 {
				if res, text := s.do(t, "GET", badCall, ""); res.Header.Get("X-Wxproxy-Decision") != "pass" || !strings.Contains(text, "rid: ") {
					t.Fatalf("%s: %s, want WeChat's own answer", res.Header.Get("X-Wxproxy-Decision"), text)
				}
			}
			if n := s.executed.Load() - before; n != 50 {
				t.Errorf("%d of 50 were sent", n)
			}
		})
	}
	s := newLoopStand(t, nil)
	s.loop(t)
	c := s.h.settings.Load().Config
	c.Fuse = limits.FuseOff
	if err := s.h.Configure(c); err != nil {
		t.Fatal(err)
	}
	if res, _ := s.do(t, "GET", badCall, ""); res.Header.Get("X-Wxproxy-Decision") != "pass" {
		t.Error("refused after a reload with fuse: off")
	}
}

// What looks like a loop and is none: different bodies or queries, tokens that WeChat calls dead, calls of the
// gateway's own, errcodes that time mends.
func TestNoLoop(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, says string
		call       func(s *loopStand, n int)
	}{
		{"bodies", `{"errcode":43004,"errmsg":"require subscribe"}`, func(s *loopStand, n int) {
			s.do(t, "POST", "/cgi-bin/user/info", fmt.Sprintf(`{"touser":"o%d"}`, n))
		}},
		{"queries", `{"errcode":40003,"errmsg":"invalid openid"}`, func(s *loopStand, n int) {
			s.do(t, "GET", fmt.Sprintf("/cgi-bin/user/info?openid=o%d", n), "")
		}},
		{"large bodies", `{"errcode":40009,"errmsg":"invalid image size"}`, func(s *loopStand, _ int) {
			s.do(t, "POST", "/cgi-bin/user/info", strings.Repeat("x", pieceBytes+1))
		}},
		{"dead token", `{"errcode":40001,"errmsg":"invalid credential"}`, func(s *loopStand, _ int) { s.do(t, "GET", badCall, "") }},
		{"minute's limit", `{"errcode":45011,"errmsg":"api minute-quota reach limit"}`, func(s *loopStand, _ int) { s.do(t, "GET", badCall, "") }},
		{"our own", `{"errcode":40003,"errmsg":"invalid openid"}`, func(s *loopStand, _ int) {
			if _, _, err := s.h.Post(t.Context(), testAppID, "/cgi-bin/user/info", []byte(`{}`)); err != nil {
				t.Error(err)
			}
		}},
		{"successes between", `{"errcode":40003,"errmsg":"invalid openid"}`, func(s *loopStand, n int) {
			s.do(t, "GET", badCall, "")
			if n%50 == 0 {
				s.do(t, "GET", "/cgi-bin/user/info?openid=good", "")
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newLoopStand(t, func(o *Options) { o.LoopTime = time.Millisecond * 100 })
			s.says.Store(tt.says)
			for n := range 300 {
				tt.call(s, n+1)
				if n%50 == 49 {
					time.Sleep(25 * time.Millisecond) // as long as a loop must last
				}
			}
			if len(s.loops) > 0 {
				t.Errorf("told of %+v", <-s.loops)
			}
		})
	}
}

// The answer that refused calls get has an errcode and an errmsg, whatever WeChat said.
func TestAgain(t *testing.T) {
	for said, want := range map[string]string{
		`{"errcode":40003,"errmsg":"invalid openid rid: 617682e0-09059ac5-34a8e2ea"}`:                             `{"errcode":40003,"errmsg":"invalid openid"}`,
		`{"errcode":40003,"errmsg":"invalid openid oABCDEFGHIJKLMNOPQRSTUVWXYZab of [oABCDEFGHIJKLMNOPQRSTUVW]"}`: `{"errcode":40003,"errmsg":"invalid openid * of *"}`,
		`{"base_resp":{"errcode":40003,"errmsg":"no such device"}}`:                                               `{"errcode":40003,"errmsg":"no such device"}`,
		`{"errcode":"40003","errmsg":"\u003ca\"b\\ 中文"}`:                                                          `{"errcode":40003,"errmsg":"\u003ca\"b\\ ??????"}`,
		`{"errcode":40003,"errmsg":"` + strings.Repeat("very long ", 100) + `"}`:                                  `{"errcode":40003,"errmsg":"` + strings.TrimSpace(strings.Repeat("very long ", 20)) + `"}`,
		`{"errcode":40003,"errm`: `{"errcode":40003,"errmsg":""}`,
	} {
		a := answer{text: []byte(said), errcode: 40003}
		if got := a.again(); got != want {
			t.Errorf("%s again: %s, want %s", said, got, want)
		}
	}
}
