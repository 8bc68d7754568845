package limits

import "time"

// Window is one calendar day or month in the table's zone.
type Window struct {
	Name   string // as in d20261123 or m202611; part of the store's key
	Period Period
	Start  time.Time // the first instant inside
	End    time.Time // the first instant after it: the next window's start
}

// windowAt returns the window of that period in which t lies. Days of 23 and 25 hours are what
// the zone says they are.
func windowAt(p Period, t time.Time, zone *time.Location) Window {
	year, month, day := t.In(zone).Date()
	if p == Month {
		start := time.Date(year, month, 1, 0, 0, 0, 0, zone)
		return Window{Name: start.Format("m200601"), Period: Month, Start: start, End: time.Date(year, month+1, 1, 0, 0, 0, 0, zone)}
	}
	start := time.Date(year, month, day, 0, 0, 0, 0, zone)
	return Window{Name: start.Format("d20060102"), Period: Day, Start: start, End: time.Date(year, month, day+1, 0, 0, 0, 0, zone)}
}

// calendar is the day and the month of one moment. It holds for every moment of that day.
type calendar struct {
	zone *time.Location
	of   [2]Window // by Period
}

func (c *calendar) holds(t time.Time, zone *time.Location) bool {
	return c != nil && c.zone == zone && !t.Before(c.of[Day].Start) && t.Before(c.of[Day].End)
}

func newCalendar(t time.Time, zone *time.Location) *calendar {
	return &calendar{zone: zone, of: [2]Window{Day: windowAt(Day, t, zone), Month: windowAt(Month, t, zone)}}
}
