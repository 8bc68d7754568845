package faults

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	_ "time/tzdata" // the zones of this test, wherever it runs

	"github.com/redis/go-redis/v9"
	"go.etcd.io/bbolt"

	"wxproxy/internal/redistest"
	"wxproxy/limits"
	"wxproxy/sandbox"
)

// location is a zone by its name.
func location(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// aheadOf is how far a Redis's clock is ahead of ours.
func aheadOf(t *testing.T, direct *redis.Client) (ahead time.Duration) {
	t.Helper()
	best := time.Hour
	for range 20 { // the quickest answer tells best
		begun := time.Now()
		at, err := direct.Time(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < best {
			best, ahead = took, at.Sub(begun.Add(took/2))
		}
	}
	return ahead
}

// crossing is what three gateways with wrong clocks have sent around a midnight.
type crossing struct {
	before, after int64            // executed by WeChat on either side
	counted       map[string]int64 // by window
	wire          int64            // calls that were on the wire within a few milliseconds of it
	refused       int64
	late          atomic.Int64 // refused because the store did not answer in time
}

// cross calls at a rate of 1000 a second, half of it to each of two rules, from three seconds before
// a midnight until two seconds after it. The clocks of the gateways are 90 seconds behind, right and
// 90 seconds ahead; those of Redis and WeChat agree.
func cross(t *testing.T, midnight time.Time, zone *time.Location, quotas map[string][]string) map[string]*crossing {
	t.Helper()
	server := redistest.StartAt(t, midnight.Add(-4*time.Second))
	direct := server.Client(t)
	ahead := aheadOf(t, direct)
	clock := func() time.Time { return time.Now().Add(ahead) }
	j := newJudge(t, sandbox.Options{Zone: zone, Now: clock})

	found := make(map[string]*crossing)
	for path := range quotas {
		found[path] = &crossing{}
	}
	var ns []*node
	for _, skew := range []time.Duration{-90 * time.Second, 0, 90 * time.Second} {
		ns = append(ns, newNode(t, j, counters(t, server.Addr), func() time.Time { return clock().Add(skew) }, rules(t, zone, quotas)))
	}
	time.Sleep(time.Until(midnight.Add(-3 * time.Second).Add(-ahead)))
	const callers = 15 // of each rule
	var wg sync.WaitGroup
	for path, c := range found {
		for i := range callers {
			wg.Go(func() {
				tick := time.NewTicker(callers * time.Second / 500)
				defer tick.Stop()
				for range tick.C {
					begun := clock()
					verdict, retry, errcode := ns[i%len(ns)].call(t.Context(), path)
					ended := clock()
					switch {
					case verdict == limits.Pass && errcode == 0:
						if begun.Before(midnight.Add(5*time.Millisecond)) && ended.After(midnight.Add(-5*time.Millisecond)) {
							atomic.AddInt64(&c.wire, 1)
						}
					case verdict == limits.RefusedQuota && retry >= time.Second:
						atomic.AddInt64(&c.refused, 1)
					case verdict == limits.RefusedStore && c.late.Add(1) <= 250: // a busy machine: a tenth of the calls
					default:
						t.Errorf("%s: %s, errcode %d, retry after %s", path, verdict, errcode, retry)
					}
					if ended.After(midnight.Add(2 * time.Second)) {
						return
					}
				}
			})
		}
	}
	wg.Wait()
	time.Sleep(idle)
	for path, c := range found {
		c.after = j.Used(app, path)
		c.before = j.Executed(app, path) - c.after
		c.counted = windows(t, direct, app, nameOf(path), "d")
	}
	return found
}

// check compares what was sent around a midnight with the quota.
func (c *crossing) check(t *testing.T, path string, midnight time.Time, quota int64, usedUp bool) {
	t.Helper()
	t.Logf("%s: %d of %d executed before midnight and %d after it, %d on the wire then; counted %v; %d refused",
		path, c.before, quota, c.after, c.wire, c.counted, c.refused)
	if c.before > quota+c.wire || c.after > quota+c.wire {
		t.Errorf("%s: WeChat executed %d and %d, want at most %d each", path, c.before, c.after, quota)
	}
	if usedUp && (c.before != quota || c.after != quota) {
		t.Errorf("%s: WeChat executed %d and %d, want %d each", path, c.before, c.after, quota)
	}
	if c.before == 0 || c.after == 0 {
		t.Errorf("%s: nothing was executed on one side of midnight", path)
	}
	old := c.counted[midnight.Add(-time.Hour).Format("d20060102")]
	fresh := c.counted[midnight.Format("d20060102")]
	if old+fresh != c.before+c.after || old < c.before-c.wire || old > c.before+c.wire || len(c.counted) != 2 {
		t.Errorf("%s: counted %v, executed %d and %d, with %d on the wire", path, c.counted, c.before, c.after, c.wire)
	}
}

// F10: midnight at 1000 calls a second, with gateways whose clocks are off by 90 seconds to either
// side; one quota is used up on both days, the other is large and counted ahead.
func TestF10(t *testing.T) {
	t.Parallel() // it waits for most of its time
	zone := location(t, "Asia/Shanghai")
	midnight := time.Date(2026, 12, 2, 0, 0, 0, 0, zone)
	found := cross(t, midnight, zone, map[string][]string{groupsPath: {"300/day"}, tagsPath: {"1000000/day"}})
	found[groupsPath].check(t, groupsPath, midnight, 300, true)
	found[tagsPath].check(t, tagsPath, midnight, 1_000_000, false)
}

// F10: processes whose machines are set to other zones. A zone file of our own puts Shanghai's
// midnight a few seconds ahead; WeChat has the same quota and must never have to say so.
func TestF10Zones(t *testing.T) {
	t.Parallel() // it waits for most of its time
	const quota = 200
	midnight := time.Now().Add(8 * time.Second).Truncate(time.Second)
	east, env := zoneWithMidnight(t, midnight)
	f := newFleet(t, setup{
		gateways: -1,
		zone:     "Asia/Shanghai",
		env:      env,
		wechat:   sandbox.Options{Zone: time.FixedZone("test", east), Quotas: map[string]int64{sendPath: quota}},
		rules:    []rule{{"send", sendPath, fmt.Sprint(quota, "/day"), ""}},
	})
	for _, zone := range []string{"UTC", "America/New_York", "Pacific/Kiritimati"} {
		f.env = append(env[:1:1], "TZ="+zone)
		f.start(t)
	}
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		time.Sleep(time.Until(midnight.Add(2500 * time.Millisecond)))
		for deadline := midnight.Add(20 * time.Second); f.executed(0, sendPath) < 2*quota && time.Now().Before(deadline); {
			time.Sleep(100 * time.Millisecond)
		}
	}()
	begun := f.fire(t.Context(), load{call: call{path: sendPath}, callers: 30, calls: 2 * quota})
	if !time.Now().Before(midnight) || begun.of[passed] != quota {
		t.Fatalf("before midnight callers heard %v, want %d passed, in time", begun, quota)
	}
	got := f.fire(t.Context(), load{call: call{path: sendPath}, callers: 30, stop: stop, pause: 30 * time.Millisecond})
	t.Logf("callers heard %v before midnight and %v after it", begun, got)
	if executed := f.executed(0, sendPath); executed != 2*quota || got.of[passed] != quota {
		t.Errorf("WeChat executed %d, callers heard %v, want %d passed on each day", executed, got, quota)
	}
	if n := got.of[passed] + got.of[full] + got.of[noStore]; n != got.total() { // noStore: a busy machine
		t.Errorf("callers heard %v, want only %s and %s", got, passed, full)
	}
	f.atRest(t, 0, "send", sendPath)
}

// zoneWithMidnight makes Asia/Shanghai a zone in which a day ends at a time, in whole seconds. It returns how far
// that is east, and what a process needs in its environment to use it.
func zoneWithMidnight(t *testing.T, midnight time.Time) (east int, env []string) {
	t.Helper()
	zones := t.TempDir()
	if err := os.Mkdir(filepath.Join(zones, "Asia"), 0o700); err != nil {
		t.Fatal(err)
	}
	east = (86400 - int(midnight.Unix()%86400)) % 86400
	if east > 12*3600 {
		east -= 86400
	}
	writeFile(t, filepath.Join(zones, "Asia", "Shanghai"), zoneFile(east))
	return east, []string{"ZONEINFO=" + zones}
}

// zoneFile is a TZif file (RFC 8536) of a zone that is always so many seconds east.
func zoneFile(east int) string {
	var b bytes.Buffer
	b.WriteString("TZif")
	b.Write(make([]byte, 16))
	for _, n := range []uint32{0, 0, 0, 0, 1, 4} { // one type, four bytes of names
		_ = binary.Write(&b, binary.BigEndian, n)
	}
	_ = binary.Write(&b, binary.BigEndian, int32(east))
	b.Write([]byte{0, 0})
	b.WriteString("TST\x00")
	return b.String()
}

// The two days of Berlin in 2026 that do not have 24 hours.
var berlinDays = []struct {
	name  string
	start time.Time
	hours int
}{
	{"23 hours", time.Date(2026, 3, 28, 23, 0, 0, 0, time.UTC), 23},
	{"25 hours", time.Date(2026, 10, 24, 22, 0, 0, 0, time.UTC), 25},
}

// F11: a day of 23 and one of 25 hours, in the embedded store and a whole day long: the quota is new
// at the zone's midnight and not a second before. WeChat has the same quota and zone.
func TestF11(t *testing.T) {
	const quota = 5
	zone := location(t, "Europe/Berlin")
	for _, day := range berlinDays {
		t.Run(day.name, func(t *testing.T) {
			var now atomic.Int64
			clock := func() time.Time { return time.Unix(now.Load(), 0) }
			now.Store(day.start.Unix())
			db, err := bbolt.Open(filepath.Join(t.TempDir(), "wxproxy.db"), 0o600, &bbolt.Options{Timeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			store := limits.NewBolt(db, "wxp", clock)
			t.Cleanup(func() { _ = store.Close() })
			j := newJudge(t, sandbox.Options{Zone: zone, Now: clock, Quotas: map[string]int64{groupsPath: quota}})
			n := newNode(t, j, store, clock, rules(t, zone, map[string][]string{groupsPath: {fmt.Sprint(quota, "/day")}}))
			spend := func(want int64, at time.Duration) {
				t.Helper()
				now.Store(day.start.Add(at).Unix())
				j.fetch(t)
				before := j.Executed(app, groupsPath)
				for range quota + 2 {
					verdict, retry, errcode := n.call(t.Context(), groupsPath)
					left := time.Duration(day.hours)*time.Hour - at
					if errcode != 0 || verdict == limits.RefusedQuota && retry != max(left, time.Second) || verdict != limits.Pass && verdict != limits.RefusedQuota {
						t.Errorf("%s into the day: %s, errcode %d, retry after %s, want %s", at, verdict, errcode, retry, left)
					}
				}
				if got := j.Executed(app, groupsPath) - before; got != want {
					t.Errorf("%s into the day WeChat executed %d, want %d", at, got, want)
				}
			}
			spend(quota, 0)
			for hour := range day.hours {
				spend(0, time.Duration(hour)*time.Hour+30*time.Minute)
			}
			end := time.Duration(day.hours) * time.Hour
			spend(0, end-time.Second)
			day.hours += 24 // the day after has 24
			spend(quota, end)
		})
	}
}

// F11: the ends of the same days in Redis, with gateways whose clocks are wrong.
func TestF11Redis(t *testing.T) {
	t.Parallel() // it waits for most of its time
	zone := location(t, "Europe/Berlin")
	for _, day := range berlinDays {
		t.Run(day.name, func(t *testing.T) {
			t.Parallel()
			midnight := day.start.Add(time.Duration(day.hours) * time.Hour).In(zone)
			found := cross(t, midnight, zone, map[string][]string{groupsPath: {"200/day"}})
			found[groupsPath].check(t, groupsPath, midnight, 200, true)
		})
	}
}
