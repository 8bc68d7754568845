package doctor

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"wxproxy/internal/words"
)

// What of an access log is read: its end, and of that the last day.
const (
	logBytes = 16 << 20
	logAge   = 24 * time.Hour
)

// How many refusals of one client for one reason are told of.
const manyRefusals = 20

// line is what is read of a line of the access log.
type line struct {
	Time     time.Time `json:"time"`
	ClientIP string    `json:"client_ip"`
	Path     string    `json:"path"`
	Reason   string    `json:"reason"`
	Errcode  int       `json:"errcode"`
	Status   int       `json:"status"`
}

// mistake is a mistake in a client's configuration that lines of the log show.
type mistake struct {
	seen, mend words.Message
	of         func(line) bool
}

var (
	doubled   = regexp.MustCompile(`(?i)^/(cgi-bin|sns|wxa|datacube|card|customservice)/(cgi-bin|sns|wxa|datacube|card|customservice)/`)
	secondApp = regexp.MustCompile(`^/(wx[0-9a-f]{16})(/|$)`)
	// weCom are paths of qyapi.weixin.qq.com that api.weixin.qq.com has not.
	weCom = regexp.MustCompile(`(?i)^/cgi-bin/(gettoken|agent/|department/|message/send$|externalcontact/|user/getuserinfo|get_jsapi_ticket)`)
)

// mistakes are looked for in this order; a line counts for the first only.
var mistakes = []mistake{
	{words.DoctorWeCom, words.DoctorWeComMend, func(l line) bool { return weCom.MatchString(l.Path) }},
	{words.DoctorDoubled, words.DoctorDoubledMend, func(l line) bool { return doubled.MatchString(l.Path) && l.Errcode == 40066 }},
	{words.DoctorAppTwice, words.DoctorAppTwiceMend, func(l line) bool { return secondApp.MatchString(l.Path) }},
	{words.DoctorOneSegment, words.DoctorOneSegmentMend, func(l line) bool {
		return l.Status == 404 && strings.Count(strings.Trim(l.Path, "/"), "/") == 0 && l.Path != "" && l.Path != "/" && l.Path != "/favicon.ico" && l.Path != "/robots.txt"
	}},
}

// reasons are those that are told of when one client has many of them.
var reasons = map[string]words.Message{
	"nothing-shown":       words.DoctorNothingShownMend,
	"browser":             words.DoctorBrowserMend,
	"proxy":               words.DoctorRelayedMend,
	"host":                words.DoctorHostMend,
	"unknown-token":       words.DoctorUnknownTokenMend,
	"wrong-key":           words.DoctorWrongKeyMend,
	"address-not-allowed": words.DoctorNotAllowedMend,
}

// tally is how often something was seen, and when and from where last.
type tally struct {
	count  int
	last   time.Time
	client string
	path   string
}

func (t *tally) add(l line) {
	if t.count++; !l.Time.Before(t.last) {
		t.last, t.client, t.path = l.Time, l.ClientIP, l.Path
	}
}

// lookAtLog reads the end of the access log.
func (d *doctor) lookAtLog(ctx context.Context) []Finding {
	path := cmp.Or(d.Log, d.Config.AccessLog.File)
	if path == "" {
		return []Finding{skipped(words.New(words.DoctorStdout), words.New(words.DoctorStdoutMend))}
	}
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if errors.Is(err, os.ErrNotExist) && d.Log == "" {
		return []Finding{ok(words.New(words.DoctorLogAbsent, "file", path))}
	}
	if err != nil {
		return []Finding{fault(words.New(words.DoctorLogUnreadable, "file", path, "error", fileError(err)), words.New(words.DoctorLogUnreadableMend))}
	}
	defer f.Close()
	read, found, refused, err := readLog(ctx, f, time.Now().Add(-logAge))
	if err != nil {
		return []Finding{fault(words.New(words.DoctorLogUnreadable, "file", path, "error", fileError(err)), words.New(words.DoctorLogUnreadableMend))}
	}
	var findings []Finding
	for i, m := range mistakes {
		if t := found[i]; t.count > 0 {
			findings = append(findings, warning(words.New(m.seen, "count", t.count, "client", t.client, "path", t.path, "time", t.last.Format(time.RFC3339)), words.New(m.mend)))
		}
	}
	for _, r := range refused {
		findings = append(findings, warning(words.New(words.DoctorRefused, "count", r.count, "client", r.client, "reason", r.reason, "time", r.last.Format(time.RFC3339)), words.New(reasons[r.reason])))
	}
	return orOK(findings, words.New(words.DoctorLogFine, "file", path, "lines", read))
}

// refusals are those of one client for one reason.
type refusals struct {
	tally

	reason string
}

// readLog reads the last lines of a log as far as they are not older than since: how many there are, the mistakes
// that they show, and the clients that were refused often, the commonest first.
func readLog(ctx context.Context, f *os.File, since time.Time) (read int, found []tally, often []refusals, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, nil, nil, err
	}
	start := max(info.Size()-logBytes, 0)
	if _, err := f.Seek(start, io.SeekStart); err != nil {
		return 0, nil, nil, err
	}
	found = make([]tally, len(mistakes))
	refused := make(map[[2]string]*tally)
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	for first := start > 0; lines.Scan() && ctx.Err() == nil; first = false {
		var l line
		if first || json.Unmarshal(lines.Bytes(), &l) != nil || l.Time.Before(since) {
			continue // the first one may be half a line
		}
		read++
		for i, m := range mistakes {
			if m.of(l) {
				found[i].add(l)
				break
			}
		}
		if _, told := reasons[l.Reason]; told {
			key := [2]string{l.ClientIP, l.Reason}
			if refused[key] == nil {
				refused[key] = &tally{}
			}
			refused[key].add(l)
		}
	}
	for key, t := range refused {
		if t.count >= manyRefusals {
			often = append(often, refusals{*t, key[1]})
		}
	}
	slices.SortFunc(often, func(a, b refusals) int {
		return cmp.Or(b.count-a.count, strings.Compare(a.client, b.client), strings.Compare(a.reason, b.reason))
	})
	return read, found, often[:min(len(often), mostTold)], lines.Err()
}

// mostTold is how many clients with many refusals are told of.
const mostTold = 10
