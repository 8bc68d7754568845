package limits

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"wxproxy/internal/redistest"
)

// The script in Redis answers as the ledger does, whatever is asked, and leaves the same counters.
func TestScriptAgainstReference(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	stores := map[string]*Redis{}
	for _, gateway := range []string{"a", "b", "c"} {
		s := patientStand(server)(t).(*Redis)
		s.gateway = gateway
		stores[gateway] = s
	}
	day := today(t, client)
	month := windowAt(Month, day.Start, shanghai(t))
	yesterday := windowAt(Day, day.Start.Add(-time.Hour), shanghai(t))
	names := []string{"r", "g", "r@crm"}
	seen := map[string]int{}
	drawCases(t, "1000") // 200 with -short: at 20, some answers do not come
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		if err := client.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		ref := newMemory(nil)
		small := rapid.Int64Range(0, 12)
		generation := rapid.SampledFrom([]int64{0, 0, 0, 5, 9})
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			gateway := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "gateway")
			r := &Request{
				App: "wx1", Life: rapid.SampledFrom([]string{"", "", "2"}).Draw(t, "life"),
				Want: rapid.Int64Range(0, 4).Draw(t, "want"), Block: rapid.Int64Range(0, 3).Draw(t, "block"),
				Windows: []WindowReport{{Window: day, Generation: generation.Draw(t, "g")}, {Window: month}},
			}
			if rapid.IntRange(0, 4).Draw(t, "yesterday") == 0 {
				r.Windows[0].Window = yesterday
			}
			for i := range rapid.IntRange(0, 3).Draw(t, "counters") {
				c := Report{
					Window: min(i, 1), Name: names[i],
					Limit:   rapid.SampledFrom([]int64{10, 15, 20, 25, 5000}).Draw(t, "limit"),
					Version: small.Draw(t, "v"), Others: small.Draw(t, "others"),
					Acked: small.Draw(t, "acked"), Local: small.Draw(t, "local"),
				}
				if c.Window == 0 {
					c.Generation = generation.Draw(t, "e")
				}
				r.Counters = append(r.Counters, c)
				switch c := &r.Counters[i]; rapid.IntRange(0, 8).Draw(t, "rare") {
				case 0:
					c.Latch.Until = rapid.SampledFrom([]int64{0, 1, day.Start.UnixMilli(), day.End.UnixMilli()}).Draw(t, "until")
					c.Latch.At = rapid.Int64Range(1, 5).Draw(t, "at")
				case 1:
					c.Raise = rapid.Int64Range(0, 20).Draw(t, "raise")
				case 3, 7:
					if i > 0 { // the first is always one of the call's
						c.Reserve = rapid.SampledFrom([]int64{1, 9, 30}).Draw(t, "reserve")
						c.Window, c.Generation = r.Counters[i-1].Window, r.Counters[i-1].Generation
					}
				case 4:
					c.Grant.Calls = rapid.Int64Range(0, 9).Draw(t, "grant")
					c.Grant.Until = rapid.SampledFrom([]int64{0, 1, day.End.UnixMilli()}).Draw(t, "until")
					c.Grant.At = rapid.Int64Range(1, 5).Draw(t, "at")
					c.Over = rapid.Int64Range(0, c.Grant.At).Draw(t, "over")
				case 2:
					window := r.Windows[c.Window].Name
					if ref.used("wx1", window, c.Name) > 0 {
						damaged := rapid.SampledFrom(damagedRecords(day)).Draw(t, "damaged")
						if c.Name == "g" && isNumber(damaged) {
							continue // as an older gateway wrote the window's generation
						}
						if err := client.HSet(ctx, "wxp:00000000:{wx1}:"+window, c.Name, damaged).Err(); err != nil {
							t.Fatal(err)
						}
						ref.damage("wx1", window, c.Name)
					}
				}
			}
			if len(r.Counters) == 1 {
				r.Windows = r.Windows[:1]
			}
			got, err := stores[gateway].Exchange(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			ref.now = func() time.Time { return time.UnixMilli(got.Now) }
			want := ref.exchange(gateway, stores[gateway].q.Load(), r)
			if want.Damaged > 0 {
				want.Key = stores[gateway].key("wx1", r.Windows[r.Counters[want.Damaged-1].Window].Name)
			}
			for i := range want.Counters { // the script looks for a grant where one is in force or reported
				if r.Counters[i].Grant == (Grant{}) && want.Counters[i].Grant.at(got.Now) == 0 && got.Counters[i].Grant == (Grant{}) {
					want.Counters[i].Grant = Grant{}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s reports %+v (-ledger +script):\n%s", gateway, r, diff)
			}
			seen[fmt.Sprint("status ", got.Status)]++
			if got.Damaged > 0 {
				seen["damaged"]++
			}
			if got.Lost {
				seen["lost"]++
			}
			if got.Block > 0 {
				seen["block"]++
			}
			if len(got.Counters) > 0 && got.Status == Full && keptBack(r, got) {
				seen["kept back"]++
			}
			for _, c := range got.Counters {
				if got.Granted > 0 && c.Grant.at(got.Now) > 0 {
					seen["grant"]++
				}
			}
		}
		queries := []Query{{App: "wx1", Window: day}, {App: "wx1", Window: month, Names: names}, {App: "wx1", Window: yesterday}}
		got, _ := stores["a"].Read(ctx, queries) // counters may be damaged yet, and are left out then
		want, _ := ref.gateway("a").Read(ctx, queries)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("counters at the end (-ledger +script):\n%s", diff)
		}
	})
	for _, what := range []string{"status 0", "status 1", "status 2", "status 3", "status 4", "damaged", "lost", "block", "kept back", "grant"} {
		if seen[what] == 0 {
			t.Errorf("no answer with %s: the test has not tested it", what)
		}
	}
}

// damagedRecords are texts that no gateway writes as a counter of a window.
func damagedRecords(w Window) []string {
	late := lastTime(w) + 40*24*3600*1000 // for a month that begins on this day, too
	return []string{
		"nan 1 1", "1 nan 1", "1 1 nan", "inf 1 1", "1 1.5 1", "0x1 1 1", "1 -1 1", "1 1e3 1", "", " ", "1", "1 1", "1 1 1 1", "1 1 1 1 1",
		"1 1 1 ", " 1 1 1", "1  1 1", "1 1 1 1 1 1 1 1", "1 1 1 1 1 1 x", "1 1 1 x 1 1", "1 1 1\n", "a b c", "{}", "1 1 1 1 1 1 1x",
		"9000000000000000000 1 1", fmt.Sprint(late, " 1 1"), "0 1000000000000000 1", "0 1 1000000000000000", "0 1 1 1000000000000000 0 0",
		fmt.Sprintf("0 1 1 0 %d 0", late), fmt.Sprintf("0 1 1 0 0 0 %d", late), "0 1 1 0 0 1000000000000000", "1 1 1\x00",
		"١ 1 1",
	}
}
