package history

import (
	"bytes"
	"compress/flate"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func unpacked(base int64, packed []byte) ([]sum, error) {
	var sums []sum
	err := unpack(base, packed, func(s sum) { sums = append(sums, s) })
	return sums, err
}

// What is packed comes out again, compressed or not.
func TestPack(t *testing.T) {
	text := rapid.StringMatching(`[a-z.(]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Int64Range(0, 1<<33).Draw(t, "base")
		sums := rapid.SliceOfDistinct(rapid.Custom(func(t *rapid.T) sum {
			s := sum{Series: Series{Rule: text.Draw(t, "rule"), Caller: text.Draw(t, "caller")}, count: rapid.Int64Range(1, 1<<40).Draw(t, "count")}
			s.Outcome.Kind = Kind(rapid.IntRange(int(Passed), int(Local)).Draw(t, "kind"))
			switch s.Outcome.Kind {
			case Refused:
				s.Outcome.Reason = text.Draw(t, "reason")
				s.first = base + rapid.Int64Range(0, 200_000).Draw(t, "first")
				s.last = s.first + rapid.Int64Range(0, 90_000).Draw(t, "last")
			case Rejected:
				s.Outcome.Errcode = rapid.IntRange(-1, 99999).Draw(t, "errcode")
			}
			return s
		}), func(s sum) Series { return s.Series }).Draw(t, "sums")
		packed := pack(base, slices.Clone(sums))
		want, err := unpacked(base, packed)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unpacked(base, newCompressor(flate.BestSpeed).compress(packed))
		if err != nil {
			t.Fatal(err)
		}
		order := func(a, b sum) int { return compareSeries(a.Series, b.Series) }
		slices.SortFunc(sums, order)
		slices.SortFunc(got, order)
		slices.SortFunc(want, order)
		opt := cmp.AllowUnexported(sum{})
		if diff := cmp.Diff(sums, want, opt); len(sums) > 0 && diff != "" {
			t.Fatalf("unpack(pack) (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, got, opt); diff != "" {
			t.Fatalf("compressed (-want +got):\n%s", diff)
		}
	})
}

// What somebody else wrote there is an error, and neither a panic nor much memory.
func FuzzUnpack(f *testing.F) {
	packed := pack(0, []sum{{Series: Series{Rule: "a", Outcome: passed}, count: 3}, {Series: Series{Outcome: Outcome{Kind: Refused, Reason: "path"}}, count: 1, first: 2, last: 3}})
	f.Add(packed)
	f.Add(newCompressor(flate.BestSpeed).compress(bytes.Repeat(packed, 20)))
	f.Add(packMinutes([]minutes{{"a", "b", [slotMinutes]uint32{1, 2}}}))
	f.Add([]byte(nil))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = unpacked(0, b)
		_ = unpackMinutes(b, func(minutes) {})
	})
}

func TestDamaged(t *testing.T) {
	packed := pack(0, []sum{{Series: Series{Rule: "a", Outcome: passed}, count: 3}})
	for _, b := range [][]byte{nil, {9, 1, 1}, packed[:len(packed)-1], {compressed, 1, 2, 3}, []byte(strings.Repeat("\xff", 40))} {
		if got, err := unpacked(0, b); err == nil || len(got) > 0 {
			t.Errorf("unpack(%x) = %v, %v, want an error and nothing else", b, got, err)
		}
	}
}
