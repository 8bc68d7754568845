package report

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"
)

// generator makes lines of an access log in the form of package proxy, and knows what they come to.
type generator struct {
	random *rand.Rand
	at     time.Time
	step   time.Duration // between two calls
	apps   int

	total Counts
	by    map[string]*Counts // "rule menu.create", "app app-1", ...
	line  []byte
}

func newGenerator(seed uint64, apps int, step time.Duration) *generator {
	zone := time.FixedZone("", 8*3600)
	return &generator{
		random: rand.New(rand.NewPCG(seed, 1)), apps: apps, step: step,
		at: time.Date(2026, 11, 27, 22, 0, 0, 0, zone), by: make(map[string]*Counts),
	}
}

// kinds of calls, with how often each comes in a hundred.
var kinds = []struct {
	often    int
	decision string
	reason   string
	errcode  int
	attempts int
}{
	{80, "pass", "", 0, 1},
	{6, "pass", "", 40003, 1},
	{1, "pass", "", 0, 2},
	{4, "refused-quota", "quota-used-up", 45009, 0},
	{3, "refused-pace", "too-fast", 45011, 0},
	{2, "refused-auth", "wrong-key", 48001, 0},
	{1, "shadow", "", 0, 1},
	{3, "local", "", 0, 0},
}

var ruleNames = [][2]string{
	{"menu.create", "/cgi-bin/menu/create"},
	{"message.custom.send", "/cgi-bin/message/custom/send"},
	{"user.info", "/cgi-bin/user/info"},
	{"message.template.send", "/cgi-bin/message/template/send"},
	{"media.upload", "/cgi-bin/media/upload"},
	{"other", "/cgi-bin/get_api_domain_ip"},
}

var callerNames = []string{"crm", "shop", "oncall", "mailer", ""}

// next returns the next line, with its end. It holds until the one after it.
func (g *generator) next() []byte {
	g.at = g.at.Add(g.step)
	kind := kinds[0]
	for n, i := g.random.IntN(100), 0; n >= 0; i++ {
		kind = kinds[i]
		n -= kind.often
	}
	rule := ruleNames[g.random.IntN(len(ruleNames))]
	caller := callerNames[g.random.IntN(len(callerNames))]
	app := "app-" + strconv.Itoa(g.random.IntN(g.apps))
	g.count("app "+app, kind.decision, kind.errcode, kind.attempts)
	g.count("rule "+rule[0], kind.decision, kind.errcode, kind.attempts)
	g.count("caller "+caller, kind.decision, kind.errcode, kind.attempts)
	g.count("decision "+kind.decision, kind.decision, kind.errcode, kind.attempts)
	g.count("errcode "+strconv.Itoa(kind.errcode), kind.decision, kind.errcode, kind.attempts)
	g.count("hour "+g.at.Truncate(time.Hour).Format("2006-01-02T15:04Z07:00"), kind.decision, kind.errcode, kind.attempts)
	if kind.reason != "" {
		g.count("reason "+kind.reason, kind.decision, kind.errcode, kind.attempts)
		g.count("rule,caller,reason "+rule[0]+" "+caller+" "+kind.reason, kind.decision, kind.errcode, kind.attempts)
	}
	g.sum(&g.total, kind.decision, kind.errcode, kind.attempts)
	g.line = fmt.Appendf(g.line[:0], `{"time":"%s","request_id":"%016x","client_ip":"10.0.0.%d","caller":"%s","app":"%s","appid":"wx%016x","method":"POST","path":"%s","rule":"%s","decision":"%s","reason":"%s","quota":1000,"used":%d,"remaining":%d,"reset_s":%d,"status":200,"errcode":%d,"rid":"6749c1a2-1b2c3d4e-5f60718","duration_ms":%d.%03d,"upstream_ms":%d,"attempts":%d,"bytes_in":%d,"bytes_out":%d,"user_agent":"Apache-HttpClient/4.5.13 (Java/17.0.9)"}`+"\n",
		g.at.Format("2006-01-02T15:04:05.000Z07:00"), g.random.Uint64(), g.random.IntN(256), caller, app, len(app), rule[1], rule[0], kind.decision, kind.reason,
		g.random.IntN(1000), g.random.IntN(1000), g.random.IntN(86400), kind.errcode, g.random.IntN(300), 1+g.random.IntN(999), g.random.IntN(300), kind.attempts,
		g.random.IntN(5000), g.random.IntN(5000))
	return g.line
}

func (g *generator) count(group, decision string, errcode, attempts int) {
	c := g.by[group]
	if c == nil {
		c = new(Counts)
		g.by[group] = c
	}
	g.sum(c, decision, errcode, attempts)
}

func (g *generator) sum(c *Counts, decision string, errcode, attempts int) {
	c.Calls++
	c.Sent += int64(attempts)
	switch decision {
	case "pass", "shadow":
		c.Passed++
		if errcode != 0 {
			c.Errors++
		}
	case "local":
		c.Local++
	default:
		c.Refused++
		if c.First == 0 {
			c.First = g.at.UnixMilli()
		}
		c.Last = g.at.UnixMilli()
	}
}

// write writes n lines.
func (g *generator) write(w io.Writer, n int) error {
	for range n {
		if _, err := w.Write(g.next()); err != nil {
			return err
		}
	}
	return nil
}
