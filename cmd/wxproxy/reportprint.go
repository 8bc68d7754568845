package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"wxproxy/internal/words"
	"wxproxy/report"
)

// reportPrinter prints what access logs come to.
type reportPrinter struct {
	w      io.Writer
	l      words.Language
	zone   *time.Location
	tested *testedTable // nil: the log was not replayed
}

func (p *reportPrinter) print(f *reportFlags, r *report.Result) error {
	switch {
	case f.asJSON:
		return encode(p.w, r, nil)
	case f.asCSV:
		return p.csv(r)
	}
	p.head(r)
	for i := range r.Tables {
		p.table(&r.Tables[i], r)
	}
	if r.WhatIf != nil {
		p.whatIf(r.WhatIf)
	}
	return nil
}

// head prints what was read, and what was not.
func (p *reportPrinter) head(r *report.Result) {
	if r.Total.Calls == 0 {
		fmt.Fprintln(p.w, p.l.Text(words.ReportEmpty, "files", r.Files, "lines", r.Lines))
	} else {
		fmt.Fprintln(p.w, p.l.Text(words.ReportFiles, "files", r.Files, "lines", r.Lines, "calls", r.Total.Calls, "first", clock(r.First), "last", clock(r.Last), "zone", r.Zone))
	}
	if r.Foreign > 0 {
		fmt.Fprintln(p.w, p.l.Text(words.ReportForeign, "count", r.Foreign))
		for _, at := range r.Places {
			fmt.Fprintln(p.w, p.l.Text(words.ReportPlace, "file", at.File, "line", at.Line, "why", p.l.Translate(string(at.Why))))
		}
		if more := r.Foreign - int64(len(r.Places)); more > 0 {
			fmt.Fprintln(p.w, "  …")
		}
	}
	if r.Full {
		fmt.Fprintln(p.w, p.l.Text(words.ReportFull, "rest", report.Rest))
	}
}

// fields are the heads of the columns by which a table sums.
var fields = map[string]words.Message{
	"app": words.FieldApp, "rule": words.FieldRule, "caller": words.FieldCaller, "decision": words.FieldDecision,
	"reason": words.FieldReason, "errcode": words.FieldErrCode, "hour": words.FieldHour,
}

// table prints one table. Refusals by their reason have no other sums than their number.
func (p *reportPrinter) table(t *report.Table, r *report.Result) {
	var head []string
	for _, name := range t.By {
		head = append(head, p.l.Text(fields[name]))
	}
	refusals := slices.Contains(t.By, "reason") && !slices.Contains(t.By, "decision")
	if refusals {
		head = append(head, p.texts(words.SumCalls, words.SumFirst, words.SumLast)...)
	} else {
		head = append(head, p.texts(words.SumCalls, words.SumPassed, words.SumRefused, words.SumLocal, words.SumSent, words.SumErrors)...)
	}
	rows := [][]string{head}
	for _, row := range t.Rows {
		cells := shown(row.Keys)
		if refusals {
			cells = append(cells, digits(row.Calls)...)
			cells = append(cells, clock(row.FirstRefusal), clock(row.LastRefusal))
		} else {
			cells = append(cells, sums(&row.Counts)...)
		}
		rows = append(rows, cells)
	}
	if t.By[0] == "app" && len(t.By) == 1 && len(t.Rows) > 1 {
		rows = append(rows, append([]string{p.l.Text(words.ReportTotal)}, sums(&r.Total)...))
	}
	fmt.Fprintln(p.w)
	p.rows(rows, len(t.By))
	if t.More > 0 {
		fmt.Fprintln(p.w, p.l.Text(words.ReportMore, "count", t.More))
	}
	if t.Full {
		fmt.Fprintln(p.w, p.l.Text(words.ReportFull, "rest", report.Rest))
	}
}

func (p *reportPrinter) texts(messages ...words.Message) []string {
	texts := make([]string, len(messages))
	for i, m := range messages {
		texts[i] = p.l.Text(m)
	}
	return texts
}

// rows prints a table whose columns from one on are numbers and times, which end under each other.
func (p *reportPrinter) rows(rows [][]string, from int) {
	found := widths(rows)
	for _, row := range rows {
		for i := from; i < len(row); i++ {
			row[i] = columns.FillLeft(row[i], found[i])
		}
	}
	printTable(p.w, rows)
}

// shown are the keys of a row, with - for none.
func shown(keys []string) []string {
	cells := make([]string, len(keys), len(keys)+6)
	for i, key := range keys {
		cells[i] = key
		if key == "" {
			cells[i] = "-"
		}
	}
	return cells
}

func sums(c *report.Counts) []string {
	return digits(c.Calls, c.Passed, c.Refused, c.Local, c.Sent, c.Errors)
}

func digits(numbers ...int64) []string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.FormatInt(n, 10)
	}
	return texts
}

// clock is a time of RFC 3339 without its offset: the zone is stated once.
func clock(text string) string {
	if len(text) < len(time.DateTime) {
		return text
	}
	return strings.Replace(text[:len(time.DateTime)], "T", " ", 1)
}

// whatIf prints what another table would have decided.
func (p *reportPrinter) whatIf(r *report.Replay) {
	fmt.Fprintf(p.w, "\n%s\n", p.l.Text(words.WhatIfTable, "table", p.tested.name(), "time", clock(r.From)))
	rows := [][]string{}
	for _, line := range []struct {
		label words.Message
		n     int64
	}{
		{words.WhatIfCalls, r.Calls},
		{words.WhatIfRefused, r.Refused},
		{words.WhatIfNow, r.RefusedNow},
		{words.WhatIfNew, r.New},
		{words.WhatIfPassing, r.Passing},
		{words.WhatIfClears, r.Clears},
	} {
		rows = append(rows, append([]string{p.l.Text(line.label)}, digits(line.n)...))
	}
	p.rows(rows, 1)
	p.outcomes(words.WhatIfRefusals, r.Refusals, true)
	p.outcomes(words.WhatIfPasses, r.Passes, false)
	fmt.Fprintln(p.w)
	if r.More > 0 {
		fmt.Fprintln(p.w, p.l.Text(words.ReportMore, "count", r.More))
	}
	if len(p.tested.apps) > 0 && p.tested.profile == "" {
		fmt.Fprintln(p.w, p.l.Text(words.WhatIfOtherApps, "profile", defaultProfile))
	}
	if len(r.Skipped) > 0 {
		fmt.Fprintln(p.w, p.l.Text(words.WhatIfSkipped, "decisions", counted(r.Skipped)))
	}
	if len(r.Untold) > 0 {
		fmt.Fprintln(p.w, p.l.Text(words.WhatIfUntold, "rules", counted(r.Untold)))
	}
	if r.PathClears > 0 {
		fmt.Fprintln(p.w, p.l.Text(words.WhatIfPaths, "count", r.PathClears))
	}
}

// outcomes prints whose calls have another fate.
func (p *reportPrinter) outcomes(title words.Message, outcomes []report.Outcome, refused bool) {
	fmt.Fprintf(p.w, "\n%s\n", p.l.Text(title))
	if len(outcomes) == 0 {
		fmt.Fprintln(p.w, p.l.Text(words.WhatIfNone))
		return
	}
	head := p.texts(words.FieldApp, words.FieldRule, words.FieldCaller, words.FieldDecision, words.SumCalls)
	if refused {
		head = append(head, p.l.Text(words.WhatIfSent))
	}
	rows := [][]string{append(head, p.texts(words.SumFirst, words.SumLast)...)}
	for _, o := range outcomes {
		cells := append(shown([]string{o.App, o.Rule, o.Caller, o.Decision}), digits(o.Calls)...)
		if refused {
			cells = append(cells, digits(o.New)...)
		}
		rows = append(rows, append(cells, clock(o.First), clock(o.Last)))
	}
	p.rows(rows, 4)
}

// counted lists numbers by name, as "local 3, refused-auth 2".
func counted(numbers map[string]int64) words.List {
	var list words.List
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		list = append(list, fmt.Sprintf("%s %d", shown([]string{name})[0], numbers[name]))
	}
	return list
}

// csv prints one table as CSV in UTF-8 with the mark by which spreadsheets know it. The heads are the names of
// JSON.
func (p *reportPrinter) csv(r *report.Result) error {
	if _, err := io.WriteString(p.w, "\ufeff"); err != nil {
		return err
	}
	w := csv.NewWriter(p.w)
	write := func(cells ...string) { _ = w.Write(cells) } // w.Error has it
	if r.WhatIf == nil {
		t := &r.Tables[0]
		write(slices.Concat(t.By, []string{"calls", "passed", "refused", "local", "sent", "errors", "first_refusal", "last_refusal"})...)
		for _, row := range t.Rows {
			write(slices.Concat(row.Keys, sums(&row.Counts), []string{row.FirstRefusal, row.LastRefusal})...)
		}
	} else {
		write("outcome", "app", "rule", "caller", "decision", "calls", "sent_then", "first", "last")
		for _, list := range []struct {
			outcome string
			rows    []report.Outcome
		}{{"refused", r.WhatIf.Refusals}, {"passes", r.WhatIf.Passes}} {
			for _, o := range list.rows {
				write(slices.Concat([]string{list.outcome, o.App, o.Rule, o.Caller, o.Decision}, digits(o.Calls, o.New), []string{o.First, o.Last})...)
			}
		}
	}
	w.Flush()
	return w.Error()
}
