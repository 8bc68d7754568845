package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"wxproxy/history"
	"wxproxy/limits"
)

const (
	maxCallerApps = 100         // in one answer; a caller with more names one
	callerReads   = time.Second // between two requests to the store for one caller
	callerBudget  = 2 * time.Second
)

// CallerUsage is the answer to a caller about its own accounts: what of /api/v1/usage is the caller's.
type CallerUsage struct {
	Time   time.Time  `json:"time"` // when it was read
	Caller string     `json:"caller"`
	Apps   []AppUsage `json:"apps"`
	More   int        `json:"more,omitempty"` // accounts that were left out, because there are too many
}

// CallerQuestion is what a caller asks.
type CallerQuestion struct {
	Caller string
	Apps   []App                  // all of the caller's
	Only   string                 // the appid of one of them; "" is all
	All    bool                   // rules too that were not used
	May    func(rule string) bool // reports whether the caller may call a rule
}

// CallerUsages answers callers. However often a caller asks, the store is read for it once a second at most. It is
// safe for concurrent use.
type CallerUsages struct {
	limiter Limiter
	history Recorder // nil: there are no forecasts with a time

	mu    sync.Mutex
	reads map[string]*callerRead // by caller, of which there are as many as were ever configured
}

// NewCallerUsages returns CallerUsages of a limiter's counters, with forecasts from the history; history may be nil.
func NewCallerUsages(limiter Limiter, history Recorder) *CallerUsages {
	return &CallerUsages{limiter: limiter, history: history, reads: make(map[string]*callerRead)}
}

// callerRead is what was last read for one caller.
type callerRead struct {
	turn  chan struct{} // holds one; covers what follows
	at    time.Time
	lines map[string][]limits.Usage // by appid; nil for one that was not read
	rates map[string]*history.Rates // by appid
	err   error
}

// Answer returns a CallerUsage as JSON, without a newline behind it. Its error is of the store, if that has answered
// about no account, or of ctx.
func (u *CallerUsages) Answer(ctx context.Context, q CallerQuestion) ([]byte, error) {
	apps, more := q.Apps, 0
	for _, app := range q.Apps {
		if app.AppID == q.Only {
			apps = []App{app}
		}
	}
	if len(apps) > maxCallerApps {
		apps, more = apps[:maxCallerApps], len(apps)-maxCallerApps
	}
	r, err := u.read(ctx, q, apps)
	if err != nil {
		return nil, err
	}
	answer := CallerUsage{Time: r.at, Caller: q.Caller, Apps: make([]AppUsage, 0, len(apps)), More: more}
	for _, app := range apps {
		one := AppUsage{App: app.Name, AppID: app.AppID, Rows: []Row{}}
		rules := u.limiter.Rules(app.AppID)
		switch {
		case rules == nil: // between two reloads
			one.Error = "not configured"
		case r.lines[app.AppID] == nil:
			one.Profile, one.Error = rules.Profile, "the store does not answer"
		default:
			one.Profile, one.Rows = rules.Profile, q.rows(r.at, r.lines[app.AppID], r.rates[app.AppID])
		}
		answer.Apps = append(answer.Apps, one)
	}
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	if err := e.Encode(answer); err != nil {
		return nil, err
	}
	return bytes.TrimRight(body.Bytes(), "\n"), nil
}

// rows returns the rows that the caller may see: of rules that it may call, and of shares only its own. A path inside a
// /* that has no figure is not used up by anybody, so it is for All alone.
func (q *CallerQuestion) rows(now time.Time, lines []limits.Usage, rates *history.Rates) []Row {
	rows := []Row{}
	shown := make(map[string]bool) // counters
	for _, line := range lines {
		counter, caller, share := strings.Cut(line.Counter, "@")
		if share && (caller != q.Caller || !shown[counter]) || !q.May(line.Rule.Name) {
			continue
		}
		used := line.Used > 0 && (line.Limit > 0 || counter == line.Rule.Name)
		if share || q.All || used || line.Latched {
			shown[counter] = true
			row := rowOf(line)
			row.Forecast = ForecastOf(now, line, rates)
			rows = append(rows, row)
		}
	}
	return rows
}

// read returns what was read for the caller within the last second, with apps in it.
func (u *CallerUsages) read(ctx context.Context, q CallerQuestion, apps []App) (callerRead, error) {
	u.mu.Lock()
	r := u.reads[q.Caller]
	if r == nil {
		r = &callerRead{turn: make(chan struct{}, 1)}
		u.reads[q.Caller] = r
	}
	u.mu.Unlock()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return callerRead{}, ctx.Err()
	}
	if wait := callerReads - time.Since(r.at); wait > 0 {
		if r.has(apps) {
			return *r, r.err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return callerRead{}, ctx.Err()
		}
	}
	if len(q.Apps) <= maxCallerApps {
		apps = q.Apps // so that any of them may be asked about next
	}
	ids := appids(apps)
	reading, cancel := context.WithTimeout(ctx, callerBudget)
	defer cancel()
	lines, err := u.limiter.UsageAll(reading, ids, false)
	rates := Rates(reading, u.history, apps, lines)
	if ctx.Err() != nil { // the client is gone, which says nothing of the store
		return callerRead{}, ctx.Err()
	}
	r.at, r.lines, r.rates, r.err = time.Now(), make(map[string][]limits.Usage, len(apps)), rates, err
	for i, appid := range ids {
		if r.lines[appid] = lines[i]; lines[i] != nil {
			r.err = nil // of some other account
		}
	}
	return *r, r.err
}

// has reports whether apps are among those that were asked for.
func (r *callerRead) has(apps []App) bool {
	for _, app := range apps {
		if _, ok := r.lines[app.AppID]; !ok {
			return false
		}
	}
	return true
}
