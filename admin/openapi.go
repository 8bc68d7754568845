package admin

import (
	"net/http"
	"reflect"
	"strings"
	"time"
)

// document is an OpenAPI document. It is made of [Admin.routes] and of the types that they answer with, so that it
// cannot state what is not so.
type document map[string]any

func (a *Admin) openapi(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, describe(a.routes(), a.o.Build.Version))
}

// describe makes the document.
func describe(routes []route, version string) document {
	s := schemas{}
	paths := make(map[string]any)
	for _, r := range routes {
		path, ok := paths[r.path].(map[string]any)
		if !ok {
			path = make(map[string]any)
			paths[r.path] = path
		}
		path[strings.ToLower(r.method)] = r.describe(s)
	}
	return document{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title":       "wxproxy admin API",
			"version":     version,
			"description": "What operators ask of a running gateway. It shows no secret, token or body. Fields may be added; none changes its meaning.",
		},
		"paths": paths,
		"components": map[string]any{
			"schemas": s,
			"securitySchemes": map[string]any{
				"admin": map[string]any{"type": "http", "scheme": "bearer", "description": "The admin token."},
			},
		},
	}
}

// describe describes one route.
func (r *route) describe(s schemas) map[string]any {
	operation := map[string]any{"summary": r.about}
	content := make(map[string]any)
	switch {
	case r.streams:
		content["application/x-ndjson"] = map[string]any{"schema": map[string]any{"type": "string"}}
	case r.gives == nil:
		content["text/plain"] = map[string]any{"schema": map[string]any{"type": "string"}}
	default:
		content["application/json"] = map[string]any{"schema": s.of(reflect.TypeOf(r.gives))}
	}
	if r.csv {
		content["text/csv"] = map[string]any{"schema": map[string]any{"type": "string"}}
	}
	failed := map[string]any{"description": "What is wrong, in words.", "content": map[string]any{
		"application/json": map[string]any{"schema": s.of(reflect.TypeFor[problem]())},
	}}
	responses := map[string]any{"200": map[string]any{"description": "The answer.", "content": content}, "default": failed}
	if r.path == "/-/ready" {
		responses["503"] = responses["200"]
	}
	operation["responses"] = responses
	if !r.open {
		operation["security"] = []any{map[string]any{"admin": []any{}}}
	}
	parameters := make([]any, len(r.takes))
	for i, p := range r.takes {
		schema := map[string]any{"type": p.kind}
		if p.oneOf != nil {
			schema["enum"] = p.oneOf
		}
		parameters[i] = map[string]any{"name": p.name, "in": "query", "description": p.about, "required": p.must, "schema": schema}
	}
	if len(parameters) > 0 {
		operation["parameters"] = parameters
	}
	return operation
}

// schemas are those of the structs of answers, by name.
type schemas map[string]any

// of returns the schema of a type as encoding/json writes it. The tag enum names the values that a text may have.
func (s schemas) of(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[document]():
		return map[string]any{"type": "object", "additionalProperties": map[string]any{}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Interface:
		return map[string]any{}
	case reflect.Struct:
		name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
		if s[name] == nil {
			s[name] = true // it may hold itself
			s[name] = s.object(t)
		}
		return map[string]any{"$ref": "#/components/schemas/" + name}
	default:
		return map[string]any{"type": "integer"}
	}
}

func (s schemas) object(t reflect.Type) map[string]any {
	properties, required := make(map[string]any), []string{}
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" || !field.IsExported() {
			continue
		}
		schema := s.of(field.Type)
		if values := field.Tag.Get("enum"); values != "" {
			schema["enum"] = strings.Split(values, ",")
		}
		if !strings.HasPrefix(options, "omit") {
			required = append(required, name)
			if field.Type.Kind() == reflect.Pointer {
				schema = map[string]any{"anyOf": []any{schema, map[string]any{"type": "null"}}}
			}
		}
		properties[name] = schema
	}
	return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}
