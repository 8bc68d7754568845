package report

import (
	"cmp"
	"slices"
	"time"
)

// Dimension is a field of the access log that a report sums by.
type Dimension uint8

// The dimensions.
const (
	App Dimension = iota
	Rule
	Caller
	Decision
	Reason
	ErrCode
	Hour
	dimensions
)

var dimensionNames = [dimensions]string{"app", "rule", "caller", "decision", "reason", "errcode", "hour"}

func (d Dimension) String() string { return dimensionNames[d] }

// DimensionNames are the names of all dimensions.
func DimensionNames() []string { return dimensionNames[:] }

// ParseDimension returns the dimension of a name.
func ParseDimension(name string) (Dimension, bool) {
	i := slices.Index(dimensionNames[:], name)
	return Dimension(max(i, 0)), i >= 0
}

// Bounds of what a report keeps in memory.
const (
	maxGroups = 100_000 // of all tables together
	maxTexts  = 100_000 // different names, paths and hours
)

// Rest stands for what found no place any more.
const Rest = "…"

// texts gives each text a number. What finds no place has the number 0, as Rest.
type texts struct {
	numbers map[string]uint32
	of      []string
}

func newTexts() *texts {
	return &texts{numbers: map[string]uint32{Rest: 0}, of: []string{Rest}}
}

func (t *texts) number(text []byte) uint32 {
	n, known := t.numbers[string(text)]
	if !known && len(t.of) < maxTexts {
		n = uint32(len(t.of)) // at most maxTexts
		t.of = append(t.of, string(text))
		t.numbers[t.of[n]] = n
	}
	return n
}

// Counts are sums over calls.
type Counts struct {
	Calls   int64 `json:"calls"`
	Passed  int64 `json:"passed"`  // decided pass, degraded or shadow
	Refused int64 `json:"refused"` // by the gateway
	Local   int64 `json:"local"`   // answered by the gateway, as token requests are
	Sent    int64 `json:"sent"`    // requests to WeChat; a call whose token had died is two
	Errors  int64 `json:"errors"`  // passed, and WeChat answered with an errcode
	First   int64 `json:"-"`       // the first refusal and the last, milliseconds since 1970; 0: none
	Last    int64 `json:"-"`
}

// add counts one call.
func (c *Counts) add(l *Line) {
	c.Calls++
	c.Sent += l.Attempts
	switch kindOf(l.Decision) {
	case passed:
		c.Passed++
		if l.ErrCode != 0 {
			c.Errors++
		}
	case refused:
		c.Refused++
		if c.First == 0 || l.Time < c.First {
			c.First = l.Time
		}
		c.Last = max(c.Last, l.Time)
	case local:
		c.Local++
	}
}

// kind is what a decision comes to.
type kind uint8

const (
	undecided kind = iota // a call that panicked
	passed
	refused
	local
)

func kindOf(decision []byte) kind {
	switch string(decision) {
	case "pass", "degraded", "shadow":
		return passed
	case "local":
		return local
	}
	const prefix = "refused-"
	if len(decision) > len(prefix) && string(decision[:len(prefix)]) == prefix {
		return refused
	}
	return undecided
}

// key names a group: a number of texts for each dimension of its table, and 0 for the others.
type key [dimensions]uint32

// table sums by one or more dimensions.
type table struct {
	by     []Dimension
	groups map[key]*Counts
	most   int
	last   key // and its group: lines that follow each other are often of the same
	group  *Counts
}

// refusals reports whether calls that were not refused are left out: they have no reason.
func (t *table) refusals() bool {
	return slices.Contains(t.by, Reason) && !slices.Contains(t.by, Decision)
}

func (t *table) add(of *key, l *Line) {
	var k key
	for _, d := range t.by {
		k[d] = of[d]
	}
	if t.group == nil || k != t.last {
		t.last, t.group = k, t.find(k)
	}
	t.group.add(l)
}

func (t *table) find(k key) *Counts {
	g := t.groups[k]
	if g == nil && len(t.groups) >= t.most {
		k = key{} // the rest
		g = t.groups[k]
	}
	if g == nil {
		g = new(Counts)
		t.groups[k] = g
	}
	return g
}

// Table is a sum by one or more dimensions.
type Table struct {
	By   []string `json:"by"`
	Rows []Row    `json:"rows"` // most calls first; a table by hour first in the order of time
	More int      `json:"more"` // groups that Top has left out
	Full bool     `json:"full"` // there were too many groups: those that came late are together in the row of Rest
}

// Row is one group of a table.
type Row struct {
	Keys []string `json:"keys"` // as Table.By
	Counts
	FirstRefusal string `json:"first_refusal,omitempty"` // RFC 3339
	LastRefusal  string `json:"last_refusal,omitempty"`
}

// result returns the table with its top rows; 0 is all.
func (t *table) result(names *texts, zone *time.Location, top int) Table {
	out := Table{By: []string{}, Rows: []Row{}, Full: len(t.groups) >= t.most}
	for _, d := range t.by {
		out.By = append(out.By, d.String())
	}
	for k, g := range t.groups {
		if t.refusals() && g.Refused == 0 {
			continue
		}
		row := Row{Counts: *g, FirstRefusal: timeText(g.First, zone), LastRefusal: timeText(g.Last, zone)}
		for _, d := range t.by {
			row.Keys = append(row.Keys, names.of[k[d]])
		}
		out.Rows = append(out.Rows, row)
	}
	byHour := t.by[0] == Hour
	slices.SortFunc(out.Rows, func(a, b Row) int {
		if byHour {
			return slices.Compare(b.Keys, a.Keys)
		}
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), slices.Compare(a.Keys, b.Keys))
	})
	if top > 0 && len(out.Rows) > top {
		out.More = len(out.Rows) - top
		out.Rows = out.Rows[:top]
	}
	if byHour {
		slices.Reverse(out.Rows)
	}
	return out
}

// timeText is a time in milliseconds since 1970 in RFC 3339; "" is that of 0.
func timeText(milliseconds int64, zone *time.Location) string {
	if milliseconds == 0 {
		return ""
	}
	return time.UnixMilli(milliseconds).In(zone).Format(time.RFC3339)
}
