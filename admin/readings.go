package admin

import (
	"cmp"
	"context"
	"time"

	"wxproxy/limits"
)

// Reading is what WeChat itself stated of one counter today.
type Reading struct {
	At    time.Time // when WeChat was asked
	Limit int64     // its figure for the day; 0: it states none
	Used  int64     // the calls that it has counted
	Drift int64     // its count less ours: calls that did not pass a gateway
}

// limit is WeChat's figure as far as a quota can have it; 0 is none.
func (r Reading) limit() int64 {
	if r.Limit < 1 || r.Limit > limits.MaxLimit {
		return 0
	}
	return r.Limit
}

// figures are what is known of the counters of some apps, in their order.
type figures struct {
	lines    [][]limits.Usage
	err      error // why lines are missing
	readings []map[string]Reading
	unread   error // why readings are missing
}

// counted reads the counters of apps, all or only those that are used.
func (a *Admin) counted(ctx context.Context, apps []App, usedOnly bool) figures {
	f := figures{lines: make([][]limits.Usage, len(apps)), readings: make([]map[string]Reading, len(apps))}
	lines, err := a.o.Limiter.UsageAll(ctx, appids(apps), usedOnly)
	copy(f.lines, lines)
	f.err = err
	return f
}

// figures reads the counters of apps as counted does, and then WeChat's readings of them.
func (a *Admin) figures(ctx context.Context, apps []App, usedOnly bool) figures {
	f := a.counted(ctx, apps, usedOnly)
	if a.o.Readings != nil {
		readings, err := a.o.Readings(ctx, appids(apps), f.lines)
		copy(f.readings, readings)
		f.unread = err
	}
	return f
}

// liveFigures asks WeChat about an app first if live is set, because that may raise the counts.
func (a *Admin) liveFigures(ctx context.Context, app App, live bool) figures {
	var unread error
	if live {
		unread = a.o.ReadLive(ctx, app.AppID)
	}
	f := a.figures(ctx, []App{app}, false)
	f.unread = cmp.Or(unread, f.unread)
	return f
}

// read puts WeChat's own count into the row of a day's counter.
func (r *Row) read(readings map[string]Reading, u limits.Usage) {
	reading, ok := readings[u.Counter]
	if !ok || u.Period != limits.Day {
		return
	}
	used, drift := reading.Used, reading.Drift
	r.WechatUsed, r.WechatLimit, r.Drift, r.ReadAt = &used, reading.limit(), &drift, reading.At.In(u.Reset.Location())
}
