package limits

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Period is the calendar window of a quota.
type Period uint8

// The periods that WeChat counts by.
const (
	Day Period = iota
	Month
)

func (p Period) String() string {
	if p == Month {
		return "month"
	}
	return "day"
}

// Quota is WeChat's number of calls for a calendar window, as in 1000/day.
type Quota struct {
	Limit  int64
	Period Period
}

func (q Quota) String() string { return fmt.Sprintf("%d/%s", q.Limit, q.Period) }

// MaxLimit is the largest figure a quota may have. It stays far under 1e15, from where Lua prints
// numbers with an exponent.
const MaxLimit = 1_000_000_000_000

// ParseQuota reads N/day or N/month. N is from 1 to MaxLimit: a rule that may never be called is
// "denied", which is something else than a quota of none.
func ParseQuota(text string) (Quota, error) {
	figure, unit, ok := strings.Cut(text, "/")
	if !ok {
		return Quota{}, fmt.Errorf("quota %q: want N/day or N/month", text)
	}
	var q Quota
	switch unit {
	case "day":
		q.Period = Day
	case "month":
		q.Period = Month
	default:
		return Quota{}, fmt.Errorf("quota %q: want N/day or N/month", text)
	}
	n, err := strconv.ParseInt(figure, 10, 64)
	if err != nil || figure[0] == '+' {
		return Quota{}, fmt.Errorf("quota %q: %q is not a whole number", text, figure)
	}
	if n < 1 || n > MaxLimit {
		return Quota{}, fmt.Errorf("quota %q: want a number from 1 to %d (nothing at all is \"denied\", no limit is \"unlimited\")", text, int64(MaxLimit))
	}
	q.Limit = n
	return q, nil
}

// Kind is one of the four things that a table can state for a rule. They are different, and none is 0.
type Kind uint8

const (
	// Unknown means that no figure is published: calls are counted and never refused.
	Unknown Kind = iota
	// Unlimited means that the table states that there is no limit (无).
	Unlimited
	// Denied means that the account lacks the API (未获得): calls are refused with 48001.
	Denied
	// Limited means that Budget.Quotas holds the figures.
	Limited
)

// Budget is what a table states for a rule: its quotas, or one of unlimited, unknown and denied.
// The zero value is unknown.
type Budget struct {
	Kind   Kind
	Quotas []Quota // of Limited: one or two, each of another period, the day's first
}

// ParseBudget reads "unlimited", "unknown", "denied", or one quota for each element of texts.
func ParseBudget(texts ...string) (Budget, error) {
	if len(texts) == 1 {
		switch texts[0] {
		case "unlimited":
			return Budget{Kind: Unlimited}, nil
		case "unknown":
			return Budget{Kind: Unknown}, nil
		case "denied":
			return Budget{Kind: Denied}, nil
		}
		if !strings.Contains(texts[0], "/") {
			return Budget{}, fmt.Errorf("quota %q: want N/day, N/month, a list of them, unlimited, unknown or denied", texts[0])
		}
	}
	if len(texts) == 0 {
		return Budget{}, errors.New("quota: an empty list: want N/day, N/month, a list of them, unlimited, unknown or denied")
	}
	b := Budget{Kind: Limited}
	for _, text := range texts {
		q, err := ParseQuota(text)
		if err != nil {
			return Budget{}, err
		}
		for _, other := range b.Quotas {
			if other.Period == q.Period {
				return Budget{}, fmt.Errorf("quota %q: a second figure a %s beside %s", text, q.Period, other)
			}
		}
		b.Quotas = append(b.Quotas, q)
	}
	if len(b.Quotas) == 2 && b.Quotas[0].Period == Month {
		b.Quotas[0], b.Quotas[1] = b.Quotas[1], b.Quotas[0]
	}
	return b, nil
}

func (b Budget) String() string {
	switch b.Kind {
	case Unlimited:
		return "unlimited"
	case Denied:
		return "denied"
	case Limited:
		texts := make([]string, len(b.Quotas))
		for i, q := range b.Quotas {
			texts[i] = q.String()
		}
		return strings.Join(texts, ", ")
	default:
		return "unknown"
	}
}

// Smallest returns the smallest figure of a limited budget, and false for any other kind.
func (b Budget) Smallest() (int64, bool) {
	if b.Kind != Limited || len(b.Quotas) == 0 {
		return 0, false
	}
	least := b.Quotas[0].Limit
	for _, q := range b.Quotas[1:] {
		least = min(least, q.Limit)
	}
	return least, true
}

// Pace is our own smoothing of a rule: Rate calls in each Per, of which Burst may come at once.
// The zero value is no pace.
type Pace struct {
	Rate  int
	Per   time.Duration // time.Second or time.Minute
	Burst int
}

// maxPace keeps a pace within what redis_rate computes exactly.
const maxPace = 1_000_000

// ParsePace reads N/second or N/minute, with an optional burst as in "60/minute burst 10". The
// burst is N when none is given.
func ParsePace(text string) (Pace, error) {
	wrong := func() (Pace, error) {
		return Pace{}, fmt.Errorf("pace %q: want N/second or N/minute, optionally followed by \"burst N\", each N from 1 to %d", text, maxPace)
	}
	fields := strings.Fields(text)
	if len(fields) != 1 && (len(fields) != 3 || fields[1] != "burst") {
		return wrong()
	}
	figure, unit, _ := strings.Cut(fields[0], "/")
	n, err := strconv.Atoi(figure)
	if err != nil || n < 1 || n > maxPace {
		return wrong()
	}
	p := Pace{Rate: n, Burst: n}
	switch unit {
	case "second":
		p.Per = time.Second
	case "minute":
		p.Per = time.Minute
	default:
		return wrong()
	}
	if len(fields) == 3 {
		if p.Burst, err = strconv.Atoi(fields[2]); err != nil || p.Burst < 1 || p.Burst > maxPace {
			return wrong()
		}
	}
	return p, nil
}

func (p Pace) String() string {
	if p.Rate == 0 {
		return ""
	}
	unit := "second"
	if p.Per == time.Minute {
		unit = "minute"
	}
	if p.Burst == p.Rate {
		return fmt.Sprintf("%d/%s", p.Rate, unit)
	}
	return fmt.Sprintf("%d/%s burst %d", p.Rate, unit, p.Burst)
}
