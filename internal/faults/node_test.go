package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"wxproxy/limits"
	"wxproxy/sandbox"
)

// app is the one account of the tests that run limiters of their own.
const app = sandbox.DefaultAppID

// judge is WeChat inside the test, with a token for it.
type judge struct {
	*sandbox.Sandbox
	token string
}

func newJudge(t *testing.T, o sandbox.Options) *judge {
	t.Helper()
	o.Keep = -1
	j := &judge{Sandbox: sandbox.New(o)}
	j.fetch(t)
	return j
}

// fetch gets a token. Tokens end after two hours of the judge's clock.
func (j *judge) fetch(t *testing.T) {
	t.Helper()
	w := httptest.NewRecorder()
	j.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/cgi-bin/token?grant_type=client_credential&appid="+app+"&secret="+sandbox.DefaultSecret, nil))
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Token == "" {
		t.Fatalf("no token: %s", w.Body)
	}
	j.token = answer.Token
}

// execute makes one call and returns WeChat's errcode.
func (j *judge) execute(path string) int {
	w := httptest.NewRecorder()
	j.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path+"?access_token="+j.token, nil))
	var answer struct{ Errcode int }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		return -1
	}
	return answer.Errcode
}

// Paths that the judge answers to a GET.
const (
	groupsPath = "/cgi-bin/groups/get"
	tagsPath   = "/cgi-bin/tags/get"
)

// rules returns a ruleset of one rule for each path, of its quotas.
func rules(t *testing.T, zone *time.Location, quotas map[string][]string) *limits.Ruleset {
	t.Helper()
	profile := &limits.Profile{Name: "p"}
	for path, texts := range quotas {
		budget, err := limits.ParseBudget(texts...)
		if err != nil {
			t.Fatal(err)
		}
		profile.Rules = append(profile.Rules, &limits.Rule{Name: nameOf(path), Paths: []string{path}, Budget: budget, OnError: limits.StoreErrorRefuse})
	}
	table := &limits.Table{Zone: zone, Profiles: map[string]*limits.Profile{"p": profile}}
	set, err := table.Rules("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// nameOf is the name of the rule of a path, and of its counter.
func nameOf(path string) string {
	if name := map[string]string{groupsPath: "groups", tagsPath: "tags", menuPath: "menu", clearPath: "clear"}[path]; name != "" {
		return name
	}
	return strings.ReplaceAll(strings.TrimPrefix(path, "/cgi-bin/"), "/", "-")
}

// node is a gateway inside the test, whose clock may be wrong or moved.
type node struct {
	limiter *limits.Limiter
	now     func() time.Time
	judge   *judge
}

var nodes atomic.Int64

// newNode starts a gateway on counters. It is closed with the test.
func newNode(t *testing.T, j *judge, counters limits.Counters, now func() time.Time, set *limits.Ruleset) *node {
	t.Helper()
	n := &node{limiter: limits.New(limits.Options{Counters: counters, Now: now}), now: now, judge: j}
	n.limiter.Configure(map[string]*limits.Ruleset{app: set}, nil)
	t.Cleanup(func() { n.close(t) })
	return n
}

func (n *node) close(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
	defer cancel()
	if err := n.limiter.Close(ctx); err != nil {
		t.Error(err)
	}
}

// counters returns the counters of one more gateway in the Redis at an address.
func counters(t *testing.T, address string) *limits.Redis {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: address, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, Protocol: 2, DisableIdentity: true,
		DialTimeout: 200 * time.Millisecond, ReadTimeout: 250 * time.Millisecond, WriteTimeout: 250 * time.Millisecond,
	})
	t.Cleanup(func() { _ = client.Close() })
	return limits.NewRedis(client, "wxp:", fmt.Sprintf("node%04d", nodes.Add(1)))
}

// take asks for one call.
func (n *node) take(ctx context.Context, path string) (limits.Decision, limits.Hold) {
	return n.limiter.Take(ctx, limits.Call{App: app, Match: n.limiter.Rules(app).Match(path)})
}

// call does with a call what a gateway does: a grant that has ended before the call could be sent is
// given back and the call counted anew; else WeChat executes it. It returns the decision, with
// WeChat's errcode.
func (n *node) call(ctx context.Context, path string) (limits.Verdict, time.Duration, int) {
	for range 3 {
		d, hold := n.take(ctx, path)
		if !d.Verdict.Sent() {
			return d.Verdict, d.RetryAfter, 0
		}
		if limits.Past(n.now(), d.Deadline) {
			hold.GiveBack()
			continue
		}
		errcode := n.judge.execute(path)
		hold.Done(errcode)
		return d.Verdict, 0, errcode
	}
	return limits.RefusedStore, time.Second, 0
}

// clear has WeChat grant a clear of the whole account, and the gateway take that in as it does for a
// call to clear_quota.
func (n *node) clear(t *testing.T) {
	t.Helper()
	d, hold := n.take(t.Context(), clearPath)
	if !d.Verdict.Sent() || !n.judge.ClearQuota(app) {
		t.Fatalf("a clear: %s", d.Verdict)
	}
	n.limiter.Clear(app, d.Counted, "")
	hold.Done(0)
}
