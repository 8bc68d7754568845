package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"wxproxy/internal/words"
)

// ridPath tells about a request that WeChat has answered with an error, the client's address among it.
const ridPath = "/cgi-bin/openapi/rid/get"

var ridPattern = regexp.MustCompile(`rid: ([0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8})`)

// lookAtAddress finds the address that WeChat sees: in the 40164 of a token request; or else by rid/get, which
// knows it of each request that was answered with an error.
func (d *doctor) lookAtAddress(ctx context.Context) []Finding {
	state := d.accounts.Load()
	switch {
	case state == nil:
		return []Finding{skipped(words.New(words.DoctorAddressUnasked), nil)}
	case len(state.addresses) > 0:
		slices.Sort(state.addresses)
		addresses := slices.Compact(state.addresses)
		findings := []Finding{ok(words.New(words.DoctorAddressSeen, "address", strings.Join(addresses, " ")))}
		if len(addresses) > 1 {
			findings[0] = note(findings[0].Seen, words.New(words.DoctorSeveralAddressesMend))
		}
		return findings
	case state.token == "":
		return []Finding{skipped(words.New(words.DoctorAddressUnasked), nil)}
	}
	address, err := d.addressBy(ctx, state.token)
	if err != nil {
		return []Finding{skipped(words.New(words.DoctorAddressUntold, "error", err), nil)}
	}
	return []Finding{ok(words.New(words.DoctorAddressSeen, "address", address))}
}

// addressBy asks about a rid that does not exist, and then about the rid of that error.
func (d *doctor) addressBy(ctx context.Context, text string) (string, error) {
	_, message, err := d.ridGet(ctx, text, "00000000-00000000-00000000")
	if err != nil {
		return "", err
	}
	rid := ridPattern.FindStringSubmatch(message)
	if rid == nil {
		return "", errors.New("the error has no rid")
	}
	address, _, err := d.ridGet(ctx, text, rid[1])
	if err != nil {
		return "", err
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "", errors.New("no client_ip")
	}
	return ip.Unmap().String(), nil
}

// ridGet asks about one rid. Its errors quote nothing of the request or the answer.
func (d *doctor) ridGet(ctx context.Context, text, rid string) (address, message string, err error) {
	body, err := json.Marshal(map[string]string{"rid": rid})
	if err != nil {
		return "", "", err
	}
	target := d.Config.Upstream.URL.JoinPath(ridPath)
	target.RawQuery = url.Values{"access_token": {text}}.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return "", "", errors.New("no request can be made for upstream.url")
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return "", "", errors.New("no answer")
	}
	defer response.Body.Close()
	answer := struct {
		Errmsg  string
		Request struct {
			ClientIP string `json:"client_ip"`
		}
	}{}
	data, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil || json.Unmarshal(data, &answer) != nil {
		return "", "", errors.New("no answer")
	}
	return answer.Request.ClientIP, answer.Errmsg, nil
}
