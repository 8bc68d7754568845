package admin

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// period reads ?from= and ?to=, by default today until now.
func period(r *http.Request, now time.Time) (from, to time.Time, err error) {
	query := r.URL.Query()
	from, _, err = timeOf("from", query.Get("from"), now, startOfDay(now, 0))
	if err != nil {
		return from, to, err
	}
	to, day, err := timeOf("to", query.Get("to"), now, now)
	if day {
		to = startOfDay(to, 1)
	}
	if err == nil && !from.Before(to) {
		err = errors.New("from " + from.Format(time.RFC3339) + ", to " + to.Format(time.RFC3339) + ": want from before to")
	}
	return from, to, err
}

// timeOf reads a time in the forms of the manual. day reports that it names a whole day.
func timeOf(name, text string, now, absent time.Time) (t time.Time, day bool, err error) {
	zone := now.Location()
	switch text {
	case "":
		return absent, false, nil
	case "now":
		return now, false, nil
	case "today":
		return startOfDay(now, 0), true, nil
	case "yesterday":
		return startOfDay(now, -1), true, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, zone); err == nil {
		return t, true, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t.In(zone), false, nil
		}
	}
	const most = 10_000 // a day that long ago still is one
	if n, err := strconv.Atoi(text[:len(text)-1]); err == nil && n >= 0 && n <= most {
		switch text[len(text)-1] {
		case 'd':
			return startOfDay(now, -n), true, nil
		case 'h':
			return now.Add(-time.Duration(n) * time.Hour), false, nil
		}
	}
	return t, false, errors.New(name + " " + strings.ToValidUTF8(text, "?") +
		": want a time as 2026-11-23T15:04, a day as 2026-11-23, today, yesterday, or how long ago as 7d or 36h")
}

func startOfDay(t time.Time, n int) time.Time {
	year, month, day := t.Date()
	return time.Date(year, month, day+n, 0, 0, 0, 0, t.Location())
}
