package limits

import "time"

// Window is one calendar day or month in the table's zone.
type Window struct {
	Name   string // as in d20261123 or m202611; part of the store's key
	Period Period
	Start  time.Time // the first instant inside
	End    time.Time // the first instant after it: the next window's start
}

// Window returns the window of that period in which t lies.
func (p Period) Window(t time.Time, zone *time.Location) Window { return windowAt(p, t, zone) }

// windowAt returns the window of that period in which t lies. Its name is the date that the zone's
// clock shows at t; only where a clock went back over midnight after it had struck, as in St. John's
// until 2011, the day that had begun goes on. Days are as long as in the zone.
func windowAt(p Period, t time.Time, zone *time.Location) Window {
	year, month, day := t.In(zone).Date()
	date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	next := date.AddDate(0, 0, 1)
	if !t.Before(firstInstant(next, zone)) {
		date, next = next, next.AddDate(0, 0, 1)
	}
	name := date.Format("d20060102")
	if p == Month {
		name, date = date.Format("m200601"), date.AddDate(0, 0, 1-date.Day())
		next = date.AddDate(0, 1, 0)
	}
	return Window{Name: name, Period: p, Start: firstInstant(date, zone), End: firstInstant(next, zone)}
}

// firstInstant returns when a date begins in a zone: when its clock first shows midnight of that date
// or later, because a clock may skip midnight, or the whole date. The date is given as midnight UTC.
func firstInstant(date time.Time, zone *time.Location) time.Time {
	for t := date.Add(-24 * time.Hour).In(zone); ; { // every zone is less than a day off UTC
		_, offset := t.Zone()
		_, change := t.ZoneBounds()
		midnight := date.Add(-time.Duration(offset) * time.Second)
		if midnight.Before(t) {
			midnight = t // skipped
		}
		if !change.IsZero() && !change.After(t) { // as ZoneBounds has it on a last day of December in Santiago, from 2040 on
			change = t.Add(time.Hour)
		}
		if change.IsZero() || midnight.Before(change) {
			return midnight.In(zone)
		}
		t = change
	}
}

// calendar is the day and the month of one moment. It holds for every moment of that day. It is never
// changed, so pointers into of may be kept and shared.
type calendar struct {
	zone       *time.Location
	of         [2]Window // by Period
	start, end int64     // of the day, milliseconds since 1970
}

// holds reports whether a moment, in milliseconds since 1970, lies in the calendar's day.
func (c *calendar) holds(at int64, zone *time.Location) bool {
	return c != nil && c.zone == zone && c.start <= at && at < c.end
}

func newCalendar(t time.Time, zone *time.Location) *calendar {
	day := windowAt(Day, t, zone)
	return &calendar{zone, [2]Window{Day: day, Month: windowAt(Month, t, zone)}, day.Start.UnixMilli(), day.End.UnixMilli()}
}
