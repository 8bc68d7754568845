package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// What a fault may show of a file. A secret is often written in the place of something else: swapped with the
// appid, or in the place of the name of its file or variable. So what looks like one is described and not
// quoted.

var (
	// appSecret is what WeChat's AppSecrets look like.
	appSecret = regexp.MustCompile(`^[0-9A-Fa-f]{32}$`)
	// pem is in a private key, and in a certificate.
	pem = regexp.MustCompile(`-----BEGIN|PRIVATE KEY|\bMII[0-9A-Za-z+/]`)
	// solid and base64 find random texts: with a digit, and the second with letters of both cases too.
	solid  = regexp.MustCompile(`[0-9A-Za-z]{20,}`)
	base64 = regexp.MustCompile(`[0-9A-Za-z+=_-]{24,}`)
)

const (
	digits  = "0123456789"
	smalls  = "abcdefghijklmnopqrstuvwxyz"
	capital = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// secretLike reports whether a text may hold a secret: an AppSecret, a random key or token, a PEM block, a
// password in a URL.
func secretLike(text string) bool {
	with := func(sets ...string) func(string) bool {
		return func(run string) bool {
			return !slices.ContainsFunc(sets, func(set string) bool { return !strings.ContainsAny(run, set) })
		}
	}
	_, rest, isURL := strings.Cut(text, "://")
	return slices.ContainsFunc(solid.FindAllString(text, -1), with(digits)) ||
		slices.ContainsFunc(base64.FindAllString(text, -1), with(digits, smalls, capital)) ||
		pem.MatchString(text) || isURL && strings.Contains(rest, "@")
}

// quote is text as a fault may show it: quoted, or described if it may hold a secret.
func quote(text string) string {
	if secretLike(text) {
		return outline(text)
	}
	if runes := []rune(text); len(runes) > 64 {
		text = string(runes[:64]) + "…"
	}
	return fmt.Sprintf("%q", text)
}

// outline says of a text how long it is and what it is made of.
func outline(text string) string {
	switch {
	case appSecret.MatchString(text):
		return "32 hex digits, as an AppSecret has"
	case pem.MatchString(text):
		return "a PEM block"
	}
	var kinds []string
	if strings.ContainsAny(text, smalls+capital) {
		kinds = append(kinds, "letters")
	}
	if strings.ContainsAny(text, digits) {
		kinds = append(kinds, "digits")
	}
	if strings.Trim(text, smalls+capital+digits) != "" {
		kinds = append(kinds, "others")
	}
	n := utf8.RuneCountInString(text)
	if n == 1 {
		return fmt.Sprintf("1 character (%s)", kinds[0])
	}
	return fmt.Sprintf("%d characters (%s)", n, strings.Join(kinds, ", "))
}

// extensions are those of files that secrets are kept in.
var extensions = []string{".conf", ".env", ".json", ".key", ".pass", ".password", ".pem", ".pw", ".secret", ".token", ".txt", ".yaml", ".yml"}

// surelyPath reports whether a text that stands in the place of the path of a secret's file is a path, and
// not the secret itself.
func surelyPath(text string) bool {
	return !secretLike(text) && (filepath.IsAbs(text) || strings.HasPrefix(text, "./") || strings.HasPrefix(text, "../") ||
		slices.Contains(extensions, strings.ToLower(filepath.Ext(text))))
}

// FileError says why a file that the configuration names under a key cannot be read.
func FileError(key, path string, err error) error {
	return fmt.Errorf("%s: %s: %s", key, quote(path), reason(err))
}

// reason is why a file cannot be read, without the path that stands before it anyway.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return err.Error()
}
