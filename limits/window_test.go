package limits

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones below, on any machine

	"pgregory.net/rapid"
)

// zones change their clocks in all the ways there are: at midnight to 1:00 and back to 23:00 or 0:00,
// by half an hour, by two and by three hours, at the end of a month, or never.
var zones = strings.Fields(`
	UTC Asia/Shanghai Asia/Tokyo Asia/Kolkata Pacific/Kiritimati Etc/GMT+12
	America/Santiago America/Havana Atlantic/Azores America/Asuncion America/Punta_Arenas Pacific/Easter
	America/Nuuk America/Scoresbysund America/St_Johns America/New_York America/Los_Angeles America/Sao_Paulo
	America/Mexico_City America/Caracas America/Whitehorse America/Port-au-Prince America/Miquelon
	Europe/London Europe/Berlin Europe/Moscow Europe/Chisinau Africa/Cairo Africa/Casablanca Africa/Juba
	Asia/Beirut Asia/Amman Asia/Damascus Asia/Gaza Asia/Hebron Asia/Tehran Asia/Almaty Asia/Jerusalem
	Australia/Lord_Howe Pacific/Norfolk Pacific/Fiji Pacific/Apia Pacific/Chatham
	Antarctica/Troll Antarctica/Casey Antarctica/Vostok`)

func zoneOf(tb rapid.TB, name string) *time.Location {
	tb.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		tb.Fatal(err)
	}
	return zone
}

// dateNames are the formats of a window's name.
var dateNames = [...]string{Day: "d20060102", Month: "m200601"}

// checkWindow checks that the window of an instant holds it, and that the next one begins where it
// ends.
func checkWindow(tb rapid.TB, p Period, at time.Time, zone *time.Location) Window {
	tb.Helper()
	w := windowAt(p, at, zone)
	if at.Before(w.Start) || !at.Before(w.End) {
		tb.Fatalf("windowAt(%s, %s) = %s [%s, %s)", p, at.In(zone), w.Name, w.Start, w.End)
	}
	if first, last := windowAt(p, w.Start, zone), windowAt(p, w.End.Add(-1), zone); first != w || last != w {
		tb.Fatalf("%s [%s, %s) begins in %s and ends in %s", w.Name, w.Start, w.End, first.Name, last.Name)
	}
	if next := windowAt(p, w.End, zone); !next.Start.Equal(w.End) || next.Name <= w.Name {
		tb.Fatalf("after %s until %s comes %s from %s", w.Name, w.End, next.Name, next.Start)
	}
	return w
}

// Each quarter of an hour around each change of a clock lies in the window of its own date.
func TestWindowsWhereClocksChange(t *testing.T) {
	from, to := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	changes := 0
	for _, name := range zones {
		zone := zoneOf(t, name)
		for change := from; change.Before(to); {
			for at := change.Add(-50 * time.Hour).Truncate(15 * time.Minute); at.Before(change.Add(50 * time.Hour)); at = at.Add(15 * time.Minute) {
				for _, p := range []Period{Day, Month} {
					if w, want := checkWindow(t, p, at, zone), at.In(zone).Format(dateNames[p]); w.Name != want {
						t.Fatalf("windowAt(%s, %s) = %s, want %s", p, at.In(zone), w.Name, want)
					}
				}
			}
			_, change = change.In(zone).ZoneBounds()
			if change.IsZero() {
				break
			}
			changes++
		}
	}
	if changes < 500 {
		t.Errorf("%d changes of %d clocks: the test proves nothing", changes, len(zones))
	}
}

// A window's end is the next one's start at any time, also in the years of stranger clocks.
func TestWindowsMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := zoneOf(t, rapid.SampledFrom(zones).Draw(t, "zone"))
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "at"), 0)
		checkWindow(t, rapid.SampledFrom([]Period{Day, Month}).Draw(t, "period"), at, zone)
	})
}

// Days begin when their date does, whatever the clock shows then.
func TestDaysOfAnUnusualLength(t *testing.T) {
	tests := []struct {
		zone, at   string // a time on that day's clock
		name       string
		start, end string // UTC
	}{
		{"Europe/Berlin", "2026-11-23 12:00", "d20261123", "2026-11-22 23:00", "2026-11-23 23:00"},
		{"Europe/Berlin", "2026-03-29 12:00", "d20260329", "2026-03-28 23:00", "2026-03-29 22:00"},
		{"Europe/Berlin", "2026-10-25 12:00", "d20261025", "2026-10-24 22:00", "2026-10-25 23:00"},
		{"America/Santiago", "2040-12-31 12:00", "d20401231", "2040-12-31 03:00", "2041-01-01 03:00"},
		// Midnight is left out: the clock goes from 23:59 to 1:00.
		{"America/Santiago", "2026-09-05 12:00", "d20260905", "2026-09-05 04:00", "2026-09-06 04:00"},
		{"America/Santiago", "2026-09-06 12:00", "d20260906", "2026-09-06 04:00", "2026-09-07 03:00"},
		{"America/Havana", "2026-03-08 12:00", "d20260308", "2026-03-08 05:00", "2026-03-09 04:00"},
		{"Atlantic/Azores", "2026-03-29 12:00", "d20260329", "2026-03-29 01:00", "2026-03-30 00:00"},
		{"Asia/Beirut", "2026-03-29 12:00", "d20260329", "2026-03-28 22:00", "2026-03-29 21:00"},
		// The clock goes from 1:00 back to 0:00: the day has two midnights and begins at the first.
		{"America/Havana", "2026-11-01 12:00", "d20261101", "2026-11-01 04:00", "2026-11-02 05:00"},
		{"Atlantic/Azores", "2026-10-25 12:00", "d20261025", "2026-10-25 00:00", "2026-10-26 01:00"},
		// From midnight back to 23:00: the day before goes on, here with its month.
		{"America/Santiago", "2026-04-04 12:00", "d20260404", "2026-04-04 03:00", "2026-04-05 04:00"},
		{"Asia/Almaty", "2024-02-29 12:00", "d20240229", "2024-02-28 18:00", "2024-02-29 19:00"},
		{"Asia/Almaty", "2024-02-29 12:00", "m202402", "2024-01-31 18:00", "2024-02-29 19:00"},
		// From 0:01 back to 23:01: the day that has begun goes on.
		{"America/St_Johns", "2010-11-06 12:00", "d20101106", "2010-11-06 02:30", "2010-11-07 02:30"},
		{"America/St_Johns", "2010-11-06 23:30", "d20101107", "2010-11-07 02:30", "2010-11-08 03:30"},
		// The date line: no 30 December.
		{"Pacific/Apia", "2011-12-29 12:00", "d20111229", "2011-12-29 10:00", "2011-12-30 10:00"},
		{"Pacific/Apia", "2011-12-31 12:00", "d20111231", "2011-12-30 10:00", "2011-12-31 10:00"},
	}
	const clock = "2006-01-02 15:04"
	for _, tt := range tests {
		zone := zoneOf(t, tt.zone)
		at, err := time.ParseInLocation(clock, tt.at, zone)
		if err != nil {
			t.Fatal(err)
		}
		if tt.name == "d20101107" { // the second 23:30 of the 6th
			at = at.Add(time.Hour)
		}
		p := Day
		if tt.name[0] == 'm' {
			p = Month
		}
		w := checkWindow(t, p, at, zone)
		if start, end := w.Start.UTC().Format(clock), w.End.UTC().Format(clock); w.Name != tt.name || start != tt.start || end != tt.end {
			t.Errorf("%s, %s: %s from %s to %s, want %s from %s to %s", tt.zone, tt.at, w.Name, start, end, tt.name, tt.start, tt.end)
		}
	}
}
