package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/term"

	"wxproxy/doctor"
	"wxproxy/internal/words"
)

// foundError is how doctor ends when it has found something. What that is is printed already.
type foundError struct {
	error

	code int // the exit code
}

// Exit codes of doctor beside 0. 2 is that of every command line that makes no sense.
const (
	exitFaults   = 1
	exitWarnings = 3
)

func doctorCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "doctor",
		SuggestFor: []string{"诊断", "diagnose", "doctro"},
		Short:      l.Text(words.DoctorShort),
		Long:       l.Text(words.DoctorLong),
		Args:       wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := doctorOptions(cmd)
			if err != nil {
				return err
			}
			asJSON, err := cmd.Flags().GetBool("json")
			if err != nil {
				return err
			}
			redis.SetLogger(redisLog{zap.NewNop()})
			return examine(cmd.Context(), cmd.OutOrStdout(), l, o, asJSON)
		},
	}
	addAccess(cmd, l)
	cmd.Flags().Bool("json", false, l.Text(words.FlagJSON))
	cmd.Flags().String("log", "", l.Text(words.DoctorLogFlag))
	cmd.Flags().Bool("all", false, l.Text(words.DoctorAllFlag))
	cmd.Flags().Bool("fetch", false, l.Text(words.DoctorFetchFlag))
	return cmd
}

// doctorOptions composes what the checks look at. That the configuration cannot be loaded is a finding.
func doctorOptions(cmd *cobra.Command) (doctor.Options, error) {
	o := doctor.Options{Version: version, Client: clientFor, Getenv: os.Getenv}
	var err error
	flags := cmd.Flags()
	if o.Log, err = flags.GetString("log"); err != nil {
		return o, err
	}
	if o.All, err = flags.GetBool("all"); err != nil {
		return o, err
	}
	if o.Fetch, err = flags.GetBool("fetch"); err != nil {
		return o, err
	}
	access, err := accessOf(cmd)
	if errors.As(err, new(usageError)) {
		return o, err
	}
	if access != nil {
		o.Admin.Address, o.Admin.Token = access.address, access.token
	}
	o.Admin.Err = err
	if o.Config, o.ConfigErr = loadConfig(cmd); o.ConfigErr != nil {
		o.Config = nil
		return o, nil //nolint:nilerr // it is a finding
	}
	o.Start, o.Learns, o.Store = checkStart(o.Config), learns(o.Config), storeOptions(o.Config)
	user := redisUser(o.Config.Store)
	o.User, o.ACL = cmp.Or(user, "default"), redisACL(cmp.Or(user, "wxproxy"), o.Config.Store.Prefix)
	return o, nil
}

// examine makes the checks and prints what they find.
func examine(ctx context.Context, out io.Writer, l words.Language, o doctor.Options, asJSON bool) error {
	report := newExamination()
	printed := printer{out: out, l: l, colours: isScreen(out)}
	doctor.Run(ctx, doctor.Checks(o), func(r doctor.Result) {
		report.add(r)
		if !asJSON {
			printed.result(r)
		}
	})
	if asJSON {
		if err := encode(out, report, nil); err != nil {
			return err
		}
	}
	found := words.New(words.DoctorFound, "faults", report.Faults, "warnings", report.Warnings)
	switch {
	case report.Faults > 0:
		return foundError{found, exitFaults}
	case report.Warnings > 0:
		return foundError{found, exitWarnings}
	}
	return nil
}

// examination is the answer of --json. Its texts are English.
type examination struct {
	Version  string        `json:"version"` // of this program
	Time     time.Time     `json:"time"`
	Worst    doctor.Level  `json:"worst"` // of all findings: ok, skipped, note, warning or fault
	Faults   int           `json:"faults"`
	Warnings int           `json:"warnings"`
	Checks   []checkResult `json:"checks"`
}

type checkResult struct {
	Name     string       `json:"name"`
	Subject  string       `json:"subject"` // what it looks at
	Worst    doctor.Level `json:"worst"`
	Seconds  float64      `json:"seconds"`
	Findings []finding    `json:"findings"` // one at least
}

type finding struct {
	Level doctor.Level `json:"level"`
	Kind  string       `json:"kind"` // one of docs/doctor.md
	Seen  string       `json:"seen"`
	Mend  string       `json:"mend,omitempty"`
}

func newExamination() *examination { return &examination{Version: version, Time: time.Now()} }

func (e *examination) add(r doctor.Result) {
	c := checkResult{Name: r.Name, Subject: words.English.Text(r.Subject), Worst: r.Worst(), Seconds: r.Took.Round(time.Millisecond).Seconds()}
	for _, f := range r.Findings {
		one := finding{Level: f.Level, Kind: f.Kind(), Seen: f.Seen.Error()}
		if f.Mend != nil {
			one.Mend = f.Mend.Error()
		}
		switch f.Level {
		case doctor.Fault:
			e.Faults++
		case doctor.Warning:
			e.Warnings++
		case doctor.OK, doctor.Skipped, doctor.Note:
		}
		c.Findings = append(c.Findings, one)
	}
	e.Worst = max(e.Worst, c.Worst)
	e.Checks = append(e.Checks, c)
}

// printer prints results for people.
type printer struct {
	out     io.Writer
	l       words.Language
	colours bool
}

// levels are their words, and their colours on a terminal.
var levels = map[doctor.Level]struct {
	word   words.Message
	colour string
}{
	doctor.OK:      {words.DoctorLevelOK, "32"},
	doctor.Skipped: {words.DoctorLevelSkipped, "2"},
	doctor.Note:    {words.DoctorLevelNote, "36"},
	doctor.Warning: {words.DoctorLevelWarning, "33"},
	doctor.Fault:   {words.DoctorLevelFault, "31"},
}

// result prints each finding in a line, and its mend in another.
func (p printer) result(r doctor.Result) {
	for _, f := range r.Findings {
		level := columns.FillRight(p.l.Text(levels[f.Level].word), 7)
		if p.colours {
			level = "\x1b[" + levels[f.Level].colour + "m" + level + "\x1b[0m"
		}
		fmt.Fprintf(p.out, "%s  %s  %s\n", level, columns.FillRight(r.Name, len("configuration")), indent(p.l.Error(f.Seen)))
		if f.Mend != nil {
			fmt.Fprintf(p.out, "%s-> %s\n", margin, indent(p.l.Error(f.Mend)))
		}
	}
}

// margin is what stands in front of the text of a finding.
var margin = strings.Repeat(" ", 7+2+len("configuration")+2)

// indent puts the further lines of a text under its first.
func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n"+margin) }

// isScreen reports whether a person may read there.
func isScreen(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
