package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wxproxy"
	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/limits"
	"wxproxy/report"
)

// reportFlags are those of the command.
type reportFlags struct {
	by, apps, rules, callers        []string
	from, to, zone, whatIf, profile string
	top                             int
	asJSON, asCSV, rotated          bool
}

// replays reports whether the log is to be replayed.
func (f *reportFlags) replays() bool { return f.whatIf != "" || f.profile != "" }

// interruptedError is what an interrupt has cut short: exit code 130.
type interruptedError struct{ error }

func (e interruptedError) Unwrap() error { return e.error }

func reportCommand(l words.Language) *cobra.Command {
	f := new(reportFlags)
	cmd := &cobra.Command{
		Use:        "report [ACCESS_LOG...]",
		SuggestFor: []string{"统计", "报告", "logs", "analyze"},
		Short:      l.Text(words.ReportShort),
		Long:       l.Text(words.ReportLong),
		Example: `  wxproxy report access.log --rotated --from 2026-11-29
  wxproxy report log/ --by app+rule,reason --rule 'message.*'
  zcat old.gz | wxproxy report - --csv > calls.csv
  wxproxy report log/ --what-if limits.yaml --config wxproxy.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error { return runReport(cmd, l, f, args) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.by, "by", nil, l.Text(words.ReportBy))
	flags.IntVar(&f.top, "top", 20, l.Text(words.ReportTop))
	flags.StringSliceVar(&f.apps, "app", nil, l.Text(words.ReportApp))
	flags.StringSliceVar(&f.rules, "rule", nil, l.Text(words.ReportRule))
	flags.StringSliceVar(&f.callers, "caller", nil, l.Text(words.ReportCaller))
	flags.StringVar(&f.from, "from", "", l.Text(words.ReportFrom))
	flags.StringVar(&f.to, "to", "", l.Text(words.ReportTo))
	flags.StringVar(&f.zone, "zone", "", l.Text(words.ReportZone))
	flags.BoolVar(&f.rotated, "rotated", false, l.Text(words.ReportRotated))
	flags.StringVar(&f.whatIf, "what-if", "", l.Text(words.ReportWhatIf))
	flags.StringVar(&f.profile, "profile", "", l.Text(words.ReportProfile))
	flags.BoolVar(&f.asJSON, "json", false, l.Text(words.FlagJSON))
	flags.BoolVar(&f.asCSV, "csv", false, l.Text(words.ReportCSV))
	return cmd
}

// reportMemory is what the collector keeps the heap to, in bytes. The groups that a report keeps take less, and
// garbage need not double it.
const reportMemory = 64 << 20

func runReport(cmd *cobra.Command, l words.Language, f *reportFlags, args []string) error {
	c, err := reportConfig(cmd, l, f, args)
	if err != nil {
		return err
	}
	tested, err := f.tested(c)
	if err != nil {
		return err
	}
	o, err := f.options(cmd, c, tested)
	if err != nil {
		return err
	}
	rotated := f.rotated
	if len(args) == 0 {
		if c.AccessLog.File == "" {
			return words.New(words.ReportNoLog)
		}
		args, rotated = []string{c.AccessLog.File}, true
	}
	inputs, err := report.Find(args, rotated)
	if err != nil {
		return err
	}
	debug.SetMemoryLimit(reportMemory)
	r := report.New(o)
	hide := showProgress(cmd.ErrOrStderr(), l, r, inputs)
	err = r.Read(cmd.Context(), inputs)
	hide()
	if errors.Is(err, context.Canceled) {
		err = interruptedError{words.New(words.ReportCut)}
	}
	p := reportPrinter{w: cmd.OutOrStdout(), l: l, zone: o.Zone, tested: tested}
	return errors.Join(p.print(f, r.Result(f.top, err)), err)
}

// reportConfig reads the configuration. Where only the zone of hours depends on it, a fault in it is told and
// stops nothing: then the table in the program has the zone.
func reportConfig(cmd *cobra.Command, l words.Language, f *reportFlags, args []string) (*config.Config, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	o := loadOptions(path)
	o.Env = withoutSecrets
	c, err := config.Load(o)
	if err == nil || path != "" || len(args) == 0 || f.replays() {
		return c, err
	}
	table, fault := config.ParseTable(config.LimitsFile, wxproxy.LimitsYAML, nil)
	if fault != nil {
		return nil, fault
	}
	fmt.Fprintln(cmd.ErrOrStderr(), l.Text(words.ReportConfig, "zone", table.Zone, "error", err))
	return &config.Config{Table: table}, nil
}

// withoutSecrets is the environment for a configuration whose secrets are not used: a variable that is not set,
// as on another machine than the gateway's, has a value that stands for one.
func withoutSecrets(name string) (string, bool) {
	value, ok := os.LookupEnv(name)
	if ok || strings.HasPrefix(name, "WX_") || name == "WXPROXY_ADMIN_TOKEN" || name == "CREDENTIALS_DIRECTORY" {
		return value, ok // they say by being set what there is
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16]), true
}

// options are those of the report.
func (f *reportFlags) options(cmd *cobra.Command, c *config.Config, tested *testedTable) (report.Options, error) {
	o := report.Options{Zone: c.Table.Zone, Filter: report.Filter{Apps: f.apps, Rules: f.rules, Callers: f.callers}}
	if f.asJSON && f.asCSV {
		return o, usageError{words.New(words.ReportOneOf)}
	}
	if tested != nil {
		o.Zone, o.WhatIf = tested.table.Zone, &report.WhatIf{Rules: tested.rulesOf}
	}
	var err error
	if f.zone != "" {
		if o.Zone, err = time.LoadLocation(f.zone); err != nil || f.zone == "Local" {
			return o, usageError{words.New(words.ReportWantZone, "value", strconv.Quote(f.zone))}
		}
	}
	for flag, patterns := range map[string][]string{"--app": f.apps, "--rule": f.rules, "--caller": f.callers} {
		for _, p := range patterns {
			if report.CheckPattern(p) != nil {
				return o, usageError{words.New(words.ReportWantPattern, "flag", flag, "value", strconv.Quote(p))}
			}
		}
	}
	if o.Filter.From, err = parseTime("--from", f.from, o.Zone, false); err != nil {
		return o, err
	}
	if o.Filter.To, err = parseTime("--to", f.to, o.Zone, true); err != nil {
		return o, err
	}
	if (f.asJSON || f.asCSV) && !cmd.Flags().Changed("top") {
		f.top = 0
	}
	o.By, err = f.tables()
	return o, err
}

// tables are the tables to print: without --by each field, and who was refused what.
func (f *reportFlags) tables() ([][]report.Dimension, error) {
	by := f.by
	switch {
	case len(by) > 0 && f.asCSV && (len(by) > 1 || f.replays()):
		return nil, usageError{words.New(words.ReportWantOne)}
	case len(by) > 0 || f.replays():
	case f.asCSV:
		by = []string{"hour+app+rule+caller+decision+reason+errcode"}
	default:
		by = []string{"app", "rule", "caller", "decision", "errcode", "reason", "rule+caller+reason", "hour"}
	}
	var tables [][]report.Dimension
	for _, fields := range by {
		var table []report.Dimension
		for name := range strings.SplitSeq(fields, "+") {
			d, ok := report.ParseDimension(name)
			if !ok || slices.Contains(table, d) {
				return nil, usageError{words.New(words.ReportWantBy, "value", strconv.Quote(fields), "names", strings.Join(report.DimensionNames(), ", "))}
			}
			table = append(table, d)
		}
		tables = append(tables, table)
	}
	return tables, nil
}

// parseTime reads a time of a flag, in milliseconds since 1970; "" is 0. A date is its first instant or, as an
// end, that of the next one.
func parseTime(flag, text string, zone *time.Location, end bool) (int64, error) {
	if text == "" {
		return 0, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, text, zone); err == nil {
		if end {
			day = day.AddDate(0, 0, 1)
		}
		return limits.Day.Window(day, zone).Start.UnixMilli(), nil
	}
	plain := strings.Replace(text, " ", "T", 1)
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if t, err := time.ParseInLocation(layout, plain, zone); err == nil {
			return t.UnixMilli(), nil
		}
	}
	return 0, usageError{words.New(words.ReportWantTime, "flag", flag, "value", strconv.Quote(text))}
}

// testedTable is the table that a log is replayed against.
type testedTable struct {
	table   *limits.Table
	file    string // "": that of the configuration
	profile string // of all apps; "": each app's own
	apps    map[string]*limits.Ruleset
	others  *limits.Ruleset
}

// defaultProfile is that of an app that the configuration does not have.
const defaultProfile = "production"

// tested returns the table to replay against; nil is that the log is not replayed.
func (f *reportFlags) tested(c *config.Config) (*testedTable, error) {
	if !f.replays() {
		return nil, nil //nolint:nilnil // there is none, and nothing is wrong
	}
	t := &testedTable{table: c.Table, file: f.whatIf, profile: f.profile, apps: make(map[string]*limits.Ruleset)}
	if f.whatIf != "" {
		data, err := os.ReadFile(f.whatIf)
		if err != nil {
			return nil, config.FileError("--what-if", f.whatIf, err)
		}
		shipped, err := config.ParseTable(config.LimitsFile, wxproxy.LimitsYAML, nil)
		if err != nil {
			return nil, err
		}
		if t.table, err = config.ParseTable(f.whatIf, data, shipped); err != nil {
			return nil, err
		}
	}
	var err error
	for _, app := range c.Apps {
		profile := app.Profile
		if f.profile != "" {
			profile = f.profile
		}
		if t.apps[app.AppID], err = t.table.Rules(profile, app.Quotas); err != nil {
			return nil, words.New(words.ReportNoTable, "app", app.Name, "error", err)
		}
	}
	profile := defaultProfile
	if f.profile != "" {
		profile = f.profile
	}
	if t.others, err = t.table.Rules(profile, nil); err != nil {
		return nil, words.New(words.ReportNoTable, "app", "*", "error", err)
	}
	return t, nil
}

// rulesOf returns the rules of an app.
func (t *testedTable) rulesOf(appid string) *limits.Ruleset {
	if rules := t.apps[appid]; rules != nil {
		return rules
	}
	return t.others
}

// name says which table it is.
func (t *testedTable) name() error {
	var file any = words.WhatIfConfig
	if t.file != "" {
		file = t.file
	}
	if t.profile == "" && len(t.apps) > 0 {
		return words.New(words.WhatIfOwn, "file", file)
	}
	return words.New(words.WhatIfFrom, "file", file, "profile", t.others.Profile)
}
