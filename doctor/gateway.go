package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"wxproxy/internal/reason"
	"wxproxy/internal/words"
)

// gatewayState is what a running gateway has answered.
type gatewayState struct {
	address string            // of its admin listener
	store   string            // what it says of its store: ok, unreachable or refuses: ...
	version string            // "" when it did not say
	metrics map[string]metric // by name and labels, of those in ofInterest
}

type metric struct {
	name   string
	labels map[string]string
	value  float64
}

// lookAtGateway asks the gateway of this configuration, if it runs.
func (d *doctor) lookAtGateway(ctx context.Context) []Finding {
	address := d.Admin.Address
	if address == "" {
		return []Finding{skipped(words.New(words.DoctorNoAdmin, "error", d.Admin.Err), nil)}
	}
	if _, port, err := net.SplitHostPort(address); err == nil && port == "0" {
		return []Finding{skipped(words.New(words.DoctorAnyPort, "address", address), words.New(words.DoctorAnyPortMend))}
	}
	body, status, err := d.ask(ctx, address, "/-/healthy")
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return []Finding{note(words.New(words.DoctorNoGateway, "address", address), words.New(words.DoctorNoGatewayMend))}
	case err != nil:
		return []Finding{fault(words.New(words.DoctorGatewaySilent, "address", address, "reason", errors.New(reason.Of(err))), words.New(words.DoctorGatewaySilentMend))}
	case status != http.StatusOK || string(body) != "ok":
		return []Finding{fault(words.New(words.DoctorNotGateway, "address", address, "status", status), words.New(words.DoctorNotGatewayMend))}
	}
	state := &gatewayState{address: address}
	findings := d.lookAtReadiness(ctx, state)
	findings = append(findings, d.lookAtReload(ctx)...)
	if state.metrics, err = d.scrape(ctx); err == nil {
		for _, m := range state.metrics {
			if m.name == "wxproxy_build_info" {
				state.version = m.labels["version"]
			}
		}
	}
	d.gateway.Store(state)
	if state.version != "" && state.version != d.Version {
		findings = append(findings, note(words.New(words.DoctorOtherVersion, "version", state.version, "own", d.Version), words.New(words.DoctorOtherVersionMend)))
	}
	findings = append(findings, losses(state)...)
	findings = append(findings, d.lookAtListener(ctx)...)
	return orOK(findings, words.New(words.DoctorGatewayFine, "address", address, "version", state.version))
}

// ask sends a GET to the admin listener, and the token with it.
func (d *doctor) ask(ctx context.Context, listen, path string) (body []byte, status int, err error) {
	client, base := d.Client(listen)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Authorization", "Bearer "+d.Admin.Token)
	response, err := client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return body, response.StatusCode, err
}

func (d *doctor) lookAtReadiness(ctx context.Context, state *gatewayState) []Finding {
	body, _, err := d.ask(ctx, d.Admin.Address, "/-/ready")
	var answer struct{ Status, Store string }
	if err != nil || json.Unmarshal(body, &answer) != nil {
		return nil // it answers /-/healthy: it may be another version
	}
	state.store = answer.Store
	switch {
	case answer.Status == "stopping":
		return []Finding{note(words.New(words.DoctorStopping), nil)}
	case answer.Status == "refusing":
		return []Finding{fault(words.New(words.DoctorRefusing, "store", answer.Store), words.New(words.DoctorStoreMend))}
	case answer.Store != "ok":
		return []Finding{warning(words.New(words.DoctorGatewayStore, "store", answer.Store), words.New(words.DoctorStoreMend))}
	}
	return nil
}

// lookAtReload asks how the last reading of the configuration ended.
func (d *doctor) lookAtReload(ctx context.Context) []Finding {
	if d.Admin.Err != nil {
		return []Finding{warning(words.New(words.DoctorNoToken, "error", d.Admin.Err), nil)}
	}
	body, status, err := d.ask(ctx, d.Admin.Address, "/-/reload")
	if status == http.StatusUnauthorized {
		return []Finding{warning(words.New(words.DoctorTokenRefused), words.New(words.DoctorTokenRefusedMend))}
	}
	var answer struct{ Status, Error string }
	if err != nil || json.Unmarshal(body, &answer) != nil || answer.Status != "fault" {
		return nil
	}
	return []Finding{fault(words.New(words.DoctorReloadFault, "error", errors.New(answer.Error)), words.New(words.DoctorReloadFaultMend))}
}

// ofInterest are the metrics that are kept of a scrape.
var ofInterest = regexp.MustCompile(`^(wxproxy_build_info|wxproxy_accept_errors_total|wxproxy_access_log_dropped_total|wxproxy_panics_total|wxproxy_token_refresh_total|process_max_fds|process_open_fds)(?:\{(.*)\})? (\S+)`)

var label = regexp.MustCompile(`([a-z_]+)="([^"\\]*)"`)

// scrape reads the metrics of the gateway, as Prometheus does.
func (d *doctor) scrape(ctx context.Context) (map[string]metric, error) {
	client, base := d.Client(d.Admin.Address)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+d.Admin.Token)
	response, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	found := make(map[string]metric)
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		m := ofInterest.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		one := metric{name: m[1], labels: make(map[string]string)}
		if one.value, err = strconv.ParseFloat(m[3], 64); err != nil {
			continue
		}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			one.labels[l[1]] = l[2]
		}
		found[m[1]+"{"+m[2]+"}"] = one
	}
	return found, lines.Err()
}

// losses are what the gateway has counted since its start and should not have.
func losses(state *gatewayState) []Finding {
	var findings []Finding
	count := func(name string) int64 { return int64(state.metrics[name+"{}"].value) }
	if n := count("wxproxy_accept_errors_total"); n > 0 {
		findings = append(findings, warning(words.New(words.DoctorAcceptErrors, "count", n), words.New(words.DoctorDescriptorsMend)))
	}
	if n := count("wxproxy_access_log_dropped_total"); n > 0 {
		findings = append(findings, warning(words.New(words.DoctorLinesDropped, "count", n), words.New(words.DoctorLinesDroppedMend)))
	}
	if n := count("wxproxy_panics_total"); n > 0 {
		findings = append(findings, warning(words.New(words.DoctorPanics, "count", n), words.New(words.DoctorPanicsMend)))
	}
	return findings
}

// lookAtListener asks the main listener whether it answers.
func (d *doctor) lookAtListener(ctx context.Context) []Finding {
	if d.Config == nil || strings.HasSuffix(d.Config.Listen, ":0") {
		return nil
	}
	client, base := d.Client(d.Config.Listen)
	if d.Config.TLS.CertFile != "" {
		base = strings.Replace(base, "http://", "https://", 1)
		if transport, ok := client.Transport.(*http.Transport); ok {
			transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // asked is only whether it answers; exposure looks at the certificate
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/-/healthy", nil)
	if err != nil {
		return nil
	}
	response, err := client.Do(r)
	if err != nil {
		return []Finding{fault(words.New(words.DoctorListenerSilent, "address", d.Config.Listen, "reason", errors.New(reason.Of(err))), words.New(words.DoctorListenerMend))}
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(io.LimitReader(response.Body, 16)); err != nil || response.StatusCode != http.StatusOK || string(body) != "ok" {
		return []Finding{fault(words.New(words.DoctorListenerOther, "address", d.Config.Listen, "status", response.StatusCode), words.New(words.DoctorListenerMend))}
	}
	return nil
}
