package drift

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wxproxy/limits"
)

const (
	shop = "wx0123456789abcdef"
	send = "/cgi-bin/message/custom/send"
	menu = "/cgi-bin/menu/create"
)

// shanghai is the zone of the tables. A synctest bubble begins at 08:00 there.
var shanghai = time.FixedZone("CST", 8*60*60)

// profile has a rule of each sort.
func profile() *limits.Profile {
	rule := func(name, quota string, paths ...string) *limits.Rule {
		budget, err := limits.ParseBudget(strings.Split(quota, " ")...)
		if err != nil {
			panic(err)
		}
		return &limits.Rule{Name: name, Paths: paths, Budget: budget}
	}
	return &limits.Profile{Name: "shop", Rules: []*limits.Rule{
		rule("send", "5000/day", send),
		rule("menu", "1000/day 9000/month", menu, "/cgi-bin/menu/addconditional"),
		rule("token", "2000/day", "/cgi-bin/token"),
		rule("typing", "unknown", "/cgi-bin/message/custom/typing", "/cgi-bin/message/custom/typing/*"),
		rule("each", "100/day", "/cgi-bin/each/*"),
		rule("clear_quota", "10/month", "/cgi-bin/clear_quota"),
		rule("free", "unlimited", "/cgi-bin/free"),
		rule("denied", "denied", "/cgi-bin/denied"),
		rule("quota.get", "300/day", quotaPath),
		rule("sns", "100/day", "/sns/userinfo"),
		rule("other", "unknown", "/cgi-bin/*", "/sns/*"),
	}}
}

func ruleset(tb testing.TB) *limits.Ruleset {
	tb.Helper()
	table := &limits.Table{Zone: shanghai, Profiles: map[string]*limits.Profile{"shop": profile()}}
	rules, err := table.Rules("shop", nil)
	if err != nil {
		tb.Fatal(err)
	}
	return rules
}

// world is WeChat, the counters of a fleet and its store, as auditors see them.
type world struct {
	rules *limits.Ruleset

	mu     sync.Mutex
	ours   map[string]*count // by counter, of today
	events []Event
	told   []map[string]limits.Budget // of Adopt
	raises []string
	clears []string
	closed []closing // days that SettleLatch closed

	minutes []string // counters that SettleLatch was told to be limited by the minute

	clearsBegan []time.Time                // of ClearTo
	settleErr   error                      // of SettleLatch
	raise       func(counter string) error // nil error: goes on; may be nil

	wechat map[string]int64 // used of today, by path
	limit  map[string]int64
	asked  []question
	answer func(ctx context.Context, path string) ([]byte, error) // nil: the figures

	values map[string][]byte
	leases map[string]lease
	away   error // of every request to the store

	commands map[string]int // round trips to the store, by kind
}

// command counts a round trip to the store. w.mu is held.
func (w *world) command(kind string) {
	if w.commands == nil {
		w.commands = make(map[string]int)
	}
	w.commands[kind]++
}

type count struct {
	used, generation int64
	unknown          bool // a seed of it has failed
}

type closing struct {
	counter string
	began   time.Time
}

type question struct {
	at   time.Time
	path string
}

type lease struct {
	holder string
	ends   time.Time
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	return &world{
		rules: ruleset(tb), ours: make(map[string]*count), wechat: make(map[string]int64),
		limit: make(map[string]int64), values: make(map[string][]byte), leases: make(map[string]lease),
	}
}

// rest lets time pass in a bubble, until all goroutines wait.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// auditor returns one of a gateway of the fleet. change may be nil.
func (w *world) auditor(holder string, change func(*Options)) *Auditor {
	o := Options{
		Store: fakeStore{w}, Limiter: fakeLimiter{w}, Post: w.post, Holder: holder, PerDay: 500,
		Apps: func() []App { return []App{{AppID: shop}} },
		App:  func(appid string) (App, bool) { return App{AppID: shop}, appid == shop },
		Observe: func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
		Adopt: func(_ string, figures map[string]limits.Budget) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, figures)
		},
	}
	if change != nil {
		change(&o)
	}
	return New(o)
}

// call makes calls through the gateways.
func (w *world) call(path string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counter(w.rules.Match(path).Counter).used += n
	w.wechat[path] += n
}

// around makes calls around them.
func (w *world) around(path string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wechat[path] += n
}

// counter returns a counter of ours. w.mu is held.
func (w *world) counter(name string) *count {
	if w.ours[name] == nil {
		w.ours[name] = &count{}
	}
	return w.ours[name]
}

// midnight begins a day at WeChat and here.
func (w *world) midnight() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.ours)
	clear(w.wechat)
}

// clearAll is a clear that all gateways know of.
func (w *world) clearAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.wechat)
	for _, c := range w.ours {
		*c = count{generation: time.Now().UnixMilli()}
	}
}

// forget is a clear at WeChat that no gateway knows of.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.wechat)
}

func (w *world) generation(counter string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counter(counter).generation
}

func (w *world) used(counter string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counter(counter).used
}

// paths returns what WeChat was asked about, in order, and forgets it.
func (w *world) paths() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var paths []string
	for _, q := range w.asked {
		paths = append(paths, q.path)
	}
	w.asked = nil
	return paths
}

// happened returns the events, each as a text, and forgets them.
func (w *world) happened() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var texts []string
	for _, e := range w.events {
		text := string(e.Kind)
		switch {
		case e.Err != nil:
			text += " " + e.Err.Error()
		case e.Old != 0 || e.New != 0:
			text += fmt.Sprintf(" %s %d %d", e.Rule, e.Old, e.New)
		}
		texts = append(texts, text)
	}
	w.events = nil
	return texts
}

func (w *world) post(ctx context.Context, app, path string, body []byte) ([]byte, error) {
	var asked struct {
		Path string `json:"cgi_path"`
	}
	if err := json.Unmarshal(body, &asked); err != nil || app != shop || path != quotaPath {
		return nil, fmt.Errorf("POST %s of %s: %s", path, app, body)
	}
	w.mu.Lock()
	w.asked = append(w.asked, question{time.Now(), asked.Path})
	answer := w.answer
	w.mu.Unlock()
	if answer != nil {
		return answer(ctx, asked.Path)
	}
	return w.figures(asked.Path), ctx.Err()
}

// answers has WeChat answer so from now on; nil is with its figures.
func (w *world) answers(answer func(ctx context.Context, path string) ([]byte, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

// always is an answer to whatever is asked.
func always(body string) func(context.Context, string) ([]byte, error) {
	return func(context.Context, string) ([]byte, error) { return []byte(body), nil }
}

// adopted returns what Adopt was told, call by call.
func (w *world) adopted() []map[string]limits.Budget {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// cleared returns what was started over.
func (w *world) cleared() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.clears)
}

// offers sets WeChat's figure of a path.
func (w *world) offers(path string, limit int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limit[path] = limit
}

// figures is WeChat's own answer.
func (w *world) figures(path string) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit := w.limit[path]
	return fmt.Appendf(nil, `{"errcode":0,"errmsg":"ok","quota":{"daily_limit":%d,"used":%d,"remain":%d}}`,
		limit, w.wechat[path], max(0, limit-w.wechat[path]))
}

type fakeLimiter struct{ w *world }

func (l fakeLimiter) Spelling(_, counter string) string {
	_, path, _ := strings.Cut(counter, ":")
	return strings.Replace(path, "capital", "Capital", 1)
}

func (l fakeLimiter) Rules(app string) *limits.Ruleset {
	if app != shop {
		return nil
	}
	return l.w.rules
}

func (l fakeLimiter) Usage(ctx context.Context, _ string) ([]limits.Usage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.command("read")
	year, month, day := time.Now().In(shanghai).Date()
	var lines []limits.Usage
	line := func(rule *limits.Rule, counter string, period limits.Period, reset time.Time) {
		u := limits.Usage{Rule: rule, Counter: counter, Period: period, Reset: reset}
		if c := l.w.ours[counter]; c != nil {
			u.Used, u.Generation, u.StartUnknown = c.used, c.generation, c.unknown
		}
		lines = append(lines, u)
	}
	for _, rule := range l.w.rules.Rules {
		var counters []string
		if slices.ContainsFunc(rule.Paths, func(p string) bool { return !strings.HasSuffix(p, "/*") }) {
			counters = []string{rule.Name}
		}
		for _, name := range slices.Sorted(maps.Keys(l.w.ours)) {
			if strings.HasPrefix(name, rule.Name+":") {
				counters = append(counters, name)
			}
		}
		for _, counter := range counters {
			line(rule, counter, limits.Day, time.Date(year, month, day+1, 0, 0, 0, 0, shanghai))
			line(rule, counter, limits.Month, time.Date(year, month+1, 1, 0, 0, 0, 0, shanghai))
			line(rule, counter+"@crm", limits.Day, time.Date(year, month, day+1, 0, 0, 0, 0, shanghai))
		}
	}
	return lines, nil
}

func (l fakeLimiter) Today(ctx context.Context, app, counter string) (limits.Usage, error) {
	lines, err := l.Usage(ctx, app)
	for _, line := range lines {
		if line.Counter == counter && line.Period == limits.Day {
			return line, nil
		}
	}
	year, month, day := time.Now().In(shanghai).Date()
	return limits.Usage{Counter: counter, Period: limits.Day, Reset: time.Date(year, month, day+1, 0, 0, 0, 0, shanghai)}, err
}

func (l fakeLimiter) Raise(_ context.Context, _ string, match limits.Match, used int64, _ time.Time) error {
	l.w.mu.Lock()
	hook := l.w.raise
	l.w.mu.Unlock()
	if hook != nil {
		if err := hook(match.Counter); err != nil {
			return err
		}
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.command("raise")
	c := l.w.counter(match.Counter)
	c.used, c.unknown = max(c.used, used), false
	l.w.raises = append(l.w.raises, fmt.Sprintf("%s %d", match.Counter, used))
	return nil
}

func (l fakeLimiter) ClearTo(_ context.Context, _ string, match limits.Match, began time.Time, used int64) error {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	*l.w.counter(match.Counter) = count{used: used, generation: began.UnixMilli()}
	l.w.clears = append(l.w.clears, fmt.Sprintf("%s %d", match.Counter, used))
	l.w.clearsBegan = append(l.w.clearsBegan, began)
	return nil
}

func (l fakeLimiter) SettleLatch(_ context.Context, _ string, match limits.Match, began time.Time, usedUp bool) error {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if usedUp {
		l.w.closed = append(l.w.closed, closing{match.Counter, began})
	} else {
		l.w.minutes = append(l.w.minutes, match.Counter)
	}
	return l.w.settleErr
}

type fakeStore struct{ w *world }

func (s fakeStore) Get(ctx context.Context, _, key string) ([]byte, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.command("get")
	return bytes.Clone(s.w.values[key]), errors.Join(s.w.away, ctx.Err())
}

func (s fakeStore) GetAll(ctx context.Context, apps []string, key string) ([][]byte, error) {
	values := make([][]byte, len(apps))
	var err error
	for i := range apps {
		var failed error
		values[i], failed = s.Get(ctx, apps[i], key)
		err = errors.Join(err, failed)
	}
	return values, err
}

// readingsOf returns the readings of shop.
func readingsOf(t *testing.T, a *Auditor) (map[string]Reading, error) {
	t.Helper()
	lines, err := a.o.Limiter.Usage(t.Context(), shop)
	if err != nil {
		return nil, err
	}
	readings, err := a.Readings(t.Context(), []string{shop}, [][]limits.Usage{lines})
	if err != nil {
		return nil, err
	}
	return readings[0], nil
}

func (s fakeStore) put(key, value string) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.values[key] = []byte(value)
}

func (s fakeStore) Update(ctx context.Context, _, key string, was []byte, change func([]byte) ([]byte, time.Duration, error)) error {
	for {
		next, _, err := change(bytes.Clone(was))
		if err != nil || next == nil {
			return err
		}
		if done, err := s.compareAndSet(ctx, key, &was, next); done || err != nil {
			return err
		}
	}
}

// compareAndSet replaces the value, or *was if that is another one.
func (s fakeStore) compareAndSet(ctx context.Context, key string, was *[]byte, next []byte) (bool, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.command("cas")
	if err := errors.Join(s.w.away, ctx.Err()); err != nil {
		return false, err
	}
	if present := s.w.values[key]; !bytes.Equal(present, *was) {
		*was = bytes.Clone(present)
		return false, nil
	}
	s.w.values[key] = next
	return true, nil
}

func (s fakeStore) Lease(ctx context.Context, _, key, holder string, expiry time.Duration) (bool, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.command("lease")
	if err := errors.Join(s.w.away, ctx.Err()); err != nil {
		return false, err
	}
	if l := s.w.leases[key]; l.holder != holder && time.Now().Before(l.ends) {
		return false, nil
	}
	s.w.leases[key] = lease{holder, time.Now().Add(expiry)}
	return true, nil
}
