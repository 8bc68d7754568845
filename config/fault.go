package config

import (
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with the configuration, and where it stands.
type Fault struct {
	File   string // as it was named; "environment" for a variable
	Line   int    // from 1; 0 when the fault has no place in the file
	Column int    // from 1, in characters; 0 when only the line is known
	Key    string // as in apps[0].secret; "" for the file as a whole
	Text   string // what was seen and what was wanted; never a secret
}

func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
		if f.Column > 0 {
			fmt.Fprintf(&b, ":%d", f.Column)
		}
	}
	b.WriteString(": ")
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// Faults is everything that is wrong with the configuration, file by file and in the order of the
// lines. Load and ParseTable return it as their error.
type Faults []Fault //nolint:errname // a list of them, and read as one: errors.As(err, &faults)

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// sort puts the faults of one file in the order of its lines.
func (f Faults) sort() {
	slices.SortStableFunc(f, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}

// maxSuggested bounds how many names a fault lists.
const maxSuggested = 20

// suggest returns the end of a fault about a name that is not known: the name that was probably
// meant, or else those that there are.
func suggest(name string, known []string) string {
	if best := Closest(name, known); best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	if len(known) == 0 {
		return "there is none"
	}
	if len(known) > maxSuggested {
		known = append(slices.Clone(known[:maxSuggested]), "…")
	}
	return "want one of " + strings.Join(known, ", ")
}

// Closest returns the known name that was probably meant by name, or "": in other letter cases, with other
// punctuation, or with a few letters wrong.
func Closest(name string, known []string) string {
	fold := strings.NewReplacer("_", "", "-", "", ".", "")
	best, least := "", len(name)/3+1
	if len(name) > 3 {
		least = max(least, 3)
	}
	for _, k := range known {
		if strings.EqualFold(fold.Replace(name), fold.Replace(k)) {
			return k
		}
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance counts the letters to add, drop or change to come from a to b (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
