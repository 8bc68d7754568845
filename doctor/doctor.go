// Package doctor looks for what is wrong between this machine and WeChat: the configuration, the gateway, the
// store, the network, the tokens, the access log and the machine. It changes nothing that lasts.
package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"wxproxy/internal/words"
)

// Level is how bad a finding is. A larger one is worse.
type Level int

// The levels, from the best to the worst.
const (
	OK      Level = iota // as it should be
	Skipped              // not looked at; the finding says why
	Note                 // works; worth knowing
	Warning              // works, and may stop working or be unsafe
	Fault                // does not work
)

// String returns the level as JSON has it.
func (l Level) String() string {
	return [...]string{"ok", "skipped", "note", "warning", "fault"}[l]
}

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Level) UnmarshalText(text []byte) error {
	for *l = OK; *l <= Fault; *l++ {
		if l.String() == string(text) {
			return nil
		}
	}
	return fmt.Errorf("level %.20q: want one of ok, skipped, note, warning, fault", text)
}

// Finding is one fact that a check has seen.
type Finding struct {
	Level Level
	Seen  *words.Error // the fact; its message is the kind of finding
	Mend  *words.Error // what to do about it; nil where there is nothing to do
}

// Kind names the kind of a finding, as JSON and the manual have it: the key of its message, or that of what an
// errcode means. DoctorNoAOF is no-aof.
func (f Finding) Kind() string {
	key := f.Seen.Message.Key
	for i := 0; i+1 < len(f.Seen.Args); i += 2 {
		if m, ok := f.Seen.Args[i+1].(words.Message); ok && f.Seen.Args[i] == "meaning" {
			key = m.Key
		}
	}
	return kind(key)
}

func kind(key string) string {
	var b strings.Builder
	letters := []rune(strings.TrimPrefix(key, "Doctor"))
	for i, r := range letters {
		starts := i > 0 && unicode.IsUpper(r) &&
			(unicode.IsLower(letters[i-1]) || i+1 < len(letters) && unicode.IsLower(letters[i+1]))
		if starts {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Check looks at one thing.
type Check struct {
	Name    string        // one word, the same in every language
	Subject words.Message // what it looks at
	After   []string      // names of earlier checks that must end first, because it uses what they have found
	Limit   time.Duration // how long it may take
	Look    func(ctx context.Context) []Finding
}

// Result is what a check has found.
type Result struct {
	Check

	Findings []Finding // one at least
	Took     time.Duration
}

// Worst returns the worst level of a result.
func (r Result) Worst() Level {
	worst := OK
	for _, f := range r.Findings {
		worst = max(worst, f.Level)
	}
	return worst
}

// Run makes all checks, those that wait for no other beside each other. It calls report with each result, in the
// order of checks and from one goroutine. A check that goes past its limit is left behind, with a fault.
func Run(ctx context.Context, checks []Check, report func(Result)) {
	results := make([]chan Result, len(checks))
	ended := make(map[string]chan struct{}, len(checks))
	for i, c := range checks {
		results[i], ended[c.Name] = make(chan Result, 1), make(chan struct{})
	}
	for i, c := range checks {
		go func() {
			for _, name := range c.After {
				<-ended[name]
			}
			began := time.Now()
			findings := look(ctx, c)
			results[i] <- Result{Check: c, Findings: findings, Took: time.Since(began)}
			close(ended[c.Name])
		}()
	}
	for _, result := range results {
		report(<-result)
	}
}

// grace is how long a check may take to return once its context is done: it may have found something.
const grace = 500 * time.Millisecond

func look(ctx context.Context, c Check) []Finding {
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	found := make(chan []Finding, 1)
	go func() { found <- c.Look(ctx) }()
	select {
	case findings := <-found:
		return findings
	case <-ctx.Done():
	}
	select {
	case findings := <-found:
		return findings
	case <-time.After(grace): // a file system that hangs obeys no context
		return []Finding{fault(words.New(words.DoctorNotEnded, "limit", c.Limit), words.New(words.DoctorNotEndedMend))}
	}
}

func ok(seen *words.Error) Finding            { return Finding{OK, seen, nil} }
func skipped(seen, mend *words.Error) Finding { return Finding{Skipped, seen, mend} }
func note(seen, mend *words.Error) Finding    { return Finding{Note, seen, mend} }
func warning(seen, mend *words.Error) Finding { return Finding{Warning, seen, mend} }
func fault(seen, mend *words.Error) Finding   { return Finding{Fault, seen, mend} }

// orOK returns findings, or what is fine where there are none.
func orOK(findings []Finding, fine *words.Error) []Finding {
	if len(findings) == 0 {
		return []Finding{ok(fine)}
	}
	return findings
}
