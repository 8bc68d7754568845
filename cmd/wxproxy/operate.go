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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"wxproxy/config"
	"wxproxy/internal/reason"
	"wxproxy/internal/words"
)

// operateTimeout bounds what a gateway does for an operator. WeChat may be asked about each rule, and a
// clear may be several calls.
const operateTimeout = 150 * time.Second

// operate sends a request to the admin listener that a command is to ask, and decodes the answer.
func operate(cmd *cobra.Command, method, path string, query url.Values, answer any) error {
	return asked(cmd, method, path, query, func(address string, body io.Reader) error {
		if err := json.NewDecoder(body).Decode(answer); err != nil {
			return words.New(words.GatewayError, "address", address, "error", words.New(words.NotJSON))
		}
		return nil
	})
}

// copyAnswer prints an answer as it is.
func copyAnswer(cmd *cobra.Command, path string, query url.Values) error {
	return asked(cmd, http.MethodGet, path, query, func(address string, body io.Reader) error {
		if _, err := io.Copy(cmd.OutOrStdout(), body); err != nil {
			return words.New(words.RequestFailed, "address", address, "reason", errors.New(reason.Of(err)))
		}
		return nil
	})
}

// asked sends a request to the admin listener that a command is to ask, and hands over the body of a good answer.
func asked(cmd *cobra.Command, method, path string, query url.Values, take func(address string, body io.Reader) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), operateTimeout)
	defer cancel()
	response, address, err := ask(ctx, cmd, method, path, query)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return take(address, response.Body)
}

// unavailableError is why a gateway cannot be asked now: it may be later.
type unavailableError struct{ error }

func (e unavailableError) Unwrap() error { return e.error }

// ask sends a request to the admin listener that a command is to ask, whose address it returns too. The status of the
// answer is 200; the error for one that cannot be had now is an unavailableError.
func ask(ctx context.Context, cmd *cobra.Command, method, path string, query url.Values) (*http.Response, string, error) {
	access, err := accessOf(cmd)
	if err != nil { // a gateway that starts again writes its token anew
		return nil, "", unavailableError{err}
	}
	client, base := clientFor(access.address)
	r, err := http.NewRequestWithContext(ctx, method, base+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, "", err
	}
	r.Header.Set("Authorization", "Bearer "+access.token)
	response, err := client.Do(r)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return nil, "", unavailableError{words.New(words.NoGateway, "address", access.address)}
	}
	if err != nil {
		return nil, "", unavailableError{words.New(words.RequestFailed, "address", access.address, "reason", errors.New(reason.Of(err)))}
	}
	if response.StatusCode == http.StatusOK {
		return response, access.address, nil
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusUnauthorized:
		return nil, "", words.New(words.TokenRefused, "address", access.address, "source", access.tokenFrom)
	case http.StatusServiceUnavailable:
		return nil, "", unavailableError{words.New(words.GatewayError, "address", access.address, "error", apiError(response))}
	default:
		return nil, "", words.New(words.GatewayError, "address", access.address, "error", apiError(response))
	}
}

// apiError is what an admin listener answers in place of what was asked for.
func apiError(response *http.Response) error {
	var problem struct {
		Error string   `json:"error"`
		Seen  string   `json:"seen"`
		Known []string `json:"known"`
	}
	if err := json.NewDecoder(response.Body).Decode(&problem); err != nil || problem.Error == "" {
		return words.New(words.GatewayStatus, "status", response.StatusCode)
	}
	err := errors.New(problem.Error)
	if problem.Seen == "" || len(problem.Known) == 0 {
		return err
	}
	if name := config.Closest(problem.Seen, problem.Known); name != "" {
		return words.New(words.DidYouMean, "error", err, "name", name)
	}
	const most = 20
	names := make(words.List, 0, most+1)
	for _, name := range problem.Known {
		if len(names) == most {
			names = append(names, "…")
			break
		}
		names = append(names, name)
	}
	return words.New(words.WantOneOf, "error", err, "names", names)
}

// addYes gives a command the flag that confirm looks at.
func addYes(cmd *cobra.Command, l words.Language) {
	cmd.Flags().Bool("yes", false, l.Text(words.FlagYes))
}

// confirm asks on the terminal whether to go on. Without --yes and without a terminal it refuses.
func confirm(cmd *cobra.Command, l words.Language, question words.Message) error {
	if yes, err := cmd.Flags().GetBool("yes"); err != nil || yes {
		return err
	}
	in := cmd.InOrStdin()
	if !isTerminal(in) {
		return words.New(words.NoTerminal)
	}
	fmt.Fprint(cmd.ErrOrStderr(), l.Text(words.YesOrNo, "question", question))
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
		return words.New(words.Interrupted)
	case a := <-answered:
		switch text := strings.TrimSpace(a.text); {
		case strings.EqualFold(text, "yes"):
			return nil
		case a.err != nil:
			fmt.Fprintln(cmd.ErrOrStderr())
			return words.New(words.NoTerminal)
		default:
			return words.New(words.NotConfirmed, "answer", strconv.Quote(text))
		}
	}
}

// isTerminal reports whether a person may type there, or read.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
