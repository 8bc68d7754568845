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
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"wxproxy/config"
	"wxproxy/internal/reason"
)

// operateTimeout bounds what a gateway does at an operator's word. WeChat may be asked about each
// rule, and a clear may be several calls.
const operateTimeout = 150 * time.Second

// errNoGateway is wrapped where nobody listens at admin.listen.
var errNoGateway = errors.New("is it running?")

// operate sends a request to the admin listener that a command is to ask.
func operate(cmd *cobra.Command, method, path string, query url.Values, answer any) error {
	access, err := accessOf(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), operateTimeout)
	defer cancel()
	client, base := clientFor(access.address)
	r, err := http.NewRequestWithContext(ctx, method, base+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+access.token)
	response, err := client.Do(r)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("no gateway answers at %s: %w", access.address, errNoGateway)
	}
	if err != nil {
		return fmt.Errorf("asking the gateway at %s: %s", access.address, reason.Of(err))
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusUnauthorized {
		return fmt.Errorf("the gateway at %s does not accept the admin token from %s: want the token that this gateway runs with: set it there, or name a file that holds it: --token-file FILE",
			access.address, access.tokenFrom)
	}
	if response.StatusCode != http.StatusOK {
		var problem struct {
			Error string   `json:"error"`
			Seen  string   `json:"seen"`
			Known []string `json:"known"`
		}
		if err := json.NewDecoder(response.Body).Decode(&problem); err != nil || problem.Error == "" {
			problem.Error = fmt.Sprintf("HTTP status %d", response.StatusCode)
		}
		if problem.Seen != "" {
			problem.Error += ": " + config.Suggest(problem.Seen, problem.Known)
		}
		return fmt.Errorf("the gateway at %s: %s", access.address, problem.Error)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("the gateway at %s: no JSON that a gateway answers: does another program listen there?", access.address)
	}
	return nil
}

// errNoTerminal says what to do where nobody can be asked.
var errNoTerminal = errors.New("nobody to ask at, because stdin is no terminal: nothing was done; want --yes to do it without asking")

// addYes gives a command the flag that confirm looks at.
func addYes(cmd *cobra.Command) {
	cmd.Flags().Bool("yes", false, "do it without asking")
}

// confirm asks on the terminal whether to go on. Without --yes and without a terminal it refuses.
func confirm(cmd *cobra.Command, question string) error {
	if yes, err := cmd.Flags().GetBool("yes"); err != nil || yes {
		return err
	}
	in := cmd.InOrStdin()
	if !isTerminal(in) {
		return errNoTerminal
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s yes/no: ", question)
	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer, 1)
	go func() { // nothing ends a read from a terminal but a line
		text, err := bufio.NewReader(in).ReadString('\n')
		answered <- answer{text, err}
	}()
	select {
	case <-cmd.Context().Done():
		return errors.New("interrupted: nothing was done")
	case a := <-answered:
		switch text := strings.TrimSpace(a.text); {
		case strings.EqualFold(text, "yes"):
			return nil
		case a.err != nil: // as of /dev/null, which passes for a terminal
			fmt.Fprintln(cmd.ErrOrStderr())
			return errNoTerminal
		default:
			return fmt.Errorf("%q: want yes: nothing was done", text)
		}
	}
}

// isTerminal reports whether somebody may sit there.
func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
