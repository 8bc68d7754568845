package drift

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"

	"wxproxy/limits"
)

// figuresKey is the key of the adopted figures in the store: WeChat's figures a day, by rule name.
const figuresKey = "figures"

// Figures returns the figures a day that were adopted for an app, by rule name.
func (a *Auditor) Figures(ctx context.Context, app string) (map[string]limits.Budget, error) {
	figures, err := load(ctx, a.o.Store, app, figuresKey, parseFigures)
	return budgets(figures.value), err
}

func budgets(figures map[string]int64) map[string]limits.Budget {
	b := make(map[string]limits.Budget, len(figures))
	for rule, limit := range figures {
		b[rule] = limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: limit, Period: limits.Day}}}
	}
	return b
}

// parseFigures leaves out what is not a figure.
func parseFigures(raw []byte) map[string]int64 {
	var figures map[string]int64
	if json.Unmarshal(raw, &figures) != nil || figures == nil {
		figures = make(map[string]int64)
	}
	maps.DeleteFunc(figures, func(rule string, limit int64) bool {
		return limits.CheckRuleName(rule) != nil || limit < 1 || limit > limits.MaxLimit
	})
	return figures
}

// adopt replaces the figure of a rule by WeChat's, where that is configured and the figures differ. A
// path inside a /* has no figure: there one rule has many counters.
func (a *Auditor) adopt(ctx context.Context, m *answer) error {
	app, rule, limit := m.app, m.match.Rule.Name, m.limit
	if known, _ := a.o.App(app); limit == 0 || m.match.Counter != rule || !known.Auto {
		return nil
	}
	current := func(figures map[string]int64) int64 { return cmp.Or(figures[rule], dayFigure(m.match.Rule)) }
	a.adopting.Lock()
	defer a.adopting.Unlock()
	if figures, read := a.adopted[app]; read && current(figures) == limit {
		return nil
	}
	var figures stored[map[string]int64]
	var old int64
	err := update(ctx, a.o.Store, app, figuresKey, 0, &figures, parseFigures, func(f *map[string]int64) error {
		old = current(*f)
		if _, adopted := (*f)[rule]; old == limit || !adopted && len(*f) >= maxEntries {
			return errUnchanged
		}
		(*f)[rule] = limit
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return err
	}
	a.publishLocked(app, figures.value)
	if err == nil {
		a.o.Observe(Event{Kind: Adopted, App: app, Rule: rule, Old: old, New: limit})
	}
	return nil
}

var errUnchanged = errors.New("nothing to change")

// poll reads the figures that other gateways have adopted.
func (a *Auditor) poll(ctx context.Context, app string) error {
	a.adopting.Lock()
	defer a.adopting.Unlock()
	figures, err := load(ctx, a.o.Store, app, figuresKey, parseFigures)
	if err == nil {
		a.publishLocked(app, figures.value)
	}
	return err
}

// publishLocked calls Adopt with figures that it has not been called with. a.adopting is held.
func (a *Auditor) publishLocked(app string, figures map[string]int64) {
	if !maps.Equal(figures, a.adopted[app]) {
		a.adopted[app] = maps.Clone(figures)
		a.o.Adopt(app, budgets(figures))
	}
}
