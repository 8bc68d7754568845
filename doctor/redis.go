package doctor

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"wxproxy/internal/words"
	"wxproxy/store"
)

// lookAtRedis opens the store as the gateway does, and looks at each of its masters.
func (d *doctor) lookAtRedis(ctx context.Context) []Finding {
	s, err := store.Open(ctx, d.Store)
	if err != nil {
		return []Finding{fault(words.New(words.DoctorStoreFault, "error", err), d.mendRedis(err))}
	}
	defer s.Close()
	var findings []Finding
	for _, text := range s.Warnings() {
		if !strings.Contains(text, "maxmemory-policy") { // looked at below, with what INFO says
			want, seen := split(text)
			findings = append(findings, warning(words.New(words.DoctorStoreWarning, "text", seen), mendBy(want)))
		}
	}
	denied, err := s.Denied(ctx)
	if err != nil {
		return append(findings, fault(words.New(words.DoctorStoreFault, "error", err), d.mendRedis(err)))
	}
	if len(denied) > 0 {
		acl := "ACL SETUSER " + d.User + " ~" + d.Store.Prefix + ":* +" + strings.Join(denied, " +")
		findings = append(findings, fault(words.New(words.DoctorDenied, "user", d.User, "commands", strings.Join(denied, ", ")), words.New(words.DoctorRun, "command", acl)))
	}
	var mu sync.Mutex // the masters of a cluster are looked at beside each other
	var fine words.List
	_, inCluster := s.Redis().(*redis.ClusterClient)
	look := func(ctx context.Context, c *redis.Client) error {
		found, about := lookAtServer(ctx, c, inCluster)
		mu.Lock()
		defer mu.Unlock()
		for _, f := range found { // the same of several masters once
			if !slices.ContainsFunc(findings, func(g Finding) bool { return g.Seen.Error() == f.Seen.Error() }) {
				findings = append(findings, f)
			}
		}
		fine = append(fine, about)
		return nil
	}
	switch c := s.Redis().(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, look)
	case *redis.Client:
		err = look(ctx, c)
	}
	if err != nil {
		findings = append(findings, fault(words.New(words.DoctorStoreFault, "error", err), d.mendRedis(err)))
	}
	return orOK(findings, words.New(words.DoctorRedisFine, "servers", fine))
}

// mendRedis says what to do about a Redis that cannot be used.
func (d *doctor) mendRedis(err error) *words.Error {
	text := err.Error()
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
	}
	switch {
	case has("NOPERM"):
		return words.New(words.DoctorRun, "command", d.ACL)
	case has("NOAUTH", "WRONGPASS", "invalid password", "without any password", "AUTH"):
		return words.New(words.DoctorPasswordMend)
	case has("role is", "sentinel"):
		return words.New(words.DoctorMasterMend)
	case has("MOVED", "CROSSSLOT"):
		return words.New(words.DoctorClusterNodeMend)
	case has("redis_version"):
		return words.New(words.DoctorVersionMend)
	case has("MISCONF"):
		return words.New(words.DoctorPersistMend)
	case errors.Is(err, store.ErrUnreachable):
		return words.New(words.DoctorRedisMend)
	}
	return words.New(words.DoctorRedisOtherMend)
}

// How a store is asked for its clock, and which round trips are long.
const (
	roundTrips = 11
	slowTrip   = 20 * time.Millisecond
	lateTrip   = 80 * time.Millisecond // what an attempt of the counters may take
)

// lookAtServer looks at one server. about describes it in a few words.
func lookAtServer(ctx context.Context, c *redis.Client, inCluster bool) (findings []Finding, about *words.Error) {
	address := c.Options().Addr
	trip, ahead, err := clock(ctx, c)
	if err != nil && !strings.HasPrefix(err.Error(), "NOPERM") { // what may not be run is found already
		return []Finding{fault(words.New(words.DoctorServerSilent, "address", address), words.New(words.DoctorRedisMend))}, nil
	}
	findings = append(findings, storeClock(address, ahead)...)
	switch {
	case trip > lateTrip:
		findings = append(findings, warning(words.New(words.DoctorTrip, "address", address, "trip", short(trip)), words.New(words.DoctorTripMend)))
	case trip > slowTrip:
		findings = append(findings, note(words.New(words.DoctorTrip, "address", address, "trip", short(trip)), words.New(words.DoctorTripMend)))
	}
	text, err := c.Info(ctx).Result()
	if err != nil {
		findings = append(findings, warning(words.New(words.DoctorNoInfo, "address", address), words.New(words.DoctorNoInfoMend)))
		return findings, words.New(words.DoctorServer, "address", address, "version", "?", "trip", short(trip))
	}
	info := fields(text)
	findings = append(findings, lookAtMemory(address, info)...)
	findings = append(findings, lookAtPersistence(ctx, c, address, info)...)
	if info["redis_mode"] == "cluster" && !inCluster {
		findings = append(findings, fault(words.New(words.DoctorClusterNode, "address", address), words.New(words.DoctorClusterNodeMend)))
	}
	return findings, words.New(words.DoctorServer, "address", address, "version", info["redis_version"], "trip", short(trip))
}

// clock returns the median round trip of several TIMEs, and how far the server's clock is ahead of this machine's.
func clock(ctx context.Context, c *redis.Client) (trip, ahead time.Duration, err error) {
	var trips []time.Duration
	best := time.Hour
	for range roundTrips {
		began := time.Now()
		at, err := c.Time(ctx).Result()
		if err != nil {
			return 0, 0, err
		}
		took := time.Since(began)
		trips = append(trips, took)
		if took < best { // the shortest one tells the time best
			best, ahead = took, at.Sub(began.Add(took/2))
		}
	}
	slices.Sort(trips)
	return trips[len(trips)/2], ahead, nil
}

func storeClock(address string, ahead time.Duration) []Finding {
	off := ahead.Abs()
	if off <= time.Second {
		return nil
	}
	way := words.DoctorAhead
	if ahead < 0 {
		way = words.DoctorBehind
	}
	seen := words.New(words.DoctorStoreClock, "address", address, "off", short(off), "way", way)
	if off > time.Minute {
		return []Finding{warning(seen, words.New(words.DoctorClockMend))}
	}
	return []Finding{note(seen, words.New(words.DoctorClockMend))}
}

// lookAtMemory looks at what happens when the memory of Redis is used up, and how far it is from that.
func lookAtMemory(address string, info map[string]string) []Finding {
	var findings []Finding
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		findings = append(findings, warning(words.New(words.DoctorPolicy, "address", address, "policy", policy),
			words.New(words.DoctorConfigSet, "command", "CONFIG SET maxmemory-policy noeviction", "line", "maxmemory-policy noeviction")))
	}
	used, most := number(info["used_memory"]), number(info["maxmemory"])
	seen := words.New(words.DoctorMemory, "address", address, "used", size(used), "most", size(most))
	switch {
	case most == 0:
	case used >= most/100*95:
		findings = append(findings, fault(seen, words.New(words.DoctorMemoryMend)))
	case used >= most/100*80:
		findings = append(findings, warning(seen, words.New(words.DoctorMemoryMend)))
	}
	return findings
}

// lookAtPersistence looks at what a restart of Redis loses.
func lookAtPersistence(ctx context.Context, c *redis.Client, address string, info map[string]string) []Finding {
	var findings []Finding
	switch {
	case info["aof_enabled"] == "0":
		findings = append(findings, warning(words.New(words.DoctorNoAOF, "address", address),
			words.New(words.DoctorConfigSet, "command", "CONFIG SET appendonly yes", "line", "appendonly yes")))
	case info["aof_last_write_status"] == "err":
		findings = append(findings, fault(words.New(words.DoctorAOFFails, "address", address), words.New(words.DoctorPersistMend)))
	}
	if info["rdb_last_bgsave_status"] == "err" {
		findings = append(findings, fault(words.New(words.DoctorSaveFails, "address", address), words.New(words.DoctorPersistMend)))
	}
	// CONFIG is closed to most users, and nothing depends on it.
	if settings, err := c.ConfigGet(ctx, "appendfsync").Result(); err == nil && info["aof_enabled"] == "1" && settings["appendfsync"] == "no" {
		findings = append(findings, note(words.New(words.DoctorNoFsync, "address", address),
			words.New(words.DoctorConfigSet, "command", "CONFIG SET appendfsync everysec", "line", "appendfsync everysec")))
	}
	return findings
}

// fields are those of an answer of INFO.
func fields(text string) map[string]string {
	found := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			found[name] = value
		}
	}
	return found
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64) // 0 where there is none
	return n
}
