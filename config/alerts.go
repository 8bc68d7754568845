package config

import (
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"wxproxy/alert"
)

// Alerts says what is told to whom. Nothing is without Sinks.
type Alerts struct {
	// Language is that of the messages. Default zh.
	Language string `yaml:"language" read:"zh|en" default:"zh"`
	// Thresholds are percents of a limit that is used, ascending. Default 50, 80, 95, 100.
	Thresholds []int `yaml:"thresholds,flow" read:"1..100"`
	// Rules have thresholds of their own; the first that matches a rule counts. Default none.
	Rules []AlertRule `yaml:"rules,omitempty"`
	// Drift is how many percent of a limit WeChat may have counted more than the gateways; 0 is any. Default 5.
	Drift int `yaml:"drift" read:"0..100" default:"5"`
	// Remind is how often a condition that still holds is told again; 0 is never. Default 4 h.
	Remind time.Duration `yaml:"remind" read:"reminder" default:"4h"`
	// Digest is the hour of the daily report, in the zone of Config.Table, or off. Default off.
	Digest string `yaml:"digest" read:"hour" default:"off"`
	// Page is the address of the pages as those who get the messages reach it, for a link. Default none.
	Page string `yaml:"page" read:"page"`
	// Sinks are where messages go. Default none.
	Sinks []AlertSink `yaml:"sinks"`
}

// AlertRule has thresholds for some rules of some apps.
type AlertRule struct {
	// App is a name or an appid. Default all.
	App string `yaml:"app" read:"text"`
	// Rule is the name of a rule; a * stands for any letters. Default all.
	Rule string `yaml:"rule" read:"glob"`
	// Thresholds are as Alerts.Thresholds; none: nothing is told.
	Thresholds []int `yaml:"thresholds,flow" read:"1..100" need:"percents, as in [90, 100], or [] for none"`
}

// AlertSink is where messages go.
type AlertSink struct {
	// Name is what logs, metrics and commands call it. Default its type.
	Name string `yaml:"name" read:"name"`
	// Type is what it is.
	Type string `yaml:"type" read:"wecom|dingtalk|lark|webhook|alertmanager|mail" need:"wecom, dingtalk, lark, webhook, alertmanager or mail"`
	// URL is its address, which is a secret: who knows a robot's can send by it. From the file itself or URLFile.
	URL     Secrets `yaml:"url"`
	URLFile string  `yaml:"url_file" read:"text"`
	// Secret signs messages of dingtalk, lark and webhook, and is the password of mail. From the file itself or SecretFile.
	Secret     Secrets `yaml:"secret"`
	SecretFile string  `yaml:"secret_file" read:"text"`
	// Events are the only kinds that it gets. Default all.
	Events []string `yaml:"events,omitempty,flow" read:"event" filled:"no event: want the name of one at least, or no events at all"`

	// Server is host:port of a mail server.
	Server string `yaml:"server,omitempty" read:"mail server"`
	// TLS is starttls, implicit or none. Default implicit for port 465, else starttls.
	TLS string `yaml:"tls,omitempty" read:"starttls|implicit|none"`
	// Username signs in with Secret. Default none.
	Username string `yaml:"username,omitempty" read:"text"`
	// From and To are mail addresses.
	From string   `yaml:"from,omitempty" read:"mail address"`
	To   []string `yaml:"to,omitempty,flow" read:"mail address" filled:"no address: want one at least"`
}

// DigestHour returns the hour of the daily report, -1 for none.
func (a Alerts) DigestHour() int {
	hour, err := strconv.Atoi(a.Digest)
	if err != nil {
		return -1
	}
	return hour
}

// MailServer returns the host and the port of Server.
func (s AlertSink) MailServer() (host string, port int) {
	host, text, err := net.SplitHostPort(s.Server)
	if err == nil {
		port, _ = strconv.Atoi(text) // checked
	}
	return host, port
}

// defaultThresholds are those of a file that names none.
func defaultThresholds() []int { return []int{50, 80, 95, 100} }

// parseHour reads an hour of the day, or off.
func parseHour(text string) (string, error) {
	if _, err := parseNumber(text, "0", "23"); err != nil && text != "off" {
		return "", errWant("an hour from 0 to 23, or off")
	}
	return text, nil
}

// parseEvent reads the kind of an event.
func parseEvent(text string) (string, error) {
	kinds := make([]string, 0, len(alert.Kinds()))
	for _, k := range alert.Kinds() {
		kinds = append(kinds, string(k))
	}
	if !slices.Contains(kinds, text) {
		return "", errWant("one of " + strings.Join(kinds, ", "))
	}
	return text, nil
}

// parsePage reads the address of a page.
func parsePage(text string) (string, error) {
	u, err := url.Parse(text)
	if text != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || !isHost(u.Hostname()) || !isPort(u.Port())) {
		return "", errBare("no web address: want as in https://gateway.example.com/")
	}
	return text, nil
}

// parseMailServer reads the host and port of a mail server.
func parseMailServer(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || !isHost(host) || port == "" || !isPort(port) {
		return "", errWant("host:port, as in smtp.example.com:587")
	}
	return text, nil
}

// parseMailAddress reads the address of a mailbox.
func parseMailAddress(text string) (string, error) {
	if _, err := mail.ParseAddress(text); err != nil {
		return "", errWant("a mail address, as in ops@example.com")
	}
	return text, nil
}

// checkAlerts checks the thresholds, and of each sink what its type asks for.
func (l *loader) checkAlerts() {
	a := &l.config.Alerts
	if !l.main.has(&a.Thresholds) {
		a.Thresholds = defaultThresholds()
	}
	l.checkThresholds(&a.Thresholds)
	ids := make(map[string]bool)
	for _, app := range l.config.Apps {
		ids[app.Name], ids[app.AppID] = true, true
	}
	for i := range a.Rules {
		r := &a.Rules[i]
		l.checkThresholds(&r.Thresholds)
		if at := l.main.at(&r.App); at.doc != nil && !at.faulty() && !ids[r.App] {
			at.fault("%s: no such app: %s", at.shown(r.App), suggest(r.App, sortedKeys(ids)))
		}
		l.warnOfNoRule(r)
	}
	names := make(map[string]int)
	for i := range a.Sinks {
		s := &a.Sinks[i]
		if !l.main.has(&s.Name) {
			s.Name = s.Type
		}
		if j, ok := names[s.Name]; ok && s.Name != "" {
			l.main.at(&s.Name, s).fault("%s: already the name of alerts.sinks[%d]: want name, another one", quote(s.Name), j)
		}
		names[s.Name] = i
		if at := l.main.at(s); at.doc != nil && at.kind() == "a mapping" && s.Type != "" {
			l.checkSink(s, at)
		}
	}
}

// warnOfNoRule warns of thresholds for rules that no app has: the table may be shared by several deployments.
func (l *loader) warnOfNoRule(r *AlertRule) {
	if r.Rule == "" || len(l.config.Apps) == 0 {
		return
	}
	for _, app := range l.config.Apps {
		if app.Rules == nil {
			return // with a fault
		}
		for _, rule := range app.Rules.Rules {
			if ok, _ := path.Match(r.Rule, rule.Name); ok {
				return
			}
		}
	}
	l.warnAt(l.main.at(&r.Rule), "%s: no app has such a rule", quote(r.Rule))
}

func (l *loader) checkThresholds(thresholds *[]int) {
	if at := l.main.at(thresholds); !slices.IsSorted(*thresholds) || len(slices.Compact(slices.Clone(*thresholds))) < len(*thresholds) {
		if at.doc != nil && !at.faulty() {
			at.fault("%s: want each once, the smallest first", fmt.Sprint(*thresholds))
		}
	}
}

// checkSink checks what a type asks for and what it has no use for.
func (l *loader) checkSink(s *AlertSink, at value) {
	isMail := s.Type == alert.Mail
	for _, key := range []struct {
		name  string
		field any
		mail  bool
	}{
		{"url", &s.URL, false},
		{"url_file", &s.URLFile, false},
		{"server", &s.Server, true},
		{"tls", &s.TLS, true},
		{"username", &s.Username, true},
		{"from", &s.From, true},
		{"to", &s.To, true},
	} {
		if key.mail != isMail && l.main.has(key.field) {
			l.main.at(key.field).atName().fault("%s has no %s", s.Type, key.name)
			return
		}
	}
	if l.main.has(&s.Secret) || l.main.has(&s.SecretFile) {
		l.checkSecrets(at, &s.Secret, &s.SecretFile, "secret")
	}
	if isMail {
		l.checkMail(s, at)
	} else {
		l.checkSecrets(at, &s.URL, &s.URLFile, "url")
		l.checkSinkURL(s)
	}
	l.checkSinkSecret(s)
}

// checkSinkURL checks an address, which no fault quotes.
func (l *loader) checkSinkURL(s *AlertSink) {
	at := l.main.at(&s.URL, &s.URLFile)
	if at.doc == nil || at.faulty() || len(s.URL) == 0 {
		return
	}
	u, err := url.Parse(s.URL[0])
	switch {
	case len(s.URL) > 1:
		at.fault("a list of %d: want one address", len(s.URL))
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || !isHost(u.Hostname()) || !isPort(u.Port()):
		at.fault("no web address: want the whole URL of the %s, with https://", s.Type)
	case u.Scheme == "http" && isPublic(u.Hostname()):
		at.fault("http to a public address: it could be read on the way: want https")
	default:
		l.warnOfRobotURL(s, at, u)
	}
}

// warnOfRobotURL warns of the address of another kind of robot, and of one without its key: the first message would
// tell, when it is needed.
func (l *loader) warnOfRobotURL(s *AlertSink, at value, u *url.URL) {
	_, hook, _ := strings.Cut(u.Path, "/hook/")
	for _, robot := range []struct{ kind, host, key string }{
		{alert.WeCom, "qyapi.weixin.qq.com", u.Query().Get("key")},
		{alert.DingTalk, "oapi.dingtalk.com", u.Query().Get("access_token")},
		{alert.Lark, "open.feishu.cn", hook},
		{alert.Lark, "open.larksuite.com", hook},
	} {
		switch {
		case u.Hostname() != robot.host:
		case s.Type != robot.kind:
			l.warnAt(at, "the address of a robot of %s: want type: %[1]s", robot.kind)
		case robot.key == "":
			l.warnAt(at, "no key in it: the robot will refuse every message: want the whole URL that the robot's page shows")
		}
	}
}

// checkSinkSecret checks a secret by what the type does with it.
func (l *loader) checkSinkSecret(s *AlertSink) {
	at := l.main.at(&s.Secret, &s.SecretFile)
	if at.doc == nil || at.faulty() || len(s.Secret) == 0 {
		return
	}
	switch s.Type {
	case alert.WeCom, alert.Alertmanager:
		at.fault("%s signs nothing: want no secret", s.Type)
	case alert.Webhook:
		for _, secret := range s.Secret {
			if _, err := alert.WebhookKey(secret); err != nil {
				at.fault("%s", err)
				return
			}
		}
	default:
		if len(s.Secret) > 1 {
			at.fault("a list of %d: want one secret", len(s.Secret))
		}
	}
}

func (l *loader) checkMail(s *AlertSink, at value) {
	for _, key := range []struct {
		name  string
		empty bool
		field any
		want  string
	}{
		{"server", s.Server == "", &s.Server, "host:port"},
		{"from", s.From == "", &s.From, "an address"},
		{"to", len(s.To) == 0, &s.To, "a list of addresses"},
	} {
		if key.empty && !l.main.has(key.field) {
			at.fault("no %s: want %s", key.name, key.want)
			return
		}
	}
	host, port, err := net.SplitHostPort(s.Server)
	if err != nil {
		return // with a fault
	}
	if s.TLS == "" {
		s.TLS = "starttls"
		if port == "465" {
			s.TLS = "implicit"
		}
	}
	switch hasSecret := l.main.has(&s.Secret) || l.main.has(&s.SecretFile); {
	case (s.Username != "") != hasSecret:
		at.fault("username and secret, the password, go together: want both or none")
	case s.TLS == "none" && (hasSecret || isPublic(host)):
		l.main.at(&s.TLS, s).fault("none with a password or a public server: it could be read on the way: want starttls or implicit")
	}
}
