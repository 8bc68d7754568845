package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/token"
	"wxproxy/wechat"
)

// tokenState is what the fetches of tokens have shown.
type tokenState struct {
	addresses []string // that WeChat has seen and does not let in
	token     string   // of an account that has got one; it is sent to nobody but WeChat
}

// How many accounts are looked at unless all are, and how many at once.
const (
	firstAccounts = 20
	atOnce        = 10
)

// outcome is how fetches ended, and for whom.
type outcome struct {
	errcode int    // 0: there was no answer that could be used
	address string // that WeChat has seen, with 40164
	reason  error  // without an errcode
	apps    []string
}

// lookAtTokens fetches a token for each account. stable_token without force_refresh returns the token that is in
// use, so this invalidates nothing.
func (d *doctor) lookAtTokens(ctx context.Context) []Finding {
	state := &tokenState{}
	defer d.accounts.Store(state)
	apps := d.Config.Apps
	switch {
	case len(apps) == 0:
		return []Finding{skipped(words.New(words.DoctorNoTokens), nil)}
	case d.Config.Token.Endpoint == "token" && !d.Fetch:
		return d.tokensOfGateway()
	}
	if network := d.network.Load(); network == nil || !network.reached {
		return []Finding{skipped(words.New(words.DoctorNotReached), nil)}
	}
	rest := 0
	if !d.All && len(apps) > firstAccounts {
		apps, rest = apps[:firstAccounts], len(apps)-firstAccounts
	}
	got, late, outcomes := d.fetch(ctx, apps, state)
	var findings []Finding
	for _, o := range outcomes {
		findings = append(findings, o.finding())
		if o.address != "" {
			state.addresses = append(state.addresses, o.address)
		}
	}
	if rest > 0 {
		findings = append(findings, note(words.New(words.DoctorMoreAccounts, "count", got, "rest", rest), words.New(words.DoctorMoreAccountsMend)))
	}
	if late > 0 {
		findings = append(findings, warning(words.New(words.DoctorLateAccounts, "count", got, "rest", late), words.New(words.DoctorTokenFailedMend)))
	}
	return orOK(findings, words.New(words.DoctorTokensFine, "count", got))
}

// fetched is how the fetch of one account's token ended.
type fetched struct {
	token string
	err   error
	late  bool // there was no time left for it
}

// fetchEach fetches a token of each app.
func (d *doctor) fetchEach(ctx context.Context, apps []config.App) []fetched {
	results := make([]fetched, len(apps))
	var group errgroup.Group
	group.SetLimit(atOnce)
	o := token.Options{Upstream: d.Config.Upstream.URL.String(), Endpoint: d.Config.Token.Endpoint}
	for i, app := range apps {
		group.Go(func() error {
			r := &results[i]
			if r.late = ctx.Err() != nil; !r.late {
				r.token, _, r.err = token.Fetch(ctx, o, token.App{AppID: app.AppID, Secret: app.Secrets[0]})
				r.late = r.err != nil && ctx.Err() != nil
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return none
	return results
}

// fetch fetches a token of each app. It returns how many it got, for how many there was no time, and how the others
// ended, the commonest first.
func (d *doctor) fetch(ctx context.Context, apps []config.App, state *tokenState) (got, late int, outcomes []*outcome) {
	by := make(map[string]*outcome)
	for i, r := range d.fetchEach(ctx, apps) {
		switch {
		case r.late:
			late++
			continue
		case r.err == nil:
			got++
			if state.token == "" {
				state.token = r.token
			}
			continue
		}
		one := outcomeOf(r.err)
		key := fmt.Sprint(one.errcode, one.address, one.reason)
		if by[key] == nil {
			by[key] = one
			outcomes = append(outcomes, one)
		}
		by[key].apps = append(by[key].apps, apps[i].Name)
	}
	slices.SortStableFunc(outcomes, func(a, b *outcome) int { return len(b.apps) - len(a.apps) })
	return got, late, outcomes
}

func outcomeOf(err error) *outcome {
	if r, ok := errors.AsType[*token.Rejected](err); ok {
		return &outcome{errcode: r.ErrCode, address: r.IP}
	}
	if errors.Is(err, wechat.SystemError) {
		return &outcome{errcode: int(wechat.SystemError)}
	}
	_, text, _ := strings.Cut(err.Error(), token.ErrUnavailable.Error()+": ")
	return &outcome{reason: errors.New(text)}
}

// finding says what an outcome means and where to mend it.
func (o *outcome) finding() Finding {
	apps := some(o.apps)
	if o.errcode == 0 {
		return fault(words.New(words.DoctorTokenFailed, "apps", apps, "reason", o.reason), words.New(words.DoctorTokenFailedMend))
	}
	seen := func(m words.Message) *words.Error {
		return words.New(words.DoctorTokenRejected, "apps", apps, "errcode", o.errcode, "meaning", m)
	}
	switch o.errcode {
	case 40164, 61004:
		if o.address == "" {
			return fault(seen(words.DoctorNotListed), words.New(words.DoctorNotListedMend))
		}
		return fault(words.New(words.DoctorAddressRefused, "apps", apps, "errcode", o.errcode, "address", o.address), words.New(words.DoctorAddressRefusedMend, "address", o.address))
	case 40001, 40125:
		return fault(seen(words.DoctorWrongSecret), words.New(words.DoctorWrongSecretMend))
	case 40243:
		return fault(seen(words.DoctorFrozen), words.New(words.DoctorFrozenMend))
	case 40013, 41002:
		return fault(seen(words.DoctorWrongAppID), words.New(words.DoctorWrongAppIDMend))
	case 41004:
		return fault(seen(words.DoctorNoSecret), words.New(words.DoctorNoSecretMend))
	case 50002, 50004, 50007:
		return fault(seen(words.DoctorBlocked), words.New(words.DoctorBlockedMend))
	case 45009:
		return fault(seen(words.DoctorFetchedOften), words.New(words.DoctorFetchedOftenMend))
	case 45011:
		return warning(seen(words.DoctorFetchedFast), words.New(words.DoctorFetchedFastMend))
	case 89501, 89503, 89506, 89507:
		return fault(seen(words.DoctorConfirm), words.New(words.DoctorConfirmMend))
	case -1:
		return warning(seen(words.DoctorBusy), words.New(words.DoctorBusyMend))
	}
	return fault(seen(words.DoctorOtherErrcode), words.New(words.DoctorOtherErrcodeMend))
}

// some names the first of several, and how many more there are.
func some(names []string) words.List {
	const most = 5
	var list words.List
	for i, name := range names {
		if i == most {
			return append(list, words.New(words.DoctorMore, "count", len(names)-most))
		}
		list = append(list, name)
	}
	return list
}

// tokensOfGateway tells what the running gateway has counted of its own fetches: with the old endpoint a fetch
// would void the token that it uses.
func (d *doctor) tokensOfGateway() []Finding {
	gateway := d.gateway.Load()
	if gateway == nil {
		return []Finding{skipped(words.New(words.DoctorWouldVoid), words.New(words.DoctorWouldVoidMend))}
	}
	var findings []Finding
	var fetched int64
	for _, m := range gateway.metrics {
		if m.name != "wxproxy_token_refresh_total" || m.value == 0 {
			continue
		}
		result := m.labels["result"]
		if result == "ok" {
			fetched += int64(m.value)
			continue
		}
		o := &outcome{apps: []string{m.labels["app"]}, reason: errors.New("no answer")}
		if code, err := strconv.Atoi(result); err == nil {
			o.errcode = code
		}
		f := o.finding()
		// It may be over: the gateway has counted it since its start.
		findings = append(findings, Finding{Warning, words.New(words.DoctorCounted, "count", int64(m.value), "finding", f.Seen), f.Mend})
	}
	slices.SortFunc(findings, func(a, b Finding) int { return strings.Compare(a.Seen.Error(), b.Seen.Error()) })
	if len(findings) == 0 && fetched == 0 {
		return []Finding{skipped(words.New(words.DoctorWouldVoid), words.New(words.DoctorWouldVoidMend))}
	}
	return orOK(findings, words.New(words.DoctorGatewayFetched, "count", fetched))
}
