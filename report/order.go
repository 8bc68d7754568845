package report

import (
	"cmp"
	"slices"
)

// call is a line that is replayed.
type call struct {
	at       int64 // milliseconds since 1970
	seat     int64 // the order of the lines, which decides between calls of the same millisecond
	of       key
	appid    uint32
	path     uint32 // 0: not known
	status   int64
	errcode  int64
	attempts int64
	refused  bool // by the table in force
	keep     bool // it is one of those that the report is about
}

// maxAhead is how many lines may stand before that of a call that came earlier. A line is written when its
// call ends.
const maxAhead = 32 << 10

// order puts calls into the order in which they came.
type order struct {
	calls []call
	seat  int64
}

// add adds a call, and passes on those that no earlier one may follow any more.
func (o *order) add(c *call, do func(*call)) {
	c.seat = o.seat
	o.seat++
	if o.calls == nil {
		o.calls = make([]call, 0, 2*maxAhead)
	}
	if o.calls = append(o.calls, *c); len(o.calls) == cap(o.calls) {
		o.pass(maxAhead, do)
	}
}

// pass passes on the first n calls.
func (o *order) pass(n int, do func(*call)) {
	slices.SortFunc(o.calls, func(a, b call) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seat, b.seat)) })
	for i := range o.calls[:n] {
		do(&o.calls[i])
	}
	o.calls = append(o.calls[:0], o.calls[n:]...)
}

// finish passes on what is left.
func (o *order) finish(do func(*call)) { o.pass(len(o.calls), do) }
