// Package report sums what is in access logs: who called what, what was refused and why, and what another
// quota table would have refused.
//
// It reads some hundred thousand lines a second in memory that does not grow with them: each line is read by a
// scanner for exactly the form in which the gateway writes it, and the groups of all tables are bounded.
package report

import (
	"context"
	"errors"
	"path"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// Options of New.
type Options struct {
	Zone   *time.Location
	By     [][]Dimension // the tables; each sums by one or more dimensions
	Filter Filter
	WhatIf *WhatIf // nil: the log is not replayed
}

// Filter says which calls are counted. The zero value counts all.
type Filter struct {
	Apps, Rules, Callers []string // names, in which * stands for any letters; of apps also appids; none: all
	From, To             int64    // milliseconds since 1970, To not included; 0: no bound
}

// Why a line was not counted.
type Why string

// The reasons.
const (
	NotOurs    Why = "not a line of the access log"
	TooLong    Why = "too long"
	Unfinished Why = "the end of a line is missing: it may be being written"
)

// Place is a line that is not one of the gateway's. What it holds is not kept, for it may be a secret.
type Place struct {
	File string `json:"file"`
	Line int64  `json:"line"`
	Why  Why    `json:"why"`
}

// maxPlaces is how many foreign lines a report names.
const maxPlaces = 5

// Report sums lines. Lines and Bytes may be asked for while Read runs; all else is for one goroutine.
type Report struct {
	o      Options
	texts  *texts
	tables []*table
	replay *replay // nil: there is none
	kept   [3]map[uint32]bool

	total       Counts
	first, last int64 // the times of the calls that were counted
	foreign     int64
	places      []Place
	faults      Faults
	files       int

	hour, hourEnd int64 // the hour of the last line
	hourText      uint32
	lines, bytes  atomic.Int64
}

// New returns a report that has counted nothing.
func New(o Options) *Report {
	r := &Report{o: o, texts: newTexts()}
	for _, by := range o.By {
		r.tables = append(r.tables, &table{by: by, groups: make(map[key]*Counts), most: maxGroups / len(o.By)})
	}
	for i := range r.kept {
		r.kept[i] = make(map[uint32]bool)
	}
	for _, name := range slices.Concat(o.Filter.Apps, o.Filter.Rules, o.Filter.Callers) {
		r.texts.number([]byte(name)) // those that are asked for have a place
	}
	if o.WhatIf != nil {
		r.replay = newReplay(o.WhatIf, r.texts, o.Zone)
	}
	return r
}

// Lines returns how many lines were read.
func (r *Report) Lines() int64 { return r.lines.Load() }

// Bytes returns how many bytes were read, of packed files as they are packed.
func (r *Report) Bytes() int64 { return r.bytes.Load() }

// Read counts the lines of inputs, in the order of their time. The error is ctx's, when that was done before
// their end, or Faults: what could be read is counted.
func (r *Report) Read(ctx context.Context, inputs []Input) error {
	r.files = len(inputs)
	m := merge{
		read: &r.bytes,
		skip: func(p Place) {
			r.lines.Add(1)
			if r.foreign++; len(r.places) < maxPlaces {
				r.places = append(r.places, p)
			}
		},
		fault: func(f Fault) { r.faults = append(r.faults, f) },
	}
	m.start(ctx, inputs)
	m.each(ctx, r.add)
	if r.replay != nil {
		r.replay.finish()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(r.faults) > 0 {
		return r.faults
	}
	return nil
}

// add counts one line.
func (r *Report) add(l *Line) {
	r.lines.Add(1)
	if len(l.Reason) == 0 && kindOf(l.Decision) == refused {
		l.Reason = l.Decision // of a version that did not log it
	}
	of := key{
		App: r.texts.number(l.App), Rule: r.texts.number(l.Rule), Caller: r.texts.number(l.Caller), Decision: r.texts.number(l.Decision),
		Reason: r.texts.number(l.Reason), ErrCode: r.number(l.ErrCode), Hour: r.hourOf(l.Time),
	}
	keep := r.keeps(&of, l)
	if r.replay != nil {
		r.replay.add(&of, l, keep)
	}
	if !keep {
		return
	}
	r.total.add(l)
	if r.first == 0 || l.Time < r.first {
		r.first = l.Time
	}
	r.last = max(r.last, l.Time)
	for _, t := range r.tables {
		t.add(&of, l)
	}
}

// number returns the number of the text of an errcode.
func (r *Report) number(errcode int64) uint32 {
	var digits [20]byte
	return r.texts.number(strconv.AppendInt(digits[:0], errcode, 10))
}

// hourLayout is that of an hour as a group: RFC 3339 without what an hour does not have.
const hourLayout = "2006-01-02T15:04Z07:00"

// hourOf returns the number of the text of an hour in the report's zone.
func (r *Report) hourOf(at int64) uint32 {
	if at < r.hour || at >= r.hourEnd {
		t := time.UnixMilli(at).In(r.o.Zone)
		begin := t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second).Truncate(time.Second)
		r.hour, r.hourEnd = begin.UnixMilli(), begin.Add(time.Hour).UnixMilli()
		if _, change := t.ZoneBounds(); !change.IsZero() && change.UnixMilli() > at {
			r.hourEnd = min(r.hourEnd, change.UnixMilli())
		}
		var text [40]byte
		r.hourText = r.texts.number(begin.AppendFormat(text[:0], hourLayout))
	}
	return r.hourText
}

// keeps reports whether a call is one of those that the filter lets through.
func (r *Report) keeps(of *key, l *Line) bool {
	f := &r.o.Filter
	return l.Time >= f.From && (f.To == 0 || l.Time < f.To) &&
		(r.matches(0, f.Apps, of[App]) || len(f.Apps) > 0 && matchesAny(f.Apps, string(l.AppID))) &&
		r.matches(1, f.Rules, of[Rule]) && r.matches(2, f.Callers, of[Caller])
}

// matches reports whether a text matches one of patterns, and remembers it.
func (r *Report) matches(which int, patterns []string, text uint32) bool {
	if len(patterns) == 0 {
		return true
	}
	found, known := r.kept[which][text]
	if !known {
		found = matchesAny(patterns, r.texts.of[text])
		r.kept[which][text] = found
	}
	return found
}

func matchesAny(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		found, err := path.Match(p, text)
		return found && err == nil
	})
}

// CheckPattern returns what is wrong with a name of a [Filter].
func CheckPattern(pattern string) error {
	_, err := path.Match(pattern, "")
	return err
}

// Result is what a report has found.
type Result struct {
	Files    int      `json:"files"`
	Lines    int64    `json:"lines"` // that were read
	Foreign  int64    `json:"foreign"`
	Places   []Place  `json:"foreign_lines"` // the first of them
	Faults   []string `json:"faults"`        // files that were not read, or not to their end
	Complete bool     `json:"complete"`      // false: it was interrupted, or there are faults
	Zone     string   `json:"zone"`
	First    string   `json:"first"` // the times of the first call and the last one, RFC 3339; "" without a call
	Last     string   `json:"last"`
	Total    Counts   `json:"total"`
	Full     bool     `json:"full"` // there were too many different names: those that came late are together as Rest
	Tables   []Table  `json:"tables"`
	WhatIf   *Replay  `json:"what_if,omitempty"`
}

// Result returns what was counted, with the top rows of each table; 0 is all. err is what Read returned.
func (r *Report) Result(top int, err error) *Result {
	out := &Result{
		Files: r.files, Lines: r.Lines(), Foreign: r.foreign, Places: r.places, Faults: []string{}, Complete: err == nil,
		Zone: r.o.Zone.String(), First: timeText(r.first, r.o.Zone), Last: timeText(r.last, r.o.Zone), Total: r.total,
		Full: len(r.texts.of) >= maxTexts, Tables: []Table{},
	}
	if out.Places == nil {
		out.Places = []Place{}
	}
	if faults, ok := errors.AsType[Faults](err); ok {
		for _, f := range faults {
			out.Faults = append(out.Faults, f.Error())
		}
	}
	for _, t := range r.tables {
		out.Tables = append(out.Tables, t.result(r.texts, r.o.Zone, top))
	}
	if r.replay != nil {
		out.WhatIf = r.replay.result(top)
	}
	return out
}
