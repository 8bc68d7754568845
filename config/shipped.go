package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"wxproxy/limits"
)

// A user's profile of a built-in name takes the place of the built-in one, and goes on doing so
// when a newer program brings newer figures. Nothing is ever merged: what differs is told, until
// the user's file says by its revision that it was compared with that table.

// maxNamed is how many rules a warning names of each kind of difference.
const maxNamed = 3

// replaced tells of the profiles of the file that differ from the built-in ones of their names.
// shipped is the revision of these.
func (p *tableParser) replaced(shipped string) []string {
	own := p.file.Revision
	if own != "" && own >= shipped {
		return nil
	}
	builtIn, advice := "the built-in one", ""
	if shipped != "" {
		builtIn += " of " + shipped
		of := "the file says no revision"
		if own != "" {
			of = "the file is of " + own
		}
		advice = fmt.Sprintf("; %s: once you have compared them, write revision: %s", of, shipped)
	}
	var warnings []string
	for _, e := range p.file.Profiles {
		was := p.shipped[e.name]
		if was == nil {
			continue
		}
		if d := differences(was.Rules, e.built.Rules); d != "" {
			warnings = append(warnings, Fault{
				File: e.at.doc.name, Line: e.at.node.Line, Column: e.at.node.Column, Key: e.at.key,
				Text: fmt.Sprintf("in place of %s, which is not the same: %s%s", builtIn, d, advice),
			}.String())
		}
	}
	return warnings
}

// differences says in words how the rules of a user's profile differ from the built-in ones; "" is
// not at all. What an operator adds to a rule and no table has, as shares, is no difference.
func differences(builtIn, own []*limits.Rule) string {
	var lacks, adds, changes []string
	left := make(map[string]*limits.Rule, len(own))
	for _, r := range own {
		left[r.Name] = r
	}
	for _, was := range builtIn {
		r := left[was.Name]
		if r == nil {
			lacks = append(lacks, was.Name)
			continue
		}
		delete(left, was.Name)
		if c := change(was, r); c != "" {
			changes = append(changes, fmt.Sprintf("%s (%s)", was.Name, c))
		}
	}
	for _, r := range own {
		if left[r.Name] != nil {
			adds = append(adds, r.Name)
		}
	}
	var parts []string
	for _, kind := range []struct {
		verb  string
		rules []string
	}{{"lacks", lacks}, {"changes", changes}, {"adds", adds}} {
		if len(kind.rules) > 0 {
			parts = append(parts, "it "+kind.verb+" "+some(kind.rules))
		}
	}
	return strings.Join(parts, "; ")
}

// change says how a rule differs from the built-in one; "" is not at all.
func change(was, r *limits.Rule) string {
	var parts []string
	figure := func(what, now, before string) {
		if now != before {
			parts = append(parts, fmt.Sprintf("%s%s, built in %s", what, now, before))
		}
	}
	figure("", r.Budget.String(), was.Budget.String())
	figure("pace ", cmp.Or(r.Pace.String(), "none"), cmp.Or(was.Pace.String(), "none"))
	figure("inject ", r.Inject.String(), was.Inject.String())
	figure("shadow ", fmt.Sprint(r.Shadow), fmt.Sprint(was.Shadow))
	figure("fuse ", cmp.Or(r.Fuse.String(), "as for all"), cmp.Or(was.Fuse.String(), "as for all"))
	if !slices.Equal(folded(was.Paths), folded(r.Paths)) {
		parts = append(parts, "other paths")
	}
	return strings.Join(parts, "; ")
}

// folded returns paths in the form and the order that they are compared in.
func folded(paths []string) []string {
	out := make([]string, len(paths))
	for i, path := range paths {
		out[i] = foldPath(path)
	}
	slices.Sort(out)
	return out
}

// some lists the first of names and says how many more there are.
func some(names []string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
}
