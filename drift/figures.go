package drift

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"wxproxy/limits"
)

// figuresKey is where the store keeps what was adopted: WeChat's figures a day, by rule name.
const figuresKey = "figures"

// Figures returns the figures that were adopted for an app, each a day's, by rule name.
func (a *Auditor) Figures(ctx context.Context, app string) (map[string]limits.Budget, error) {
	figures, _, err := a.loadFigures(ctx, app)
	return budgets(figures), err
}

func budgets(figures map[string]int64) map[string]limits.Budget {
	b := make(map[string]limits.Budget, len(figures))
	for rule, limit := range figures {
		b[rule] = limits.Budget{Kind: limits.Limited, Quotas: []limits.Quota{{Limit: limit, Period: limits.Day}}}
	}
	return b
}

// loadFigures reads what was adopted for an app, and how it is written. What is not ours is left out.
func (a *Auditor) loadFigures(ctx context.Context, app string) (map[string]int64, []byte, error) {
	raw, err := a.o.Store.Get(ctx, app, figuresKey)
	if err != nil {
		return nil, nil, fmt.Errorf("figures of %s: %w", app, err)
	}
	var figures map[string]int64
	if json.Unmarshal(raw, &figures) != nil || figures == nil {
		figures = make(map[string]int64)
	}
	maps.DeleteFunc(figures, func(rule string, limit int64) bool {
		return limits.CheckRuleName(rule) != nil || limit < 1 || limit > limits.MaxLimit
	})
	return figures, raw, nil
}

// adopt takes over WeChat's figure of a rule, if that is wanted and it is another than the present.
// A path inside a /* has no figure of its own: one rule is many counters there.
func (a *Auditor) adopt(ctx context.Context, app string, match limits.Match, limit int64) error {
	known, _ := a.o.App(app)
	if limit == 0 || match.Rule == nil || match.Counter != match.Rule.Name || !known.Auto {
		return nil
	}
	rule := match.Rule.Name
	a.adopting.Lock()
	defer a.adopting.Unlock()
	for range maxWrites {
		figures, was, err := a.loadFigures(ctx, app)
		if err != nil {
			return err
		}
		old, adopted := figures[rule]
		if !adopted {
			old = dayFigure(match.Rule)
		}
		if old == limit || !adopted && len(figures) >= maxEntries {
			a.publish(app, figures)
			return nil
		}
		figures[rule] = limit
		value, err := json.Marshal(figures)
		if err != nil {
			return err
		}
		done, err := a.o.Store.CompareAndSet(ctx, app, figuresKey, was, value, 0)
		if err != nil {
			return fmt.Errorf("figures of %s: %w", app, err)
		}
		if done {
			a.publish(app, figures)
			a.o.Observe(Event{Kind: Adopted, App: app, Rule: rule, Old: old, New: limit})
			return nil
		}
	}
	return fmt.Errorf("figures of %s: changed by others %d times", app, maxWrites)
}

// poll hears of the figures that other gateways have adopted.
func (a *Auditor) poll(ctx context.Context, app string) error {
	a.adopting.Lock()
	defer a.adopting.Unlock()
	if known, _ := a.o.App(app); !known.Auto {
		delete(a.adopted, app)
		return nil
	}
	figures, _, err := a.loadFigures(ctx, app)
	if err != nil {
		return err
	}
	a.publish(app, figures)
	return nil
}

// publish tells of figures that this process has not been told of. a.adopting is held.
func (a *Auditor) publish(app string, figures map[string]int64) {
	if !maps.Equal(figures, a.adopted[app]) {
		a.adopted[app] = maps.Clone(figures)
		a.o.Adopt(app, budgets(figures))
	}
}
