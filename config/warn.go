package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"wxproxy/limits"
)

// What loads and is probably not meant is warned of.

var (
	wechatID     = regexp.MustCompile(`^wx[0-9a-f]{16}$`)
	wechatSecret = regexp.MustCompile(`^[0-9a-f]{32}$`)
	bareVariable = regexp.MustCompile(`^\$\$?[A-Za-z_][A-Za-z0-9_]*$`)
)

// shortKey is under how many characters a key is short, and fewKinds under how many different ones it is as bad.
const (
	shortKey = 16
	fewKinds = 6
)

// warnOfValues warns of values of wxproxy.yaml that load and that WeChat, or a stranger, makes short work of.
func (l *loader) warnOfValues() {
	c := l.config
	owners := make(map[string]string) // of secrets and keys
	for i := range c.Apps {
		a := &c.Apps[i]
		if at := l.main.at(&a.AppID); at.doc != nil && a.AppID != "" && !wechatID.MatchString(a.AppID) {
			l.warnAt(at, "%s: %s", at.shown(a.AppID), idAdvice(a.AppID))
		}
		for _, secret := range a.Secrets {
			owners[secret] = "the AppSecret of " + a.Name
			advice := writtenAdvice(secret)
			if advice == "" && !wechatSecret.MatchString(secret) {
				advice = outline(secret) + ": an AppSecret is 32 of [0-9a-f]: WeChat will not take another"
			}
			l.warnOfSecret(l.main.at(&a.Secrets, &a.SecretFile), advice)
		}
	}
	for i := range c.Callers {
		for _, key := range c.Callers[i].Keys {
			owners[key] = "the key of " + c.Callers[i].Name
			l.warnOfSecret(l.main.at(&c.Callers[i].Keys, &c.Callers[i].KeyFile), keyAdvice(key))
		}
	}
	if token := c.Admin.Token; token != "" {
		at := l.main.at(&c.Admin.Token)
		if at.doc == nil {
			at = variable("WXPROXY_ADMIN_TOKEN", token, nil)
		}
		advice := keyAdvice(token)
		if owner := owners[token]; owner != "" {
			advice = "the same as " + owner + ": want one of its own"
		}
		l.warnOfSecret(at, advice)
	}
	if at := l.main.at(&c.MaxBody); c.MaxBody < 1024 && at.doc != nil {
		l.warnAt(at, "%s: that is %d bytes: want a unit, as in 32MiB", at.shown(at.node.Value), c.MaxBody)
	}
}

func (l *loader) warnOfSecret(at value, advice string) {
	if advice != "" && at.doc != nil {
		l.warnAt(at, "%s", advice)
	}
}

// idAdvice says what an id is that is not an appid of WeChat's.
func idAdvice(id string) string {
	const want = "want the appid, wx and 16 of [0-9a-f]"
	switch {
	case strings.HasPrefix(id, "gh_"):
		return "gh_ begins the original id (原始ID) of an account: " + want
	case strings.HasPrefix(id, "ww"):
		return "ww begins the corp id of WeCom (企业微信), which this gateway does not serve: " + want
	}
	return "not as WeChat's appids are: " + want
}

// writtenAdvice says what was not meant to be part of a secret.
func writtenAdvice(secret string) string {
	switch {
	case bareVariable.MatchString(secret):
		return "a $ and a name, taken as they stand: a variable is written ${NAME}"
	case strings.ContainsAny(secret, `"'`):
		return "a quote is part of it: want it without, also in the file or variable that it comes from"
	}
	return ""
}

// keyAdvice says why a key or token is none to rely on.
func keyAdvice(key string) string {
	if advice := writtenAdvice(key); advice != "" {
		return advice
	}
	kinds := make(map[rune]bool)
	for _, r := range key {
		kinds[r] = true
	}
	switch {
	case len(key) < shortKey:
		return fmt.Sprintf("only %d characters, so it can be guessed: want %d or more, as from openssl rand -hex 16", len(key), shortKey)
	case len(kinds) < fewKinds:
		return fmt.Sprintf("only %d different characters, so it can be guessed: want random ones, as from openssl rand -hex 16", len(kinds))
	}
	return ""
}

// warnOfShadow warns that no budget is kept.
func (l *loader) warnOfShadow() {
	if l.config.Shadow {
		l.warnAt(l.main.at(&l.config.Shadow), "nothing is refused by a quota, pace, share or reserve: what would be is counted as the decision shadow; false ends it")
	}
}

// warnOfShares warns of parts of a quota that nobody can use, or that are more than the whole: the table may be
// shared by several deployments, so a caller that this one lacks is no fault.
func (l *loader) warnOfShares() {
	known := make(map[string]bool)
	for _, c := range l.config.Callers {
		known[c.Name] = true
	}
	for _, app := range l.config.Apps {
		if app.Rules == nil {
			continue // with a fault
		}
		for _, rule := range app.Rules.Rules {
			sums := make(map[limits.Period]int64)
			for _, caller := range sortedKeys(rule.Shares) {
				if !known[caller] {
					l.warn("app %s: rule %s: shares: %s: no such caller", app.Name, rule.Name, caller)
				}
				for _, q := range rule.Shares[caller].Quotas {
					sums[q.Period] += q.Limit
				}
			}
			for _, q := range rule.Budget.Quotas {
				if sum := sums[q.Period]; sum > q.Limit {
					l.warn("app %s: rule %s: shares: %d/%s together, more than its quota of %s", app.Name, rule.Name, sum, q.Period, q)
				}
			}
		}
	}
}

// fewRules is under how many rules a profile that stands alone was probably meant to extend another.
const fewRules = 20

// alone warns of profiles that extend nothing and leave most paths without a rule.
func (p *tableParser) alone() (warnings []string) {
	for _, e := range p.file.Profiles {
		rest := slices.ContainsFunc(e.Rules, func(r *ruleEntry) bool { return slices.Contains(r.Paths, "/cgi-bin/*") })
		if e.Extends == "" && p.shipped[e.name] == nil && !rest && len(e.Rules) < fewRules {
			warnings = append(warnings, e.at.at("it extends nothing, so paths outside its own rules (%d) have no figure: want extends: production, for theirs", len(e.Rules)).String())
		}
	}
	return warnings
}

// meant returns the end of a fault about a name that no rule has, if a rule was meant by it: by a similar name, its
// path, or its title in WeChat's own table; "" if none was.
func meant(name string, rules []*limits.Rule) string {
	var names []string
	for _, r := range rules {
		path, _, _ := strings.Cut(name, "?")
		byPath := slices.ContainsFunc(r.Paths, func(p string) bool { return foldPath(p) == foldPath(path) })
		if byPath || r.Title == strings.TrimSpace(name) {
			return fmt.Sprintf("did you mean %s?", r.Name)
		}
		names = append(names, r.Name)
	}
	if best := Closest(name, names); best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return ""
}
