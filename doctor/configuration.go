package doctor

import (
	"context"
	"errors"
	"strings"

	"wxproxy/config"
	"wxproxy/internal/words"
)

// needsConfiguration stands in place of a check that can do nothing without a configuration.
func needsConfiguration(context.Context) []Finding {
	return []Finding{skipped(words.New(words.DoctorNoConfiguration), nil)}
}

// lookAtConfiguration finds what validate finds.
func (d *doctor) lookAtConfiguration(context.Context) []Finding {
	if d.Config == nil {
		return configFaults(d.ConfigErr)
	}
	var findings []Finding
	if d.Start != nil {
		findings = configFaults(d.Start)
	}
	for _, text := range d.Config.Warnings {
		want, seen := split(text)
		findings = append(findings, warning(words.New(words.DoctorConfigWarning, "text", seen), mendBy(want)))
	}
	if len(d.Config.Apps) == 0 && !d.Learns {
		findings = append(findings, fault(words.New(words.DoctorNoAccount), words.New(words.DoctorNoAccountMend)))
	}
	var files words.List
	for _, path := range d.Config.Paths {
		files = append(files, path)
	}
	if len(files) == 0 {
		files = words.List{words.DoctorDefaults}
	}
	return orOK(findings, words.New(words.DoctorConfigFine, "files", files, "apps", len(d.Config.Apps), "callers", len(d.Config.Callers), "revision", d.Config.Revision))
}

// configFaults returns a fault for each one of the configuration.
func configFaults(err error) []Finding {
	var texts []string
	if faults, ok := errors.AsType[config.Faults](err); ok {
		for _, f := range faults {
			texts = append(texts, f.String())
		}
	} else {
		texts = strings.Split(err.Error(), "\n")
	}
	var findings []Finding
	for _, text := range texts {
		want, seen := split(text)
		findings = append(findings, fault(words.New(words.DoctorConfigFault, "text", seen), mendBy(want)))
	}
	return findings
}

// split cuts a text of another package in two: what was seen, and what was wanted, "" if it does not say that.
func split(text string) (want string, seen error) {
	if i := strings.LastIndex(text, ": want "); i >= 0 {
		return text[i+len(": "):], errors.New(text[:i])
	}
	return "", errors.New(text)
}

// mendBy is what a text of another package wants, as a mend. nil if it wants nothing.
func mendBy(want string) *words.Error {
	if want == "" {
		return nil
	}
	return words.New(words.DoctorWant, "text", errors.New(want))
}
