package history

import (
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// Series is what calls are counted by, within an account and an hour.
type Series struct {
	Rule    string // "": none was found
	Caller  string // "": no key was shown
	Outcome Outcome
}

// sum is the count of a series. First and last are of refusals alone: Unix seconds of the first and of the
// last one.
type sum struct {
	Series
	count       int64
	first, last int64
}

func (s sum) add(t sum) sum {
	if s.count == 0 {
		return t
	}
	s.count += t.count
	s.first, s.last = min(s.first, t.first), max(s.last, t.last)
	return s
}

// The first byte of what is packed: as it is, or compressed. Other versions are not read.
const (
	plain      = 1
	compressed = 2
)

var errPacked = errors.New("history: damaged sums")

// pack puts sums into bytes: the texts, and then column by column the rule, the caller, the outcome, the
// count and, of refusals, first and last as seconds after base.
func pack(base int64, sums []sum) []byte {
	slices.SortFunc(sums, func(a, b sum) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Caller, b.Caller), cmp.Compare(a.Outcome.Kind, b.Outcome.Kind),
			cmp.Compare(a.Outcome.Reason, b.Outcome.Reason), cmp.Compare(a.Outcome.Errcode, b.Outcome.Errcode))
	})
	var d dictionary
	columns := make([][3]uint64, len(sums))
	for i, s := range sums {
		columns[i] = [3]uint64{d.id(s.Rule), d.id(s.Caller), d.id(s.Outcome.String())}
	}
	b := d.append([]byte{plain})
	b = binary.AppendUvarint(b, uint64(len(sums)))
	for c := range 3 {
		for i := range columns {
			b = binary.AppendUvarint(b, columns[i][c])
		}
	}
	for _, s := range sums {
		b = binary.AppendUvarint(b, uint64(s.count))
	}
	for _, s := range sums {
		if s.Outcome.Kind == Refused {
			b = binary.AppendUvarint(b, uint64(max(0, s.first-base)))
			b = binary.AppendUvarint(b, uint64(max(0, s.last-s.first)))
		}
	}
	return b
}

// unpack calls each with the sums that pack put there.
func unpack(base int64, packed []byte, each func(sum)) error {
	packed, err := expand(packed)
	if err != nil {
		return err
	}
	r := reader{b: packed}
	texts := r.texts()
	n := r.length()
	sums := make([]sum, n)
	outcomes := make([]Outcome, len(texts))
	for i := range sums {
		sums[i].Rule = r.text(texts)
	}
	for i := range sums {
		sums[i].Caller = r.text(texts)
	}
	for i := range sums {
		id := r.uvarint()
		if id >= uint64(len(texts)) {
			return errPacked
		}
		if outcomes[id].Kind == 0 {
			outcomes[id] = parseOutcome(texts[id])
		}
		sums[i].Outcome = outcomes[id]
	}
	for i := range sums {
		sums[i].count = int64(r.uvarint())
	}
	for i := range sums {
		if sums[i].Outcome.Kind == Refused {
			sums[i].first = base + int64(r.uvarint())
			sums[i].last = sums[i].first + int64(r.uvarint())
		}
	}
	if r.failed {
		return errPacked
	}
	for _, s := range sums {
		each(s)
	}
	return nil
}

// compressor makes packed sums smaller, one after the other.
type compressor struct {
	w   *flate.Writer
	out bytes.Buffer
}

// newCompressor returns a compressor of a level of package flate.
func newCompressor(level int) *compressor {
	w, err := flate.NewWriter(nil, level)
	if err != nil {
		panic("history: " + err.Error()) // the level is one
	}
	return &compressor{w: w}
}

// compress returns what is packed, or it compressed if that is smaller.
func (c *compressor) compress(packed []byte) []byte {
	c.out.Reset()
	c.out.WriteByte(compressed)
	c.w.Reset(&c.out)
	_, err := c.w.Write(packed)
	if err == nil {
		err = c.w.Close()
	}
	if err != nil || c.out.Len() >= len(packed) {
		return packed
	}
	return bytes.Clone(c.out.Bytes())
}

// maxPacked bounds what compressed sums may expand to.
const maxPacked = 16 << 20

// expand takes off the first byte, and the compression.
func expand(packed []byte) ([]byte, error) {
	if len(packed) == 0 {
		return nil, errPacked
	}
	switch packed[0] {
	case plain:
		return packed[1:], nil
	case compressed:
		b, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed[1:])), maxPacked))
		if err != nil || len(b) == 0 || b[0] != plain {
			return nil, errPacked
		}
		return b[1:], nil
	}
	return nil, errPacked
}

// minutes are the calls of one rule and caller in each minute of a slot.
type minutes struct {
	rule, caller string
	calls        [slotMinutes]uint32
}

func packMinutes(all []minutes) []byte {
	var d dictionary
	ids := make([][2]uint64, len(all))
	for i, m := range all {
		ids[i] = [2]uint64{d.id(m.rule), d.id(m.caller)}
	}
	b := d.append([]byte{plain})
	b = binary.AppendUvarint(b, uint64(len(all)))
	for i, m := range all {
		b = binary.AppendUvarint(binary.AppendUvarint(b, ids[i][0]), ids[i][1])
		for _, n := range m.calls {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}

func unpackMinutes(packed []byte, each func(minutes)) error {
	packed, err := expand(packed)
	if err != nil {
		return err
	}
	r := reader{b: packed}
	texts := r.texts()
	for range r.length() {
		m := minutes{rule: r.text(texts), caller: r.text(texts)}
		for i := range m.calls {
			m.calls[i] = uint32(r.uvarint())
		}
		if r.failed {
			return errPacked
		}
		each(m)
	}
	if r.failed {
		return errPacked
	}
	return nil
}

// dictionary numbers texts in the order in which they come.
type dictionary struct {
	ids   map[string]uint64
	texts []string
}

func (d *dictionary) id(text string) uint64 {
	if id, known := d.ids[text]; known {
		return id
	}
	if d.ids == nil {
		d.ids = make(map[string]uint64)
	}
	id := uint64(len(d.texts))
	d.ids[text] = id
	d.texts = append(d.texts, text)
	return id
}

func (d *dictionary) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(d.texts)))
	for _, text := range d.texts {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return b
}

// reader reads what was packed. Once it has failed it reads zeros.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.failed, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// length reads how many follow. Each takes a byte at least.
func (r *reader) length() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.failed = true
		return 0
	}
	return int(n)
}

func (r *reader) texts() []string {
	texts := make([]string, r.length())
	for i := range texts {
		n := r.length()
		texts[i] = string(r.b[:n])
		r.b = r.b[n:]
	}
	return texts
}

func (r *reader) text(texts []string) string {
	id := r.uvarint()
	if id >= uint64(len(texts)) {
		r.failed = true
		return ""
	}
	return texts[id]
}
