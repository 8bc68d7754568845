// Package words holds the texts that people read, each in English and in Chinese: what the commands
// print, their help, and what goes wrong. Logs and JSON are English alone and need none of it.
//
// A text that the program composes is a [Message], a variable of this package: a misspelt name does not
// compile. A text that another package has composed in English, such as an error, is translated by
// [Language.Translate], which knows the patterns of such texts.
package words

import (
	"errors"
	"fmt"
	"strings"
)

// Language is one of the two.
type Language string

// The languages.
const (
	English Language = "en"
	Chinese Language = "zh"
)

// Parse returns the language of a locale, as zh, zh_CN.UTF-8 or en-US. It returns false for others.
func Parse(locale string) (Language, bool) {
	name := strings.ToLower(locale)
	if i := strings.IndexAny(name, "_-.@"); i >= 0 {
		name = name[:i]
	}
	l := Language(name)
	return l, l == English || l == Chinese
}

// FromEnv returns the language of the first of LC_ALL, LC_MESSAGES and LANG that is set. It is English
// if that names another one, or if none is set.
func FromEnv(getenv func(string) string) Language {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if locale := getenv(name); locale != "" {
			if l, ok := Parse(locale); ok {
				return l
			}
			break
		}
	}
	return English
}

// Message is one text in both languages. {name} in it stands for a parameter.
type Message struct {
	Key    string // the name of its variable
	en, zh string
}

// messages are all messages, by key.
var messages = make(map[string]Message)

// text defines a message. It is called for variables of this package only.
func text(key, en, zh string) Message {
	m := Message{key, strings.Trim(en, "\n"), strings.Trim(zh, "\n")}
	messages[key] = m
	return m
}

func (m Message) in(l Language) string {
	if l == Chinese {
		return m.zh
	}
	return m.en
}

// Dictionary returns all messages in a language, by key: what a page needs to show them.
func (l Language) Dictionary() map[string]string {
	d := make(map[string]string, len(messages))
	for key, m := range messages {
		d[key] = m.in(l)
	}
	return d
}

// Text returns a message with its parameters filled in. args are names and values in turn; a value that
// is a [Message], an error or a [List] is put in the same language.
func (l Language) Text(m Message, args ...any) string {
	pairs := make([]string, 0, len(args))
	for i := 0; i+1 < len(args); i += 2 {
		pairs = append(pairs, fmt.Sprintf("{%s}", args[i]), l.value(args[i+1]))
	}
	return strings.NewReplacer(pairs...).Replace(m.in(l))
}

// value returns a parameter as a text.
func (l Language) value(value any) string {
	switch v := value.(type) {
	case Message:
		return l.Text(v)
	case error:
		return l.Error(v)
	case List:
		texts := make([]string, len(v))
		for i, one := range v {
			texts[i] = l.value(one)
		}
		return strings.Join(texts, l.Text(Separator))
	}
	return fmt.Sprint(value)
}

// List is several texts as one parameter.
type List []any

// Error is a message as an error.
type Error struct {
	Message Message
	Args    []any // as of [Language.Text]; errors among them are wrapped
}

// New returns a message as an error.
func New(m Message, args ...any) *Error { return &Error{m, args} }

// Error returns the message in English, as logs have it. [Language.Error] returns it in a language.
func (e *Error) Error() string { return English.Text(e.Message, e.Args...) }

// Unwrap returns the errors among the parameters.
func (e *Error) Unwrap() []error {
	var wrapped []error
	for _, arg := range e.Args {
		if err, ok := arg.(error); ok {
			wrapped = append(wrapped, err)
		}
	}
	return wrapped
}

// Error returns the text of an error in a language. What is not an [Error] is translated by its text.
func (l Language) Error(err error) string {
	if l == English {
		return err.Error()
	}
	switch e := err.(type) { //nolint:errorlint // the outermost error has the text of those that it wraps
	case *Error:
		return l.Text(e.Message, e.Args...)
	case interface{ Unwrap() []error }:
		joined := e.Unwrap()
		if errors.Join(joined...).Error() != err.Error() {
			break // a text around several errors
		}
		lines := make([]string, len(joined))
		for i, one := range joined {
			lines[i] = l.Error(one)
		}
		return strings.Join(lines, "\n")
	}
	if inner := errors.Unwrap(err); inner != nil && inner.Error() == err.Error() {
		return l.Error(inner)
	}
	return l.Translate(err.Error())
}
