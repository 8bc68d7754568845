package limits

import (
	"maps"
	"slices"
	"time"
)

// reserve is calls of a rule that are kept back for another caller than that of a group: what is unused of
// them is no room for the group's calls.
type reserve struct {
	counter *counter // the other caller's
	calls   int64
}

// reserved remembers that the store has answered that what is left is kept back for other callers.
type reserved struct {
	counter *counter      // the rule's, which they are kept back of
	until   time.Duration // refused from memory until then, by moment.since
	opened  int           // counter.opened at that time
}

// by returns the counter whose rest is kept back, as the store has answered within the last second; nil: none.
func (k *reserved) by(now moment) *counter {
	if now.since < k.until && k.opened == k.counter.opened {
		return k.counter
	}
	return nil
}

// close has the group refuse from memory for a second.
func (k *reserved) close(c *counter, now moment) {
	k.counter, k.until, k.opened = c, now.since+fullTTL, c.opened
}

// free is how many calls are left of a counter for a group's caller, as far as this gateway knows.
func (g *group) free(c *counter, now moment) int64 {
	free := c.free(now.store)
	if len(g.reserves) == 0 || c.name != g.counters[0].name {
		return free
	}
	for _, r := range g.reserves {
		if r.counter.window.Period == c.window.Period {
			free -= r.counter.unused(r.calls)
		}
	}
	return max(0, free)
}

// appendReserves adds what a rule with reserves needs beside its quotas and shares: a counter of the
// caller's own calls in each window, if a reserve is the caller's, and then those of the others.
func appendReserves(needs []need, rule *Rule, name, caller string) []need {
	for _, own := range []bool{true, false} {
		for _, other := range slices.Sorted(maps.Keys(rule.Reserve)) {
			if (other == caller) != own {
				continue
			}
			for _, q := range rule.Budget.Quotas {
				n := need{name: name + "@" + other, period: q.Period, limit: rule.shareOf(other, q.Period)}
				switch {
				case !own:
					n.reserve = rule.Reserve[other]
				case n.limit < noLimit: // as a share it is there
					continue
				}
				needs = append(needs, n)
			}
		}
	}
	return needs
}

// callers returns the callers with a share or a reserve, in alphabetical order.
func (r *Rule) callers() []string {
	callers := slices.AppendSeq(slices.Collect(maps.Keys(r.Shares)), maps.Keys(r.Reserve))
	slices.Sort(callers)
	return slices.Compact(callers)
}

// shareOf returns a caller's share of a quota; noLimit: it has none.
func (r *Rule) shareOf(caller string, p Period) int64 {
	for _, q := range r.Shares[caller].Quotas {
		if q.Period == p {
			return q.Limit
		}
	}
	return noLimit
}

// keptBack reports whether the counter of an answer without room has some left, which is kept back for
// other callers.
func keptBack(r *Request, a *Answer) bool {
	asked, state := &r.Counters[a.Which], &a.Counters[a.Which]
	return a.Status == Full && asked.Limit+state.Grant.at(a.Now)-state.Used > 0
}
