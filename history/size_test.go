package history

import (
	"compress/flate"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"wxproxy/internal/redistest"
)

// realRules and realCallers are as long as such names are.
const (
	realRules = `message.custom.send message.template.send message.mass.sendall user.info user.get user.info.batchget user.info.updateremark
		media.upload media.get material.add_material menu.create menu.get qrcode.create tags.members.batchtagging draft.add
		freepublish.submit customservice.msgrecord datacube.getusersummary card.code.consume shorten.gen`
	realCallers = "crm oncall-robot shop-frontend marketing billing"
)

// fullDay writes a day on which each gateway sent calls by every rule for every caller in each hour, and
// refused some of three callers.
func fullDay(t *testing.T, s Store, app string, day time.Time, gateways int) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(day.Unix())))
	var parts []DayPart
	c := newCompressor(flate.BestSpeed)
	for hour := range 24 {
		at := day.Add(time.Duration(hour) * time.Hour).Unix()
		for gateway := range gateways {
			var sums []sum
			for rule := range strings.FieldsSeq(realRules) {
				for caller := range strings.FieldsSeq(realCallers) {
					sums = append(sums, sum{Series: Series{rule, caller, passed}, count: 1 + random.Int64N(1000)})
				}
			}
			for i := range 3 {
				s := sums[i].Series
				s.Outcome = Outcome{Kind: Refused, Reason: "quota-used-up"}
				sums = append(sums, sum{Series: s, count: 1 + random.Int64N(10), first: at + random.Int64N(1800), last: at + 1800 + random.Int64N(1800)})
			}
			name := "k3x9q2mz." + strconv.Itoa(gateway*24+hour)
			parts = append(parts, DayPart{Part: Part{Hour: at, Name: name, Sums: c.compress(pack(at, sums))}, Day: dayOf(day)})
		}
	}
	if err := s.Write(t.Context(), []Parts{{App: app, Hours: parts}}); err != nil {
		t.Fatal(err)
	}
}

// What an account takes whose 20 rules are all called by all of 5 callers in every hour: the manual has these
// figures for 1,000 accounts.
func TestWhatItTakes(t *testing.T) {
	const days = HoursKept + 40 // a tenth; the rest is like them
	s := newStanding(t)
	server := redistest.Start(t)
	client := server.Client(t)
	kept := NewRedis(client, "p:", "life0001")
	size := func(pattern string) (bytes int64) {
		for _, key := range client.Keys(t.Context(), pattern).Val() {
			bytes += client.MemoryUsage(t.Context(), key, 0).Val()
		}
		return bytes
	}
	first := dayStart(begin, -days)
	for n := range days {
		day := dayStart(first, n)
		fullDay(t, kept, "wx0123456789abcdef", day, 2)
		if n < HoursKept {
			continue // these hours stay, to be measured
		}
		d := Day{"wx0123456789abcdef", dayOf(day)}
		if err := kept.Roll(t.Context(), d, func(p []Part) []byte { return s.sumsOf(d.Day, p) }); err != nil {
			t.Fatal(err)
		}
		client.Del(t.Context(), kept.key(d.App, "h"+d.Day))
	}
	hours, longs := size("*:history:h*")/HoursKept, size("*:history:m*")/(days-HoursKept)
	t.Logf("Redis: %d bytes an account and day by hour, %d by day; of 1,000 accounts %d MB of hours, %d MB of days",
		hours, longs, hours*(HoursKept+2)*1000>>20, longs*DaysKept*1000>>20)
	if hours > 45_000 || longs > 1000 {
		t.Errorf("%d bytes a day by hour, %d by day, want at most 45000 and 1000", hours, longs)
	}
}

// The same in a file, which has grown to it.
func TestWhatTheFileTakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const days = 20
	now := begin
	s := NewBolt(db, "p:")
	s.now = func() time.Time { return now }
	r := New(Options{Store: s, Zone: shanghai})
	for n := range days {
		now = dayStart(begin, n)
		for a := range 5 {
			app := "wx" + strings.Repeat(strconv.Itoa(a), 16)
			fullDay(t, s, app, now, 1)
			d := Day{app, dayOf(now)}
			if err := s.Roll(context.Background(), d, func(p []Part) []byte { return r.sumsOf(d.Day, p) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	var used int // of the file; the rest of it is free pages
	err = db.View(func(tx *bbolt.Tx) error {
		stats := db.Stats()
		used = int(tx.Size()) - (stats.FreePageN+stats.PendingPageN)*os.Getpagesize()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("file: %d kB an account with 10 days by hour and %d by day", used/5>>10, days)
	if used/5 > 600<<10 {
		t.Errorf("%d bytes an account, want at most 600 kB", used/5)
	}
}
