package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"wxproxy/token"
)

// spec is an OpenAPI document as far as answers are checked by it.
type spec struct {
	Paths map[string]map[string]struct {
		Parameters []struct{ Name string }
		Responses  map[string]struct {
			Content map[string]struct{ Schema map[string]any }
		}
	}
	Components struct{ Schemas map[string]any }
}

func specOf(t *testing.T, o *operated) *spec {
	t.Helper()
	status, body := o.do(t, "GET", "/api/v1/openapi.json", "Authorization", "Bearer correct")
	s := new(spec)
	if err := json.Unmarshal([]byte(body), s); err != nil || status != 200 {
		t.Fatalf("the document: %d, %v", status, err)
	}
	return s
}

// check returns what of an answer is not as the document has it.
func (s *spec) check(method, path string, status int, kind string, body []byte) error {
	operation, ok := s.Paths[path][strings.ToLower(method)]
	if !ok {
		return fmt.Errorf("%s %s is not described", method, path)
	}
	response, ok := operation.Responses[fmt.Sprint(status)]
	if !ok {
		response = operation.Responses["default"]
	}
	kind, _, _ = strings.Cut(kind, ";")
	content, ok := response.Content[kind]
	if !ok {
		return fmt.Errorf("%d with %q is not described", status, kind)
	}
	if kind != "application/json" {
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return s.valid(content.Schema, value, "answer")
}

// valid checks a value by a schema, as far as the document uses JSON Schema.
func (s *spec) valid(schema map[string]any, value any, at string) error {
	if ref, ok := schema["$ref"].(string); ok {
		of, ok := s.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")].(map[string]any)
		if !ok {
			return fmt.Errorf("%s: no schema %s", at, ref)
		}
		return s.valid(of, value, at)
	}
	if either, ok := schema["anyOf"].([]any); ok { // one that may be null
		if value == nil {
			return nil
		}
		return s.valid(either[0].(map[string]any), value, at)
	}
	if one, ok := schema["enum"].([]any); ok && !slices.Contains(one, value) {
		return fmt.Errorf("%s is %v, want one of %v", at, value, one)
	}
	wrong := fmt.Errorf("%s is %v, want %v", at, value, schema["type"])
	switch schema["type"] {
	case nil:
		return nil
	case "object":
		object, ok := value.(map[string]any)
		if !ok {
			return wrong
		}
		return s.validObject(schema, object, at)
	case "array":
		list, ok := value.([]any)
		if !ok {
			return wrong
		}
		for i, one := range list {
			if err := s.valid(schema["items"].(map[string]any), one, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		return nil
	case "string":
		text, ok := value.(string)
		if ok && schema["format"] == "date-time" {
			_, err := time.Parse(time.RFC3339, text)
			ok = err == nil
		}
		if !ok {
			return wrong
		}
	case "integer", "number":
		n, ok := value.(float64)
		if !ok || schema["type"] == "integer" && n != math.Trunc(n) {
			return wrong
		}
	case "boolean":
		if _, ok := value.(bool); !ok {
			return wrong
		}
	default:
		return fmt.Errorf("%s: type %v is not checked", at, schema["type"])
	}
	return nil
}

func (s *spec) validObject(schema, object map[string]any, at string) error {
	properties, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := object[name.(string)]; !ok {
			return fmt.Errorf("%s lacks %s", at, name)
		}
	}
	for name, value := range object {
		of, ok := properties[name].(map[string]any)
		if !ok {
			of, ok = schema["additionalProperties"].(map[string]any)
		}
		if !ok {
			return fmt.Errorf("%s.%s is not described", at, name)
		}
		if err := s.valid(of, value, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

// Each route answers as the document has it: what it was asked with, and what it refuses.
func TestAnswersAreAsDescribed(t *testing.T) {
	o := newOperated(t, func(o *Options) {
		o.Reload = func(context.Context) error { return nil }
		o.Reloaded = func() (time.Time, error) { return midnight, nil }
		o.Explain = func(_ context.Context, q Question) (Fate, error) {
			return Fate{Path: q.Target, Decision: "pass", Match: o.Limiter.Rules("").Match(q.Target)}, nil
		}
		o.Tokens = func(_ context.Context, appids []string, _ bool) ([]*token.State, error) {
			states := make([]*token.State, len(appids))
			states[0] = &token.State{Expires: midnight, Rejected: &token.Rejected{ErrCode: 40164, IP: "203.0.113.9", Until: midnight}}
			return states, nil
		}
		o.Alerts = func(context.Context) (Alerts, error) { return sampleAlerts(), errors.New("no answer") }
		o.TestAlerts = func(context.Context, string) ([]AlertTest, error) {
			return []AlertTest{{Sink: "oncall", Type: "wecom", Error: "93000: gone"}}, nil
		}
	})
	o.readings = map[string]Reading{"menu.create": {At: midnight, Limit: 200, Used: 103, Drift: 3}}
	o.shipped = o.rules
	o.clears.Calls = []ClearCall{{Sent: true}}
	o.Rules("").Rules[6].Budget = limited("unknown")
	s := specOf(t, o)
	for _, asked := range []string{
		"GET /-/healthy", "GET /-/ready", "GET /-/reload", "POST /-/reload", "GET /metrics", "GET /api/v1/openapi.json",
		"GET /api/v1/status", "GET /api/v1/status?app=shop", "GET /api/v1/status?app=none",
		"GET /api/v1/accounts", "GET /api/v1/accounts?limit=1&sort=name", "GET /api/v1/accounts?format=csv", "GET /api/v1/accounts?cursor=x",
		"GET /api/v1/usage", "GET /api/v1/usage?app=shop&live=1&used=1&sort=percent", "GET /api/v1/usage?top=2&format=csv", "GET /api/v1/usage?limit=1", "GET /api/v1/usage?nonsense=1",
		"GET /api/v1/explain?app=shop&path=/cgi-bin/menu/create&method=POST&caller=", "GET /api/v1/explain",
		"GET /api/v1/limits?app=shop", "GET /api/v1/clear?app=shop&rule=menu.create", "POST /api/v1/clear?app=shop",
		"GET /api/v1/forget?app=wx0000000000000003", "POST /api/v1/forget?app=wx0000000000000003", "POST /api/v1/forget?app=shop",
		"GET /api/v1/alerts", "GET /api/v1/alerts?app=shop", "POST /api/v1/alerts/test?sink=oncall",
	} {
		method, target, _ := strings.Cut(asked, " ")
		path, _, _ := strings.Cut(target, "?")
		r, err := http.NewRequestWithContext(t.Context(), method, o.server.URL+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer correct")
		response, err := o.server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body := readAll(t, response)
		if err := s.check(method, path, response.StatusCode, response.Header.Get("Content-Type"), body); err != nil {
			t.Errorf("%s = %d: %v\n%.300s", asked, response.StatusCode, err, body)
		}
	}
	if err := s.check("GET", "/api/v1/usage", 200, "application/json", []byte(`{"time":"2026-11-23T00:00:00Z","apps":[{"app":1}]}`)); err == nil {
		t.Error("an answer that is not as described passes")
	}
}

// The document has the routes of the mux and no others, each with the parameters that are let in.
func TestDocumentIsComplete(t *testing.T) {
	o := newOperated(t)
	s := specOf(t, o)
	a := New(Options{Metrics: NewMetrics(Build{})})
	described := 0
	for path, operations := range s.Paths {
		for method := range operations {
			described++
			r, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(method), path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, pattern := a.mux.Handler(r); pattern != strings.ToUpper(method)+" "+path {
				t.Errorf("%s %s goes to %q", method, path, pattern)
			}
		}
	}
	routes := a.routes()
	if described != len(routes) || described < 15 {
		t.Errorf("%d requests are described, want %d", described, len(routes))
	}
	for _, r := range routes {
		var names []string
		for _, p := range s.Paths[r.path][strings.ToLower(r.method)].Parameters {
			names = append(names, p.Name)
		}
		for _, p := range r.takes {
			if !slices.Contains(names, p.name) {
				t.Errorf("%s %s: parameter %s is not described", r.method, r.path, p.name)
			}
			if p.about == "" || !slices.Contains([]string{"string", "integer", "boolean"}, p.kind) {
				t.Errorf("%s %s: parameter %+v: want what it is", r.method, r.path, p)
			}
		}
		request, err := http.NewRequestWithContext(t.Context(), r.method, r.path+"?undescribed=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.check(request) == nil && strings.HasPrefix(r.path, "/api/") {
			t.Errorf("%s %s: a parameter that is not described is let in", r.method, r.path)
		}
	}
}

func readAll(t *testing.T, response *http.Response) []byte {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
