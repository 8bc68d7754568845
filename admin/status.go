package admin

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"wxproxy/limits"
)

// Status is the answer of /api/v1/status: what runs, and what is wrong with it.
type Status struct {
	Time          time.Time       `json:"time"`
	Version       string          `json:"version"`
	Revision      string          `json:"revision,omitempty"`
	Go            string          `json:"go"`
	Gateway       string          `json:"gateway"` // the id of this process life
	Started       time.Time       `json:"started"`
	UptimeSeconds int64           `json:"uptime_seconds"`
	Store         StoreStatus     `json:"store"`
	Gateways      []Gateway       `json:"gateways"`                 // of the fleet, in the last ten minutes; the embedded store has but one
	GatewaysError string          `json:"gateways_error,omitempty"` // why they are not known
	Reload        reloadAnswer    `json:"reload"`
	Certificate   time.Time       `json:"certificate_not_after,omitzero"` // of the main listener
	Totals        Totals          `json:"totals"`
	Accounts      []AccountStatus `json:"accounts"`                 // all if they are few, else those with a problem
	LeftOut       int             `json:"left_out,omitempty"`       // further accounts with a problem
	AccountsError string          `json:"accounts_error,omitempty"` // why something of them is not known
	Config        map[string]any  `json:"config"`                   // in force, without a secret
}

// StoreStatus is whether the store answers.
type StoreStatus struct {
	Kind     string    `json:"kind"`     // file, redis and the other schemes of store.url
	Answers  bool      `json:"answers"`  // be it with an error
	Counting bool      `json:"counting"` // it takes counts
	Since    time.Time `json:"since"`    // since when that is so
	Error    string    `json:"error,omitempty"`
}

// Gateway is one process that shares the store.
type Gateway struct {
	ID            string    `json:"id"`
	LastHeartbeat time.Time `json:"last_heartbeat,omitzero"` // every 10 s at least, by the store's clock
	This          bool      `json:"this,omitempty"`          // it answers here
}

// Totals are how many accounts there are of each kind.
type Totals struct {
	Accounts int `json:"accounts"` // configured
	Learned  int `json:"learned"`
	Tokens   int `json:"tokens"`  // accounts with a good access_token
	Refused  int `json:"refused"` // accounts that WeChat issues none to, or does not answer about
	Latched  int `json:"latched"` // accounts with a rule that WeChat itself answers 45009 for
	UsedUp   int `json:"used_up"` // accounts with a quota that is used up
}

// AccountStatus is one account.
type AccountStatus struct {
	App     string      `json:"app"`
	AppID   string      `json:"appid"`
	Profile string      `json:"profile,omitempty"`
	Learned bool        `json:"learned,omitempty"`
	Problem bool        `json:"problem,omitempty"` // something of what follows is to be looked at
	Token   *TokenState `json:"token,omitempty"`
	Latched []string    `json:"latched,omitempty"` // rules that WeChat itself answers 45009 for
	UsedUp  []string    `json:"used_up,omitempty"` // rules whose quota is used up
	Clears  []Clears    `json:"clears,omitempty"`  // left this month
	Error   string      `json:"error,omitempty"`   // why its counters were not read
}

// Clears is how many clears of one kind are left this month.
type Clears struct {
	Kind      string    `json:"kind" enum:"app,rule"` // of the whole app, or of a rule's paths
	Limit     int64     `json:"limit"`
	Remaining int64     `json:"remaining"`
	Reset     time.Time `json:"reset"`
}

// Running is what a gateway knows of itself.
type Running struct {
	ID          string
	Started     time.Time
	StoreKind   string
	Certificate time.Time      // when it ends; zero: none
	Config      map[string]any // in force, without a secret
}

const (
	fewAccounts  = 20  // up to which all are shown
	mostProblems = 100 // accounts with a problem
)

func (a *Admin) status(w http.ResponseWriter, r *http.Request) {
	apps, one := a.o.Apps(), r.URL.Query().Get("app") != ""
	if one {
		app, ok := a.app(w, r.URL.Query().Get("app"))
		if !ok {
			return
		}
		apps = []App{app}
	}
	now := time.Now()
	s := Status{
		Time: now, Version: a.o.Build.Version, Revision: a.o.Build.Revision, Go: runtime.Version(),
		Reload: a.reloaded(), Gateways: []Gateway{}, Accounts: []AccountStatus{}, Config: map[string]any{},
	}
	if a.o.Running != nil {
		run := a.o.Running()
		s.Gateway, s.Started, s.UptimeSeconds, s.Certificate = run.ID, run.Started, int64(now.Sub(run.Started).Seconds()), run.Certificate
		s.Store.Kind = run.StoreKind
		if run.Config != nil {
			s.Config = run.Config
		}
	}
	a.storeStatus(&s.Store)
	a.fleet(r.Context(), &s)
	a.accountsStatus(r.Context(), apps, one, &s)
	reply(w, http.StatusOK, s)
}

func (a *Admin) storeStatus(s *StoreStatus) {
	state := a.o.Limiter.Store()
	s.Answers, s.Counting, s.Since = state.Answers, state.Err == nil, state.Since
	if state.Err != nil {
		s.Error = storeProblem(state.Err)
	}
}

// fleet puts the gateways into the answer, the one that was heard of last first.
func (a *Admin) fleet(ctx context.Context, s *Status) {
	if a.o.Gateways == nil {
		s.Gateways = append(s.Gateways, Gateway{ID: s.Gateway, This: true})
		return
	}
	gateways, err := a.o.Gateways(ctx)
	if err != nil {
		s.GatewaysError = storeProblem(err)
	}
	for id, at := range gateways {
		s.Gateways = append(s.Gateways, Gateway{ID: id, LastHeartbeat: at, This: id == s.Gateway})
	}
	slices.SortFunc(s.Gateways, func(x, y Gateway) int {
		if c := y.LastHeartbeat.Compare(x.LastHeartbeat); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
}

// accountsStatus puts the accounts into the answer: of many, only those with a problem.
func (a *Admin) accountsStatus(ctx context.Context, apps []App, one bool, s *Status) {
	lines, err := a.o.Limiter.UsageAll(ctx, appids(apps), !one)
	if err != nil {
		s.AccountsError = storeProblem(err)
	}
	tokens, now := a.tokenStates(ctx, apps), time.Now()
	for i, app := range apps {
		account := a.accountStatus(app, lines[i], tokens[i])
		if err != nil && lines[i] == nil && account.Error == "" {
			account.Error = storeProblem(err)
		}
		s.Totals.add(&account, now)
		switch {
		case !one && len(apps) > fewAccounts && !account.Problem:
		case len(s.Accounts) >= mostProblems:
			s.LeftOut++
		default:
			s.Accounts = append(s.Accounts, account)
		}
	}
}

func (t *Totals) add(a *AccountStatus, now time.Time) {
	count := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	count(&t.Accounts, !a.Learned)
	count(&t.Learned, a.Learned)
	count(&t.Tokens, a.Token != nil && a.Token.State != "dead" && now.Before(a.Token.Expires))
	count(&t.Refused, a.Token != nil && (a.Token.State == "refused" || a.Token.State == "failing"))
	count(&t.Latched, len(a.Latched) > 0)
	count(&t.UsedUp, len(a.UsedUp) > 0)
}

func (a *Admin) accountStatus(app App, lines []limits.Usage, token *TokenState) AccountStatus {
	s := AccountStatus{App: app.Name, AppID: app.AppID, Learned: app.Learned, Token: token, Latched: latched(lines)}
	rules := a.o.Limiter.Rules(app.AppID)
	if rules == nil { // between two reloads
		s.Error = "not configured"
		return s
	}
	s.Profile = rules.Profile
	for _, u := range lines {
		if u.Limit > 0 && u.Remaining == 0 && !strings.Contains(u.Counter, "@") && !slices.Contains(s.UsedUp, u.Rule.Name) {
			s.UsedUp = append(s.UsedUp, u.Rule.Name)
		}
	}
	if !app.Learned {
		s.Clears = clearsLeft(rules, lines)
	}
	s.Problem = token.wrong() || len(s.Latched) > 0 || len(s.UsedUp) > 0
	return s
}

// clearsLeft returns the month's clears of an app, as far as lines has them.
func clearsLeft(rules *limits.Ruleset, lines []limits.Usage) []Clears {
	var left []Clears
	for _, kind := range [...]struct{ name, path string }{{"app", clearAllPath}, {"rule", clearOnePath}} {
		counter := rules.Match(kind.path).Counter
		for _, u := range lines {
			if u.Counter == counter && u.Period == limits.Month && u.Limit > 0 {
				left = append(left, Clears{Kind: kind.name, Limit: u.Limit, Remaining: u.Remaining, Reset: u.Reset})
			}
		}
	}
	return left
}
