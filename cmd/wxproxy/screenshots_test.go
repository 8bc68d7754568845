package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/sync/errgroup"

	"wxproxy/config"
	"wxproxy/history"
	"wxproxy/internal/redistest"
	"wxproxy/limits"
	"wxproxy/sandbox"
	"wxproxy/store"
)

var screenshots = flag.String("screenshots", "", "take the pictures of the pages into this folder, and those of the README into docs/img")

// flow is what one caller calls of one account on a usual day.
type flow struct {
	app, caller, path string
	calls             int             // in 24 hours
	outcome           history.Outcome // zero: passed
	from, to          int             // hours of the day; 0, 0: all, as shops have them
	today             bool            // and not before
}

// The accounts of the pictures, and what is called of them.
var (
	pictured = []string{"mall", "care", "campus", "bookshop", "clinic", "hotel", "museum"}
	flows    = []flow{
		{app: "mall", caller: "login", path: "/cgi-bin/user/info", calls: 290_000},
		{app: "mall", caller: "crm", path: "/cgi-bin/user/info", calls: 33_000},
		{app: "mall", caller: "order-service", path: "/cgi-bin/message/template/send", calls: 88_000},
		{app: "mall", caller: "campaign", path: "/cgi-bin/message/custom/send", calls: 33_800, from: 12, to: 16, today: true},
		{app: "mall", caller: "crm", path: "/cgi-bin/message/custom/send", calls: 12_000},
		{app: "mall", caller: "order-service", path: "/cgi-bin/message/custom/send", calls: 7_700},
		{app: "mall", caller: "order-service", path: "/cgi-bin/qrcode/create", calls: 13_100},
		{app: "mall", caller: "cms", path: "/cgi-bin/media/upload", calls: 2_900},
		{app: "mall", caller: "cms", path: "/cgi-bin/menu/create", calls: 9},
		{app: "mall", caller: "crm", path: "/cgi-bin/user/get", calls: 140},
		{app: "mall", caller: "campaign", path: "/cgi-bin/message/mass/send", calls: 3, from: 9, to: 10},
		{app: "mall", caller: "cms", path: "/cgi-bin/media/upload", calls: 11, outcome: history.Outcome{Kind: history.Refused, Reason: "too-fast"}},
		{app: "care", caller: "helpdesk", path: "/cgi-bin/message/custom/send", calls: 98_000},
		{app: "care", caller: "helpdesk", path: "/cgi-bin/media/get", calls: 13_600},
		{app: "care", caller: "login", path: "/cgi-bin/user/info", calls: 61_000},
		{app: "campus", caller: "sync", path: "/cgi-bin/user/get", calls: 498, from: 2, to: 5},
		{app: "campus", caller: "sync", path: "/cgi-bin/user/get", calls: 812, from: 5, to: 9, today: true, outcome: history.Outcome{Kind: history.Refused, Reason: "quota-used-up"}},
		{app: "campus", caller: "notices", path: "/cgi-bin/message/template/send", calls: 19_000},
		{app: "bookshop", caller: "cms", path: "/cgi-bin/media/upload", calls: 700},
		{app: "bookshop", caller: "login", path: "/cgi-bin/user/info", calls: 22_000},
		{app: "hotel", caller: "login", path: "/cgi-bin/user/info", calls: 5_200},
		{app: "hotel", caller: "booking", path: "/cgi-bin/message/template/send", calls: 1_900},
	}
	// shape is the part of a day's calls in each hour, in thousandths.
	shape = [24]int{11, 6, 4, 3, 3, 6, 14, 30, 52, 66, 70, 66, 55, 54, 60, 63, 62, 60, 58, 62, 68, 61, 42, 24}
)

const limitsOfPictures = `version: 1
timezone: %s
profiles:
  mall:
    extends: current
    title: 已认证服务号
    rules:
      - {name: message.custom.send, quota: 50000/day, shares: {campaign: 35000/day}, reserve: {order-service: 4000}}
      - {name: media.upload, pace: 2/second burst 2}
`

// stand is a fleet with a history: the hours before now are what two gateways have recorded of them with a clock of the
// test, and WeChat has counted them too. From now on real calls go through the gateways.
type stand struct {
	t        *testing.T
	redis    *redistest.Server
	wechat   *sandbox.Server
	gateways []string // base addresses
	admin    string
	stop     context.CancelFunc // of the gateway whose pages are seen
}

func appidOf(app string) string {
	return "wx" + fmt.Sprintf("%016x", 0xa5d0c0de00000000+uint64(slices.Index(pictured, app)))
}

func keyOf(caller string) string { return "key-of-" + caller + "-0123456789abcdef" }

// afternoon is a zone in which it is between three and four in the afternoon: most of a day has passed.
func afternoon() *time.Location {
	hours := 15 - time.Now().UTC().Hour()
	if hours < -12 {
		hours += 24
	}
	zone, err := time.LoadLocation(fmt.Sprintf("Etc/GMT%+d", -hours))
	if err != nil {
		panic(err)
	}
	return zone
}

func newStand(t *testing.T) *stand {
	t.Helper()
	zone := afternoon()
	s := &stand{t: t, redis: redistest.StartMovable(t), wechat: sandbox.NewServer(sandbox.Options{Zone: zone, Keep: -1, Apps: accountsOf(pictured)})}
	t.Cleanup(func() { _ = s.wechat.Close() })
	folder := t.TempDir()
	path := filepath.Join(folder, "wxproxy.yaml")
	writeFile(t, filepath.Join(folder, "limits.yaml"), fmt.Sprintf(limitsOfPictures, zone))
	writeFile(t, path, s.config())
	t.Setenv("CANARY_ADMIN", canaryAdmin)
	t.Setenv("CANARY_SECRET", canarySecret)
	c, err := config.Load(loadOptions(path))
	if err != nil {
		t.Fatal(err)
	}
	for i, app := range pictured {
		for _, rule := range c.Apps[i].Rules.Rules {
			for _, q := range rule.Budget.Quotas {
				for _, path := range rule.Paths {
					if q.Period == limits.Day {
						s.wechat.SetQuota(appidOf(app), path, q.Limit)
					}
				}
			}
		}
	}
	s.record(c)
	s.wechat.Order(sandbox.Fault{AppID: appidOf("clinic"), Path: "/cgi-bin/stable_token", ErrCode: 40164, ErrMsg: "invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist", Times: -1})
	s.wechat.SetQuota(appidOf("bookshop"), "/cgi-bin/media/upload", s.wechat.Used(appidOf("bookshop"), "/cgi-bin/media/upload"))
	here := serveHere(t, path, serving{loopTime: 3 * time.Second})
	s.admin, s.stop = "http://"+here.admin, here.stop
	s.gateways = []string{"http://" + here.main, start(t, path, s.wechat).url}
	return s
}

func accountsOf(names []string) []sandbox.App {
	apps := make([]sandbox.App, len(names))
	for i, name := range names {
		apps[i] = sandbox.App{AppID: appidOf(name), Secret: canarySecret}
	}
	return apps
}

func (s *stand) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "listen: 127.0.0.1:0\nanonymous: false\nfuse: on\nadmin: {listen: \"127.0.0.1:0\", token: \"${CANARY_ADMIN}\"}\nupstream: {url: %q}\nstore: {url: %q}\nlimits: limits.yaml\napps:\n", s.wechat.URL, s.redis.URL())
	callers := make(map[string][]string)
	for _, app := range pictured {
		profile := map[bool]string{true: "mall", false: "current"}[app == "mall"]
		fmt.Fprintf(&b, "  - {name: %s, appid: %s, secret: \"${CANARY_SECRET}\", profile: %s}\n", app, appidOf(app), profile)
		callers["report"] = append(callers["report"], app)
	}
	for _, f := range flows {
		if !slices.Contains(callers[f.caller], f.app) {
			callers[f.caller] = append(callers[f.caller], f.app)
		}
	}
	b.WriteString("callers:\n")
	for _, name := range slices.Sorted(maps.Keys(callers)) {
		fmt.Fprintf(&b, "  - {name: %s, key: %s, apps: [%s]}\n", name, keyOf(name), strings.Join(callers[name], ", "))
	}
	return b.String()
}

// record has a recorder write what was called in the last 30 days, its clock and that of Redis with them, and tells
// WeChat what was sent today.
func (s *stand) record(c *config.Config) {
	s.t.Helper()
	ctx := s.t.Context()
	opened, err := store.Open(ctx, storeOptions(c))
	if err != nil {
		s.t.Fatal(err)
	}
	defer opened.Close()
	zone, now := c.Table.Zone, time.Now()
	var clock struct {
		sync.Mutex
		at time.Time
	}
	set := func(at time.Time) {
		s.redis.Move(at.Sub(now))
		clock.Lock()
		defer clock.Unlock()
		clock.at = at
	}
	appids := make([]string, len(pictured))
	for i, app := range pictured {
		appids[i] = appidOf(app)
	}
	kept := history.NewRedis(opened.Redis(), opened.Prefix(), "earlier0")
	recorder := history.New(history.Options{
		Store: kept, Gateway: "earlier0", Zone: zone, Every: 20 * time.Millisecond,
		Apps: func() []string { return appids },
		Now: func() time.Time {
			clock.Lock()
			defer clock.Unlock()
			return clock.at
		},
	})
	sent := make(map[limits.Call]int) // today
	year, month, day := now.In(zone).Date()
	today := time.Date(year, month, day, 0, 0, 0, 0, zone)
	for back := 30; back >= 0; back-- {
		begin := today.AddDate(0, 0, -back)
		set(begin)
		sums := make([]float64, len(flows))
		for part := begin; part.Before(begin.AddDate(0, 0, 1)) && part.Before(now); part = part.Add(partOfDay) {
			for i, f := range flows {
				s.recordPart(recorder, c, f, &sums[i], part, back, sent)
			}
		}
		if back == 0 {
			break
		}
		set(begin.AddDate(0, 0, 1).Add(10 * time.Minute))
		s.rolledUp(recorder, kept, begin.Format("20060102"))
	}
	set(now)
	if err := recorder.Close(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.count(c, limits.NewRedis(opened.Redis(), opened.Prefix(), "earlier0"), sent)
}

// count has a limiter count what was sent today.
func (s *stand) count(c *config.Config, counters limits.Counters, sent map[limits.Call]int) {
	s.t.Helper()
	l := limits.New(limits.Options{Counters: counters})
	rules := make(map[string]*limits.Ruleset)
	for _, app := range c.Apps {
		rules[app.AppID] = app.Rules
	}
	l.Configure(rules, nil)
	for call, n := range sent {
		if call.Match.Rule.Name != "message.custom.send" { // whose part it is matters to nothing
			for range n {
				l.Count(call.App, call.Match.Path)
			}
			continue
		}
		var work errgroup.Group
		work.SetLimit(200) // one request decides all that wait
		for range n {
			work.Go(func() error {
				d, hold := l.Take(s.t.Context(), call)
				if d.Verdict != limits.Pass {
					return fmt.Errorf("%s: %s", call.Match.Counter, d.Verdict)
				}
				hold.Done(0)
				return nil
			})
		}
		if err := work.Wait(); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := l.Close(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// partOfDay is how long one flow is recorded before the next: a recorder takes calls about in the order in which they end.
const partOfDay = 10 * time.Minute

// recordPart records the calls of a flow in a part of a day. sum is how many of the day there were before.
func (s *stand) recordPart(recorder *history.Recorder, c *config.Config, f flow, sum *float64, part time.Time, back int, sent map[limits.Call]int) {
	app := c.Apps[slices.Index(pictured, f.app)]
	e := history.Event{App: app.AppID, Rule: app.Rules.Match(f.path).Rule.Name, Caller: f.caller, Outcome: f.outcome}
	if e.Outcome.Kind == 0 {
		e.Outcome.Kind = history.Passed
	}
	before := int(*sum)
	*sum += f.during(part, back)
	n := int(*sum) - before
	for i := range n {
		e.At = part.Add(time.Duration(i) * partOfDay / time.Duration(n))
		if e.At.After(time.Now()) {
			return
		}
		recorder.Add(e)
		if back == 0 && e.Outcome.Sent() {
			s.wechat.AddUsed(app.AppID, f.path, 1)
			sent[limits.Call{App: app.AppID, Caller: f.caller, Match: app.Rules.Match(f.path)}]++
		}
	}
}

// during is how many calls of a flow there are in a part of a day, so many days back.
func (f flow) during(part time.Time, back int) float64 {
	hour, calls := part.Hour(), float64(f.calls)
	switch {
	case f.today && back > 0:
		return 0
	case f.to == 0:
		calls *= float64(shape[hour]) / 1000
	case hour < f.from || hour >= f.to:
		return 0
	default:
		calls /= float64(f.to - f.from)
	}
	if back > 0 { // no day is like another
		calls *= 0.75 + 0.05*float64((back*7+len(f.path))%9) + 0.02*float64(part.Weekday())
	}
	return calls * float64(partOfDay) / float64(time.Hour)
}

// rolledUp waits until a day is.
func (s *stand) rolledUp(recorder *history.Recorder, kept history.Store, day string) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer stop()
	if err := recorder.Flush(ctx); err != nil {
		s.t.Fatal(err)
	}
	var work sync.WaitGroup
	running, end := context.WithCancel(ctx)
	work.Go(func() { recorder.Run(running) })
	defer work.Wait()
	defer end()
	for {
		days, err := kept.Days(ctx, []history.Day{{App: appidOf("mall"), Day: day}, {App: appidOf("hotel"), Day: day}})
		if err != nil {
			s.t.Fatal(err)
		}
		if len(days[0]) > 0 && len(days[1]) > 0 {
			return
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// call sends one call. What becomes of it is to be seen on the pages.
func (s *stand) call(i int, f flow) {
	method, body := http.MethodGet, ""
	if !strings.HasSuffix(f.path, "/get") && !strings.HasPrefix(f.path, "/cgi-bin/user/info") {
		method, body = http.MethodPost, `{"touser":"oPicture`+fmt.Sprint(i)+`","msgtype":"text","text":{"content":"x"}}`
	}
	path := f.path
	if path == "/cgi-bin/user/info" {
		path += fmt.Sprintf("?openid=oPicture%d", i)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.gateways[i%len(s.gateways)]+path, strings.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return
	}
	r.Header.Set("X-Wxproxy-App", f.app)
	r.Header.Set("X-Wxproxy-Key", keyOf(f.caller))
	if answer, err := client.Do(r); err == nil {
		_ = answer.Body.Close()
	}
}

// traffic sends calls until ctx is done: of each flow as many as its part of all, one caller in a loop, and what is refused.
func (s *stand) traffic(ctx context.Context) {
	more := []flow{
		{app: "mall", caller: "campaign", path: "/cgi-bin/message/custom/send"},
		{app: "campus", caller: "sync", path: "/cgi-bin/user/get"},
		{app: "clinic", caller: "report", path: "/cgi-bin/user/get"},
		{app: "mall", caller: "wrong", path: "/cgi-bin/menu/get"},
		{app: "care", caller: "cms", path: "/cgi-bin/media/get"},
		{app: "bookshop", caller: "cms", path: "/cgi-bin/media/upload"},
	}
	total := 0
	for _, f := range flows {
		total += f.calls
	}
	for i := 0; ctx.Err() == nil; i++ {
		at, chosen := rand.IntN(total), 0
		for ; at >= flows[chosen].calls; chosen++ {
			at -= flows[chosen].calls
		}
		s.call(i, flows[chosen])
		if i%4 == 0 {
			s.call(i, more[i/4%len(more)])
		}
		if i < 300 || i%8 == 0 { // a loop is 200 calls of a period
			s.call(0, flow{app: "campus", caller: "notices", path: "/cgi-bin/user/info?openid=undefined"})
		}
		time.Sleep(12 * time.Millisecond)
	}
}

// shot is one picture of a page.
type shot struct {
	name string
	at   string // what follows the #
	wait string // an expression that holds once the page has what it shows
	do   string // statements before it
}

var shots = []shot{
	{name: "overview", at: "/", wait: `document.querySelectorAll(".accounts tbody tr").length > 5 && document.querySelector(".spark.large .sent") && document.querySelector(".headline .finding")`},
	{name: "account", at: "/app/mall", wait: `document.querySelector(".detail canvas") && document.querySelectorAll(".detail .callers tbody tr").length > 2 && document.querySelector(".headline .token")`},
	{name: "refusals", at: "/refusals?live=1", wait: `document.querySelectorAll(".refusals tbody tr").length > 3 && document.querySelectorAll(".lines tbody tr").length > 8`},
	{name: "gateway", at: "/gateway", wait: `document.querySelector(".config") && document.querySelector(".tokens tbody tr")`},
}

// states are pictures of one width, of what is not seen at first.
var states = []shot{
	{name: "account-all", at: "/app/mall", wait: `document.querySelectorAll(".console tbody tr").length > 40`, do: `document.querySelector(".rules .choice button:nth-child(2)").click()`},
	{name: "account-month", at: "/app/mall", wait: `document.querySelector(".detail canvas")`, do: `document.querySelectorAll(".past .choice button")[2].click()`},
	{name: "account-outcome", at: "/app/campus?rule=user.info", wait: `document.querySelector(".detail canvas")`, do: `document.querySelectorAll(".past .choice")[1].querySelectorAll("button")[1].click()`},
	{name: "account-full", at: "/app/campus?rule=user.get", wait: `document.querySelector(".detail canvas")`},
	{name: "account-latched", at: "/app/bookshop?rule=media.upload", wait: `document.querySelector(".detail canvas")`},
	{name: "account-refused", at: "/app/clinic", wait: `document.querySelector(".headline .note")`},
	{name: "account-empty", at: "/app/museum", wait: `document.querySelector(".empty")`},
	{name: "account-unknown", at: "/app/nowhere", wait: `document.querySelector(".note.fault")`},
	{name: "grant", at: "/app/mall", wait: `document.querySelector("dialog")`, do: `document.querySelector(".detail footer button.main").click()`},
	{name: "clear", at: "/app/mall", wait: `document.querySelector("dialog .cost")`, do: `document.querySelector(".detail footer button:nth-of-type(2)").click()`},
	{name: "overview-nomatch", at: "/", wait: `document.querySelector(".accounts") === null`, do: `const i = document.querySelector(".search"); i.value = "zzz"; i.dispatchEvent(new Event("input", { bubbles: true }))`},
	{name: "refusals-filtered", at: "/refusals?app=campus&reason=quota-used-up", wait: `document.querySelectorAll(".refusals tbody tr").length === 1`},
	{name: "explain", at: "/gateway", wait: `document.querySelector(".fate")`, do: `document.querySelector(".explain .path").value = "/cgi-bin/message/custom/send"; document.querySelector(".explain input").value = "mall"; document.querySelector(".explain form").requestSubmit()`},
}

// The pictures of all pages in both themes and languages at three widths, from real calls.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("takes pictures for the README and for review; run it with make screenshots")
	}
	folder, err := filepath.Abs(filepath.Join("../..", *screenshots))
	if err != nil {
		t.Fatal(err)
	}
	if fonts, err := exec.Command("fc-list", ":lang=zh").Output(); err != nil || len(fonts) == 0 {
		t.Fatalf("no font with Chinese: on Debian, as root: apt-get install fonts-noto-cjk (%v)", err)
	}
	s := newStand(t)
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { s.traffic(ctx) })
	defer work.Wait()
	defer stop()

	p := openTab(t, s.admin)
	c := camera{tab: p, folder: folder}
	for _, look := range []string{"light-zh", "light-en", "dark-zh", "dark-en"} {
		c.sets(t, s.admin, look, shot{name: "signin", at: "", wait: `document.querySelector(".signin")`})
	}
	p.do(t, chromedp.Navigate(signedInAddress(t, &process{admin: s.admin})))
	p.await(t, "the overview", `document.querySelector(".accounts tbody tr")`)
	time.Sleep(8 * time.Second) // the loop has lasted long enough, and the forecast has calls to go by
	c.walk(t, s.admin, 1280)
	c.walk(t, s.admin, 390)
	for _, look := range []string{"light-zh", "light-en", "dark-zh", "dark-en"} {
		for _, one := range shots {
			c.sets(t, s.admin, look, one)
		}
	}
	for _, look := range []string{"light-en", "dark-zh"} {
		for _, one := range states {
			c.one(t, s.admin, look, one, 1280)
		}
	}
	p.forgive("app=nowhere")
	c.readme(t, s.admin, "../../docs/img/overview.png", "light-en", shots[0], 880)
	c.readme(t, s.admin, "../../docs/img/overview.zh-CN.png", "light-zh", shots[0], 880)
	c.readme(t, s.admin, "../../docs/img/account.png", "light-en", shots[1], 1120)
	s.stop() // what was read stays, and says how old it is
	p.await(t, "old figures", `document.querySelector(".split .note.stale")`)
	c.picture(t, "account-stale-light-en-1280", chromedp.CaptureScreenshot())
	p.forgive("net::ERR_CONNECTION")
}

// forgive drops the faults of requests that were meant to be refused.
func (p *tab) forgive(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = slices.DeleteFunc(p.faults, func(fault string) bool { return strings.Contains(fault, address) })
}

// camera takes pictures into a folder.
type camera struct {
	*tab
	folder string
	look   string
}

// walk goes, as a new user would, from the opening of the pages to the service that has used most of a quota: in
// one click, with a picture before and after it.
func (c *camera) walk(t *testing.T, admin string, width int64) {
	t.Helper()
	c.do(t, chromedp.EmulateViewport(width, 844), chromedp.Navigate("about:blank"))
	began := time.Now()
	c.do(t, chromedp.Navigate(admin+"/"))
	const link = `.accounts a[href^="#/app/mall"]`
	c.await(t, "the account", fmt.Sprintf("document.querySelector(%q)", link))
	opened := time.Since(began)
	c.picture(t, fmt.Sprintf("walk-1-%d", width), chromedp.CaptureScreenshot())
	began = time.Now()
	c.click(t, link)
	c.await(t, "who has used it", `document.querySelector(".detail .callers tbody th")`)
	clicked := time.Since(began)
	if who := c.text(t, ".detail .callers tbody th"); who != "campaign" {
		t.Errorf("the service that has used most is shown as %q", who)
	}
	seen, err := chromedp.Run(c.ctx, chromedp.Evaluate[bool](`document.querySelector(".detail .callers tbody th").getBoundingClientRect().bottom < innerHeight`))
	if err != nil || !seen {
		t.Errorf("the service is not in the window of %d px (%v)", width, err)
	}
	c.picture(t, fmt.Sprintf("walk-2-%d", width), chromedp.CaptureScreenshot())
	t.Logf("at %d px: opened in %s, and after one click the service is there in %s", width, opened.Round(time.Millisecond), clicked.Round(time.Millisecond))
}

func (c *camera) picture(t *testing.T, name string, take chromedp.Action[[]byte]) {
	t.Helper()
	picture, err := chromedp.Run(c.ctx, take)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, filepath.Join(c.folder, name+".png"), picture)
}

func (c *camera) sets(t *testing.T, admin, look string, s shot) {
	t.Helper()
	for _, width := range []int64{390, 1280, 1920} {
		c.one(t, admin, look, s, width)
	}
}

// open brings a page in front in a theme and a language, as in light-zh.
func (c *camera) open(t *testing.T, admin, look string, s shot, width, height int64) {
	t.Helper()
	theme, language, _ := strings.Cut(look, "-")
	c.do(t, chromedp.EmulateViewport(width, height))
	if c.look != look {
		c.do(t, chromedp.Navigate(admin+"/"))
		c.await(t, "a page", `document.querySelector("main")`)
		c.script(t, fmt.Sprintf(`localStorage.setItem("wxproxy.theme", %q); localStorage.setItem("wxproxy.language", %q)`, theme, language))
		c.look = look
	}
	c.do(t, chromedp.Navigate("about:blank"), chromedp.Navigate(admin+"/#"+s.at))
	c.await(t, "a page", `document.querySelector("main")`)
	if s.do != "" {
		c.await(t, s.name+" is there", `document.querySelector(".detail, .accounts, .tokens")`)
		c.script(t, s.do)
	}
	c.await(t, s.name, s.wait)
	c.script(t, `document.documentElement.style.scrollbarGutter = "auto"`) // pictures have no bar
	time.Sleep(600 * time.Millisecond)                                     // bars grow for 400 ms
}

func (c *camera) one(t *testing.T, admin, look string, s shot, width int64) {
	t.Helper()
	c.open(t, admin, look, s, width, map[bool]int64{true: 844, false: 900}[width == 390])
	if wide, err := chromedp.Run(c.ctx, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth`)); err != nil || wide {
		t.Errorf("%s at %d px, %s: wider than the window (%v)", s.name, width, look, err)
	}
	take := chromedp.FullScreenshot(100)
	if strings.HasPrefix(s.wait, `document.querySelector("dialog`) { // it darkens what is seen
		take = chromedp.CaptureScreenshot()
	}
	c.picture(t, fmt.Sprintf("%s-%s-%d", s.name, look, width), take)
}

// mostOfREADME is the most bytes of a picture in the README.
const mostOfREADME = 150_000

// readme takes a picture of what is seen without scrolling, in few colours.
func (c *camera) readme(t *testing.T, admin, path, look string, s shot, height int64) {
	t.Helper()
	c.open(t, admin, look, s, 1280, height)
	picture, err := chromedp.Run(c.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if picture = inFewColours(t, picture); len(picture) > mostOfREADME {
		t.Errorf("%s has %d bytes, want at most %d", path, len(picture), mostOfREADME)
	}
	c.write(t, path, picture)
}

func (c *camera) write(t *testing.T, path string, picture []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, picture, 0o644); err != nil {
		t.Fatal(err)
	}
}

// inFewColours is a PNG with the 256 colours that it has most of, of those that are alike only the first: a page has few,
// and their shades at the edges of letters.
func inFewColours(t *testing.T, picture []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	at := full.Bounds()
	count := make(map[color.RGBA]int)
	for y := at.Min.Y; y < at.Max.Y; y++ {
		for x := at.Min.X; x < at.Max.X; x++ {
			count[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return count[b] - count[a] })
	var few color.Palette
	const alike = 10 // in each of red, green and blue
	for _, c := range colours {
		known := slices.ContainsFunc(few, func(k color.Color) bool {
			of := k.(color.RGBA)
			return max(of.R, c.R)-min(of.R, c.R) < alike && max(of.G, c.G)-min(of.G, c.G) < alike && max(of.B, c.B)-min(of.B, c.B) < alike
		})
		if !known && len(few) < 256 {
			few = append(few, c)
		}
	}
	nearest := make(map[color.RGBA]uint8, len(colours))
	for _, c := range colours {
		nearest[c] = uint8(few.Index(c))
	}
	paletted := image.NewPaletted(at, few)
	for y := at.Min.Y; y < at.Max.Y; y++ {
		for x := at.Min.X; x < at.Max.X; x++ {
			paletted.SetColorIndex(x, y, nearest[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)])
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, paletted); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
