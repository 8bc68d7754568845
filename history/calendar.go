package history

import "time"

// hour is one clock hour of the table's zone.
type hour struct {
	zone       *time.Location
	start, end int64  // Unix seconds
	day        string // of the zone, as 20261123
}

// hourAt returns the hour in which at, in Unix seconds, lies.
func hourAt(at int64, zone *time.Location) *hour {
	t := time.Unix(at, 0).In(zone)
	_, offset := t.Zone()
	past := (at + int64(offset)) % 3600
	if past < 0 {
		past += 3600
	}
	return &hour{zone: zone, start: at - past, end: at - past + 3600, day: dayOf(t)}
}

const dayLayout = "20060102"

func dayOf(t time.Time) string { return t.Format(dayLayout) }

// dayStart returns when a day begins in a zone. n days are added to it.
func dayStart(t time.Time, n int) time.Time {
	year, month, day := t.Date()
	return time.Date(year, month, day+n, 0, 0, 0, 0, t.Location())
}

// parseDay returns when the day of that name begins.
func parseDay(day string, zone *time.Location) time.Time {
	t, err := time.ParseInLocation(dayLayout, day, zone)
	if err != nil {
		return time.Time{}
	}
	return t
}

// A slot is ten minutes: the calls of each minute are kept in it for the forecast.
const slotMinutes = 10

func slotOf(minute int64) int64 { return minute / slotMinutes }
