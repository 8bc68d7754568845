package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"wxproxy/internal/words"
)

const (
	tellAtMost = 5                // lines of calls of one kind in a period; the others are summed up
	tellPeriod = 5 * time.Second  // while there is something to show
	restPeriod = 30 * time.Second // afterwards
	tellLoop   = 20               // failures in a period that are called a loop
)

// narrator tells on a terminal what becomes of calls: a line each, those that repeat each other summed up, and what it
// means when something happens for the first time.
type narrator struct {
	l       words.Language
	out     io.Writer
	colours bool
	period  time.Duration
	headed  bool // the heads of the columns are printed
	blank   bool // the last line is empty

	kinds   map[kindOfCall]*repeats
	told    map[string]bool
	refused int
	failed  error // of writing
}

// kindOfCall is what calls have in common that one line stands for.
type kindOfCall struct {
	caller, rule, decision, reason string
	status, errcode                int
}

// repeats are the calls of a kind in a period.
type repeats struct {
	last    tailLine
	calls   int
	untold  int
	summing bool // there were too many in the period before
}

func newNarrator(l words.Language, out io.Writer) *narrator {
	return &narrator{l: l, out: out, colours: colours(out), period: tellPeriod, kinds: make(map[kindOfCall]*repeats), told: make(map[string]bool)}
}

// call tells of a call.
func (n *narrator) call(c tailLine) {
	if strings.HasPrefix(c.Decision, "refused-") {
		n.refused++
	}
	kind := kindOfCall{c.Caller, c.Rule, c.Decision, c.Reason, c.Status, c.Errcode}
	r := n.kinds[kind]
	if r == nil {
		r = &repeats{}
		n.kinds[kind] = r
	}
	r.last = c
	if r.calls++; r.summing || r.calls > tellAtMost {
		r.untold++
	} else {
		for other, before := range n.kinds { // what came before comes first
			if other.caller == kind.caller && other.rule == kind.rule {
				n.flush(before)
			}
		}
		n.line(c, 1)
	}
	n.explain(c, r.calls)
}

// sum tells of the calls of the last period that have no lines.
func (n *narrator) sum() {
	kinds := slices.SortedFunc(maps.Keys(n.kinds), func(a, b kindOfCall) int { return n.kinds[a].last.Time.Compare(n.kinds[b].last.Time) })
	for _, kind := range kinds {
		r := n.kinds[kind]
		n.flush(r)
		if r.calls == 0 {
			delete(n.kinds, kind)
			continue
		}
		r.summing = r.calls > tellAtMost || n.period == restPeriod && kind.caller != "" // the person looks for the own calls
		r.calls = 0
	}
}

// flush tells of calls that have no lines yet.
func (n *narrator) flush(r *repeats) {
	if r.untold > 0 {
		n.line(r.last, r.untold)
		r.untold = 0
	}
}

// explain tells what a call means, where it is the first of its kind.
func (n *narrator) explain(c tailLine, calls int) {
	caller := n.caller(c)
	switch {
	case c.Decision == "pass" && c.Errcode == 0:
		delete(n.told, c.Caller+" "+c.Rule) // what is refused from now on is refused anew
		n.once("token", n.l.Text(words.DemoTellToken))
	case c.Decision == "pass" && c.Errcode == 45009:
		n.once("45009 "+c.Rule, n.l.Text(words.DemoTellReject, "rule", c.Rule, "used", c.Used, "quota", c.Quota))
	case c.Decision == "pass" && calls == tellLoop:
		n.once("loop "+c.Caller, n.l.Text(words.DemoTellRepeats, "caller", caller, "errcode", c.Errcode))
	case c.Decision == "refused-fuse":
		n.once("fuse "+c.Caller, n.l.Text(words.DemoTellFuse, "caller", caller, "errcode", c.Errcode, "seconds", int(demoLoop.Seconds())))
	case c.Decision == "refused-share":
		n.once(c.Caller+" "+c.Rule, n.l.Text(words.DemoTellShare, "caller", caller, "quota", c.Quota, "rule", c.Rule))
	case c.Decision == "refused-quota":
		n.once(c.Caller+" "+c.Rule, n.l.Text(words.DemoTellQuota, "rule", c.Rule, "used", c.Used, "quota", c.Quota))
	case c.Decision == "refused-latched":
		n.once("latch "+c.Rule, n.l.Text(words.DemoTellLatch, "rule", c.Rule))
	case c.Reason != "":
		n.once("reason "+c.Reason, n.l.Text(words.DemoTellReason, "reason", c.Reason))
	}
}

// once tells something if it was not told before.
func (n *narrator) once(what, text string) {
	if !n.told[what] {
		n.told[what] = true
		n.tell(text)
	}
}

// tell prints a paragraph.
func (n *narrator) tell(text string) {
	var b strings.Builder
	if !n.blank {
		b.WriteByte('\n')
	}
	for _, line := range wrap(text, n.textWidth()-4) {
		b.WriteString("  " + n.paint(bold, line) + "\n")
	}
	n.print(b.String() + "\n")
}

func (n *narrator) print(text string) {
	n.blank = strings.HasSuffix(text, "\n\n")
	if _, err := io.WriteString(n.out, text); err != nil && n.failed == nil {
		n.failed = err
	}
}

func (n *narrator) paint(c colour, text string) string {
	if !n.colours {
		return text
	}
	return c.paint(text)
}

// narrow is the width below which a line has no time, and less room for the name of a rule.
const narrow = 76

// line prints what became of a call, or the last of several.
func (n *narrator) line(c tailLine, calls int) {
	if !n.headed {
		n.headed = true
		n.row(bold, n.l.Text(words.TailTime), n.l.Text(words.ExplainCaller), n.l.Text(words.TailCall), n.l.Text(words.TailUsed), n.l.Text(words.TailFate))
	}
	used := ""
	if c.Quota > 0 {
		used = fmt.Sprintf("%d/%d", c.Used, c.Quota)
	}
	outcome := n.outcome(c)
	if calls > 1 {
		outcome = n.l.Text(words.DemoTimes, "outcome", outcome, "count", calls)
	}
	n.row(colourOfCall(c.Decision, errcodeText(c)), c.Time.Local().Format(time.TimeOnly), n.caller(c), cmp.Or(c.Rule, c.Path), used, outcome)
}

func (n *narrator) row(c colour, at, caller, rule, used, outcome string) {
	cell := func(text string, width int) string {
		return columns.FillRight(columns.Truncate(text, width, "…"), width)
	}
	width := n.width()
	used = columns.FillLeft(used, 10)
	row := cell(at, 8) + "  " + cell(caller, 8) + "  " + cell(rule, 21) + " " + used + "  "
	if width < narrow {
		row = cell(caller, 8) + " " + cell(rule, 16) + " " + used + " "
	}
	row += columns.Truncate(outcome, max(width-columns.StringWidth(row), 8), "…")
	n.print(n.paint(c, row) + "\n")
}

func (n *narrator) caller(c tailLine) string {
	switch {
	case c.Caller != "":
		return c.Caller
	case c.Rule == "quota.get":
		return "wxproxy" // asks WeChat for its own count
	}
	return n.l.Text(words.DemoYou)
}

func (n *narrator) outcome(c tailLine) string {
	switch {
	case strings.HasPrefix(c.Decision, "refused-"):
		return n.l.Text(words.DemoTurnedDown, "reason", c.Reason)
	case c.Decision == "local":
		return n.l.Text(words.DemoHere)
	case c.Errcode != 0:
		return n.l.Text(words.DemoAnswered, "errcode", c.Errcode)
	case c.Status >= http.StatusBadRequest:
		return n.l.Text(words.DemoFailed, "status", c.Status)
	}
	return n.l.Text(words.DemoOK)
}

func errcodeText(c tailLine) string {
	if c.Errcode == 0 && c.Status < http.StatusBadRequest {
		return ""
	}
	return strconv.Itoa(c.Errcode)
}

// textWidth is that of paragraphs: longer lines are hard to read.
func (n *narrator) textWidth() int { return min(n.width(), usualWidth) }

// usualWidth is that of a terminal, and of what is written elsewhere.
const usualWidth = 80

// width is that of the terminal now.
func (n *narrator) width() int {
	const least = 40
	if f, ok := n.out.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return max(width, least)
		}
	}
	return usualWidth
}

// run tells of calls and of what else happens, until ctx is done, the calls end or nothing can be printed.
func (n *narrator) run(ctx context.Context, calls <-chan tailLine, tellings <-chan func()) error {
	tick := time.NewTicker(n.period)
	defer tick.Stop()
	for n.failed == nil {
		period := n.period
		select {
		case <-ctx.Done():
			return nil
		case c, ok := <-calls:
			if !ok {
				return nil
			}
			n.call(c)
		case tell := <-tellings:
			tell()
		case <-tick.C:
			n.sum()
		}
		if n.period != period {
			tick.Reset(n.period)
		}
	}
	return n.failed
}
