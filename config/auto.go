package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"

	"gopkg.in/yaml.v3"

	"wxproxy/limits"
)

// AutoFile is the file beside wxproxy.yaml that `wxproxy limits --write` writes: figures of WeChat's, for
// apps by appid and rule. Figures that wxproxy.yaml has of the same rules hold in place of them.
const AutoFile = "limits.auto.yaml"

const autoHeader = `# Quotas that WeChat gives these accounts, written by "wxproxy limits APPID --write". Rules that wxproxy.yaml
# has under quotas go by that. Without a line, or without this file, the table's figure holds again.
`

type autoFile struct {
	Quotas map[string]map[string]limits.Budget `yaml:"quotas"`
}

// readAuto reads the quotas of limits.auto.yaml, if it is there.
func (l *loader) readAuto() (map[string]map[string]limits.Budget, Faults) {
	path := l.beside(AutoFile)
	data, _, err := l.read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, Faults{{File: path, Text: reason(err)}}
	}
	return parseAuto(path, data)
}

func parseAuto(path string, data []byte) (map[string]map[string]limits.Budget, Faults) {
	var file autoFile
	doc := &document{name: path, places: make(map[any]value)}
	if top, ok := doc.parse(data); ok {
		top.decode(reflect.ValueOf(&file).Elem(), "")
	}
	doc.faults.sort()
	return file.Quotas, doc.faults
}

// addAuto gives an app the figures of limits.auto.yaml, of rules that it has and wxproxy.yaml says nothing of.
func (l *loader) addAuto(a *App, figures map[string]limits.Budget, names map[string]bool) {
	for _, rule := range sortedKeys(figures) {
		_, own := a.Quotas[rule]
		switch {
		case own || a.AutoQuotas:
		case !names[rule]:
			l.warn("%s: quotas.%s.%s: no such rule in profile %s: it is not used", l.beside(AutoFile), a.AppID, quote(rule), a.Profile)
		default:
			if a.Quotas == nil {
				a.Quotas = make(map[string]limits.Budget)
			}
			a.Quotas[rule] = figures[rule]
		}
	}
}

// WriteAuto adds figures of an app, by rule name, to the limits.auto.yaml beside a wxproxy.yaml, or makes that
// file. It takes the place of the old one as a whole.
func WriteAuto(path, appid string, figures map[string]limits.Budget) error {
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	all, faults := parseAuto(path, data)
	if len(faults) > 0 {
		return faults
	}
	texts := make(map[string]map[string]any, len(all)+1)
	for app, figures := range all {
		texts[app] = budgetTexts(figures)
	}
	if texts[appid] == nil {
		texts[appid] = make(map[string]any)
	}
	maps.Copy(texts[appid], budgetTexts(figures))
	body, err := yaml.Marshal(map[string]any{"quotas": texts})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fresh, err := os.CreateTemp(filepath.Dir(path), ".wxproxy-*.yaml")
	if err != nil {
		return err
	}
	_, err = fresh.WriteString(autoHeader + string(body))
	if err = errors.Join(err, fresh.Chmod(0o644), fresh.Sync(), fresh.Close()); err == nil { // no secret, and the gateway may be another user's
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(fresh.Name()))
	}
	return nil
}

// budgetTexts writes budgets as the files do.
func budgetTexts(budgets map[string]limits.Budget) map[string]any {
	texts := make(map[string]any, len(budgets))
	for rule, b := range budgets {
		texts[rule] = budgetText(b)
	}
	return texts
}

func budgetText(b limits.Budget) any {
	if len(b.Quotas) < 2 {
		return b.String()
	}
	var texts []string
	for _, q := range b.Quotas {
		texts = append(texts, q.String())
	}
	return texts
}
