package report

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"sync/atomic"
)

// merge reads inputs in the order of time: a file is opened when the lines before its first one were read, so that
// rotated files follow each other, and the logs of several gateways run side by side.
type merge struct {
	read    *atomic.Int64
	skip    func(Place)
	fault   func(Fault)
	waiting []*source // by their first line, the latest first
	open    byTime
}

// probeBytes is how much of a file is looked through for its first line.
const probeBytes = 1 << 20

// start finds out in which order the inputs are to be read. What cannot be opened a second time stays open.
func (m *merge) start(ctx context.Context, inputs []Input) {
	for i, in := range inputs {
		s := &source{in: in, seat: i}
		if in.Size < 0 {
			s.skip = m.skip
			m.begin(ctx, s)
			continue
		}
		if err := s.probe(ctx); err != nil {
			m.fault(Fault{in.Name, err})
			continue
		}
		s.skip = m.skip
		m.waiting = append(m.waiting, s)
	}
	slices.SortFunc(m.waiting, func(a, b *source) int {
		return cmp.Or(cmp.Compare(b.first, a.first), cmp.Compare(b.seat, a.seat))
	})
}

// probe finds the time of the first line of a file. Of a file that is none of the gateway's it is 0.
func (s *source) probe(ctx context.Context) error {
	defer s.close()
	if err := s.open(ctx, new(atomic.Int64), probeBytes); err != nil {
		return err
	}
	if s.next() == nil {
		s.first = s.line.Time
	}
	return nil
}

// begin opens an input and goes to its first line.
func (m *merge) begin(ctx context.Context, s *source) {
	err := s.open(ctx, m.read, math.MaxInt64)
	if err == nil {
		err = s.next()
	}
	if err != nil {
		m.end(s, err)
		return
	}
	heap.Push(&m.open, s)
}

// end closes an input after its last line.
func (m *merge) end(s *source, err error) {
	s.close()
	if !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
		m.fault(Fault{s.in.Name, err})
	}
}

// each calls do with every line. It ends early when ctx is done.
func (m *merge) each(ctx context.Context, do func(*Line)) {
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			break
		}
		for last := len(m.waiting) - 1; last >= 0 && (len(m.open) == 0 || m.waiting[last].first <= m.open[0].line.Time); last-- {
			s := m.waiting[last]
			m.waiting = m.waiting[:last]
			m.begin(ctx, s)
		}
		if len(m.open) == 0 {
			return
		}
		s := m.open[0]
		do(&s.line)
		if err := s.next(); err != nil {
			heap.Pop(&m.open)
			m.end(s, err)
		} else if len(m.open) > 1 {
			heap.Fix(&m.open, 0)
		}
	}
	for _, s := range m.open {
		s.close()
	}
}

// byTime are the open inputs, the one with the earliest line first.
type byTime []*source

func (b byTime) Len() int      { return len(b) }
func (b byTime) Swap(i, j int) { b[i], b[j] = b[j], b[i] }
func (b byTime) Less(i, j int) bool {
	return b[i].line.Time < b[j].line.Time || b[i].line.Time == b[j].line.Time && b[i].seat < b[j].seat
}
func (b *byTime) Push(s any) { *b = append(*b, s.(*source)) }
func (b *byTime) Pop() any {
	last := (*b)[len(*b)-1]
	*b = (*b)[:len(*b)-1]
	return last
}
