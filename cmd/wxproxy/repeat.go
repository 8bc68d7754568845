package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"wxproxy/internal/words"
)

// usualWatch is the interval of --watch in seconds.
const usualWatch = "2"

// addWatch gives a command the flag that repeat looks at.
func addWatch(cmd *cobra.Command, l words.Language) {
	cmd.Flags().String("watch", "", l.Text(words.UsageWatch))
	cmd.Flags().Lookup("watch").NoOptDefVal = usualWatch
}

// repeat shows something once, or with --watch until the command is interrupted: on a terminal in place of what it
// showed before, else below a line with the time. Once it could be shown, an error is shown in its place, because a
// gateway may be restarted meanwhile.
func repeat(cmd *cobra.Command, l words.Language, show func() error) error {
	text, err := cmd.Flags().GetString("watch")
	if err != nil || text == "" {
		return errors.Join(err, show())
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 1 || seconds > 3600 {
		return usageError{words.New(words.WatchSeconds, "command", cmd.CommandPath(), "value", strconv.Quote(text))}
	}
	out := cmd.OutOrStdout()
	before := func() { fmt.Fprintln(out, l.Text(words.WatchSeparator, "time", time.Now().Format(time.DateTime))) }
	if isTerminal(out) {
		before = func() { fmt.Fprint(out, "\x1b[H\x1b[2J") }
	}
	tick := time.NewTicker(time.Duration(seconds) * time.Second)
	defer tick.Stop()
	for first := true; ; first = false {
		before()
		switch err := show(); {
		case cmd.Context().Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil:
			fmt.Fprintln(out, l.Error(err))
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}
