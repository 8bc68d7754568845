package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wxproxy/internal/words"
)

const (
	tailRetry   = time.Second      // until the gateway is asked again
	tailSilence = 45 * time.Second // three heartbeats
)

func tailCommand(l words.Language) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "tail [APPID]",
		SuggestFor: []string{"实时", "follow", "watch", "logs"},
		Short:      l.Text(words.TailShort),
		Long:       l.Text(words.TailLong),
		Example: `  wxproxy tail shop --refused
  wxproxy tail --rule 'message.*' --caller crm
  wxproxy tail --json | jq .reason`,
		Args: wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := make(url.Values)
			if len(args) > 0 {
				query.Set("app", args[0])
			}
			for _, name := range []string{"rule", "caller", "decision", "reason", "errcode", "refused"} {
				if f := cmd.Flags().Lookup(name); f.Changed {
					query.Set(name, f.Value.String())
				}
			}
			asJSON, err := cmd.Flags().GetBool("json")
			if err != nil {
				return err
			}
			t := &tailer{cmd: cmd, l: l, query: query, print: printJSONLine}
			if !asJSON {
				t.print = newTailTable(l, colours(cmd.OutOrStdout())).print
			}
			return t.run()
		},
	}
	addAccess(cmd, l)
	cmd.Flags().Bool("json", false, l.Text(words.FlagJSON))
	cmd.Flags().Bool("refused", false, l.Text(words.TailRefused))
	cmd.Flags().String("rule", "", l.Text(words.TailRule))
	cmd.Flags().String("caller", "", l.Text(words.TailCaller))
	cmd.Flags().String("decision", "", l.Text(words.TailDecision))
	cmd.Flags().String("reason", "", l.Text(words.TailReason))
	cmd.Flags().Int("errcode", 0, l.Text(words.TailErrcode))
	return cmd
}

// tailer prints the stream of a gateway, and connects again when it ends.
type tailer struct {
	cmd   *cobra.Command
	l     words.Language
	query url.Values
	print func(w io.Writer, line []byte) error

	connected bool // at least once
	lost      bool // since it was connected last
}

// errLost is the error for a stream that has ended by itself.
var errLost = words.New(words.TailEnded)

// run returns nil once the command is interrupted, or why there is no stream.
func (t *tailer) run() error {
	ctx := t.cmd.Context()
	for {
		err := t.stream(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // interrupted
		case !t.connected, !errors.Is(err, errLost) && !errors.As(err, new(unavailableError)):
			return err
		case !t.lost:
			t.lost = true
			fmt.Fprintln(t.cmd.ErrOrStderr(), t.l.Text(words.TailLost, "reason", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(tailRetry):
		}
	}
}

// stream prints one stream to its end. The error is errLost for one that has ended.
func (t *tailer) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(tailSilence, cancel) // of the gateway, or of the way to it
	defer silence.Stop()
	response, _, err := ask(ctx, t.cmd, http.MethodGet, "/api/v1/tail", t.query)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if t.lost {
		fmt.Fprintln(t.cmd.ErrOrStderr(), t.l.Text(words.TailAgain))
	}
	t.connected, t.lost = true, false
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		silence.Reset(tailSilence)
		line := lines.Bytes()
		if len(line) == 0 { // a heartbeat
			continue
		}
		if err := t.print(t.cmd.OutOrStdout(), line); err != nil {
			return err
		}
		t.noteDropped(line)
	}
	return errLost
}

// noteDropped prints on stderr how many lines the gateway has dropped.
func (t *tailer) noteDropped(line []byte) {
	var dropped struct {
		Dropped int64 `json:"dropped"`
	}
	if json.Unmarshal(line, &dropped) == nil && dropped.Dropped > 0 {
		fmt.Fprintln(t.cmd.ErrOrStderr(), t.l.Text(words.TailDropped, "count", dropped.Dropped))
	}
}

func printJSONLine(w io.Writer, line []byte) error {
	_, err := fmt.Fprintf(w, "%s\n", line)
	return err
}

// tailTable prints lines in columns, which become wider where what comes is: it is not known before.
type tailTable struct {
	l       words.Language
	colours bool
	headed  bool  // the heads are printed
	widths  []int // of all columns but the last
}

func newTailTable(l words.Language, colours bool) *tailTable {
	return &tailTable{l: l, colours: colours, widths: []int{8, 8, 8, 20, 14, 7, 12, 8}}
}

// tailCell is how wide a column may become; a longer text is cut.
const tailCell = 28

// tailLine is what is shown of a line of the stream.
type tailLine struct {
	Time     time.Time `json:"time"`
	App      string    `json:"app"`
	Caller   string    `json:"caller"`
	Rule     string    `json:"rule"`
	Path     string    `json:"path"`
	Decision string    `json:"decision"`
	Reason   string    `json:"reason"`
	Quota    int64     `json:"quota"`
	Used     int64     `json:"used"`
	Status   int       `json:"status"`
	Errcode  int       `json:"errcode"`
	Took     float64   `json:"duration_ms"`
}

func (t *tailTable) print(w io.Writer, line []byte) error {
	var call tailLine
	if err := json.Unmarshal(line, &call); err != nil || call.Time.IsZero() {
		return nil //nolint:nilerr // {"dropped":N}, or what a later version says
	}
	if !t.headed {
		t.headed = true
		if err := t.printRow(w, uncoloured, t.l.Text(words.TailTime), t.l.Text(words.TailApp), t.l.Text(words.ExplainCaller), t.l.Text(words.TailCall),
			t.l.Text(words.TailFate), "errcode", t.l.Text(words.TailUsed), t.l.Text(words.TailTook), ""); err != nil {
			return err
		}
	}
	fate := call.Decision
	if call.Reason != "" && call.Reason != strings.TrimPrefix(fate, "refused-") {
		fate += " " + call.Reason
	}
	errcode, used := "", ""
	switch {
	case call.Errcode != 0:
		errcode = strconv.Itoa(call.Errcode)
	case call.Status >= http.StatusBadRequest:
		errcode = "HTTP " + strconv.Itoa(call.Status)
	}
	if call.Quota > 0 {
		used = fmt.Sprintf("%d/%d", call.Used, call.Quota)
	}
	took := strconv.FormatFloat(call.Took, 'f', 1, 64) + "ms"
	return t.printRow(w, colourOfCall(call.Decision, errcode), call.Time.Format(time.TimeOnly), call.App, call.Caller, call.Rule, fate, errcode, used, took, call.Path)
}

// colourOfCall is that of a call that was refused or failed.
func colourOfCall(decision, errcode string) colour {
	switch {
	case strings.HasPrefix(decision, "refused-"):
		return red
	case errcode != "":
		return yellow
	}
	return uncoloured
}

func (t *tailTable) printRow(w io.Writer, c colour, cells ...string) error {
	var row strings.Builder
	for i, cell := range cells {
		if i < len(t.widths) { // a path, which is last, widens nothing
			cell = columns.Truncate(cell, tailCell, "…")
			t.widths[i] = max(t.widths[i], columns.StringWidth(cell))
			cell = columns.FillRight(cell, t.widths[i]) + "  "
		}
		row.WriteString(cell)
	}
	text := strings.TrimRight(row.String(), " ")
	if t.colours {
		text = c.paint(text)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}
