package admin

import (
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// wantsCSV reports whether a request asks for a table instead of JSON.
func wantsCSV(r *http.Request) bool { return r.URL.Query().Get("format") == "csv" }

// replyCSV answers with a table as RFC 4180 has it, after a byte order mark: without one Excel takes UTF-8 for the
// character set of its own language. name is that of the file, without its ending.
func replyCSV(w http.ResponseWriter, name string, rows [][]string) {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`.csv"`)
	_, _ = w.Write([]byte("\uFEFF")) // the client has gone
	c := csv.NewWriter(w)
	c.UseCRLF = true
	for _, row := range rows {
		for i, cell := range row {
			row[i] = defused(cell)
		}
		_ = c.Write(row)
	}
	c.Flush()
}

// defused returns a cell that a spreadsheet does not take for a formula: names and titles come from files that others
// may write. A number stays one, with its sign.
func defused(cell string) string {
	if cell == "" || !strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return cell
	}
	if _, err := strconv.ParseFloat(cell, 64); err == nil {
		return cell
	}
	return "'" + cell
}

// figure is a number in a cell.
func figure(n int64) string { return strconv.FormatInt(n, 10) }

// percentage is a part of a quota in a cell, "" without one.
func percentage(p float64, limit int64) string {
	if limit <= 0 {
		return ""
	}
	return strconv.FormatFloat(p, 'f', 1, 64)
}

// moment is a time in a cell, "" for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}
