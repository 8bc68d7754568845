package history

import (
	"context"
	"time"
)

// How long the store keeps what.
const (
	HoursKept = 8   // days before today of which each hour is known
	DaysKept  = 400 // days of which the sums are known
)

// Store keeps what gateways have counted. [Redis] and [Bolt] are the two. A part is all that one gateway has
// counted of an account in an hour: to write it again, with the same or larger sums, replaces it. So nothing
// is counted twice when a reply is lost, and what a store has lost of the present hour is back with the next
// write. Implementations are safe for concurrent use.
type Store interface {
	// Write stores the parts of several accounts. Beside an error some of them may be stored.
	Write(ctx context.Context, parts []Parts) error
	// Hours returns the parts of each of several days, in any order, as far as they are kept.
	Hours(ctx context.Context, days []Day) ([][]Part, error)
	// Days returns what Roll has stored of each day, nil where it has not.
	Days(ctx context.Context, days []Day) ([][]byte, error)
	// Minutes returns the minutes of each account in the slots, one after the other.
	Minutes(ctx context.Context, apps []string, slots []int64) ([][]Minutes, error)
	// Roll stores what merge makes of the parts of a day, unless one of them changes meanwhile; then, and when
	// merge returns nil, nothing is stored.
	Roll(ctx context.Context, day Day, merge func([]Part) []byte) error
}

// Day is one day of one account.
type Day struct {
	App string
	Day string // in the table's zone, as 20261123
}

// Part is what one gateway has counted of an account in one hour.
type Part struct {
	Hour int64  // when it began, Unix seconds
	Name string // of the gateway's life and the hour in it
	Sums []byte // packed
}

// Minutes is what one gateway has sent for an account in each minute of a slot.
type Minutes struct {
	Slot   int64
	Name   string
	Packed []byte
}

// Parts are parts of one account.
type Parts struct {
	App     string
	Hours   []DayPart
	Minutes []Minutes
}

// DayPart is a part with its day. Over: the day has ended, so what Roll may have stored of it is void.
type DayPart struct {
	Part
	Day  string
	Over bool
}

// hoursExpire returns when the hours of a day are dropped, and daysExpire when its month is.
func hoursExpire(day string) time.Time { return parseDay(day, time.UTC).AddDate(0, 0, HoursKept+2) }

func daysExpire(day string) time.Time {
	t := parseDay(day, time.UTC)
	return time.Date(t.Year(), t.Month()+1, DaysKept+2, 0, 0, 0, 0, time.UTC)
}

// slotExpires returns when the minutes of a slot are dropped.
func slotExpires(slot int64) time.Time {
	return time.Unix((slot+3)*slotMinutes*60, 0)
}
