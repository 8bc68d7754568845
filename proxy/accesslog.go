package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

// Record is what became of one call: a line of the access log, and what the metrics count. It
// holds no token, secret, key or body, and nothing of the query.
type Record struct {
	Time      time.Time // when the call came
	RequestID string
	ClientIP  string
	Caller    string
	App       string // its name
	AppID     string
	Method    string // GET, HEAD or POST, another known one, or "other"
	Path      string // canonical, or "-"
	Rule      string
	Decision  string
	Reason    Reason // "" unless the call was refused

	Quota     int64 // of the tightest figure; 0 when the rule has none
	Used      int64
	Remaining int64
	Reset     time.Duration

	Status   int    // of the answer; 499 when the client was gone before it
	ErrCode  int    // in the answer; 0 also when none was seen
	RID      string // WeChat's own id of the call
	Duration time.Duration
	Upstream time.Duration // the part of Duration spent on waiting for WeChat
	Attempts int           // how often the call was sent; a replay makes it 2
	BytesIn  int64         // of the bodies
	BytesOut int64

	UserAgent string // cut and scrubbed
}

// noPath stands for a path whose bytes are not fit for the log.
const noPath = "-"

// fill completes the record at the end of a call.
func (c *call) fill() {
	rec, d := &c.rec, &c.decision
	if rec.Path == "" && c.path != "" {
		rec.Path = c.s.scrub(c.path)
	} else if rec.Path == "" {
		rec.Path = noPath
	}
	rec.ClientIP = c.s.clientIP(c.r, c.peer)
	rec.Method = knownMethod(c.r.Method)
	if agents := c.r.Header["User-Agent"]; len(agents) > 0 {
		rec.UserAgent = c.s.scrub(agents[0])
	}
	if c.app != nil {
		rec.App, rec.AppID = c.app.Name, c.app.AppID
	}
	rec.Quota, rec.Used, rec.Remaining, rec.Reset = d.Quota, d.Used, d.Remaining, d.Reset
	rec.Upstream = c.upstream
	rec.Duration = time.Since(c.began)
}

// knownMethod keeps a stranger's bytes out of the log and of metric labels.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return "other"
}

const (
	scrubbedBytes = 200 // of a text that a client chose; the rest is cut off
	secretBytes   = 24  // from this length a run of letters and digits may be a secret
)

// scrub makes a client's text fit for the log: at most scrubbedBytes of printable ASCII, and * for
// every run that may be a token, a key or an openid. Those are long and hold a digit; names of
// programs and of WeChat's paths are short or hold none.
func scrub(text string) string {
	clean := len(text) <= scrubbedBytes
	run, digit := 0, false
	for i := 0; i < len(text) && clean; i++ {
		switch c := text[i]; {
		case alphanumeric(c), c == '-', c == '_':
			run++
			digit = digit || '0' <= c && c <= '9'
			clean = run < secretBytes || !digit
		case c < ' ', c > '~':
			clean = false
		default:
			run, digit = 0, false
		}
	}
	if clean {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text) && b.Len() < scrubbedBytes; {
		end, digit := i, false
		for ; end < len(text) && (alphanumeric(text[end]) || text[end] == '-' || text[end] == '_'); end++ {
			digit = digit || '0' <= text[end] && text[end] <= '9'
		}
		switch {
		case end-i >= secretBytes && digit:
			b.WriteByte('*')
		case end > i:
			b.WriteString(text[i:min(end, i+scrubbedBytes-b.Len())])
		default:
			if c := text[i]; c >= ' ' && c <= '~' {
				b.WriteByte(c)
			} else {
				b.WriteByte('?')
			}
			end++
		}
		i = end
	}
	return b.String()
}

// appendLine appends the record as one JSON line.
func (r *Record) appendLine(b []byte) []byte {
	b = appendTime(append(b, `{"time":`...), r.Time)
	b = appendText(b, `,"request_id":`, r.RequestID)
	b = appendText(b, `,"client_ip":`, r.ClientIP)
	b = appendText(b, `,"caller":`, r.Caller)
	b = appendText(b, `,"app":`, r.App)
	b = appendText(b, `,"appid":`, r.AppID)
	b = appendText(b, `,"method":`, r.Method)
	b = appendText(b, `,"path":`, r.Path)
	b = appendText(b, `,"rule":`, r.Rule)
	b = appendText(b, `,"decision":`, r.Decision)
	b = appendText(b, `,"reason":`, string(r.Reason))
	b = strconv.AppendInt(append(b, `,"quota":`...), r.Quota, 10)
	b = strconv.AppendInt(append(b, `,"used":`...), r.Used, 10)
	b = strconv.AppendInt(append(b, `,"remaining":`...), r.Remaining, 10)
	b = strconv.AppendInt(append(b, `,"reset_s":`...), wholeSeconds(r.Reset), 10)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(r.Status), 10)
	b = strconv.AppendInt(append(b, `,"errcode":`...), int64(r.ErrCode), 10)
	b = appendText(b, `,"rid":`, r.RID)
	b = appendMilliseconds(append(b, `,"duration_ms":`...), r.Duration)
	b = appendMilliseconds(append(b, `,"upstream_ms":`...), r.Upstream)
	b = strconv.AppendInt(append(b, `,"attempts":`...), int64(r.Attempts), 10)
	b = strconv.AppendInt(append(b, `,"bytes_in":`...), r.BytesIn, 10)
	b = strconv.AppendInt(append(b, `,"bytes_out":`...), r.BytesOut, 10)
	b = appendText(b, `,"user_agent":`, r.UserAgent)
	return append(b, '}', '\n')
}

// appendTime appends a time with milliseconds and offset. package time has a faster way for the form
// without milliseconds.
func appendTime(b []byte, t time.Time) []byte {
	var whole [40]byte
	text := t.AppendFormat(whole[:0], time.RFC3339)
	const seconds = len(time.DateTime)
	milli := t.Nanosecond() / int(time.Millisecond)
	b = append(append(b, '"'), text[:seconds]...)
	b = append(b, '.', byte('0'+milli/100), byte('0'+milli/10%10), byte('0'+milli%10))
	return append(append(b, text[seconds:]...), '"')
}

// appendText appends a key and a JSON string.
func appendText(b []byte, key, text string) []byte {
	b = append(b, key...)
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(text) // a string always can
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, text...)
	return append(b, '"')
}

// appendMilliseconds keeps three digits after the point: a refusal takes microseconds.
func appendMilliseconds(b []byte, d time.Duration) []byte {
	micros := max(d.Microseconds(), 0)
	b = strconv.AppendInt(b, micros/1000, 10)
	if rest := micros % 1000; rest > 0 {
		b = append(b, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
	}
	return b
}

// LogFile says where a rotating access log goes.
type LogFile struct {
	Path      string // created with mode 0600; a file that exists keeps its mode
	MaxSizeMB int    // default 100
	Keep      int    // old files that stay; 0: all
}

// closeTime is how long Close waits for a writer that takes nothing.
const closeTime = 3 * time.Second

// AccessLog writes one JSON line for each call, within a second. No call waits for it: see LineWriter.
// It is safe for concurrent use.
type AccessLog struct {
	writer *LineWriter
	follow func(*Record, []byte)
	lines  sync.Pool // *[]byte
	file   io.Closer // nil if it is not ours to close
}

// NewAccessLog returns an access log that writes to w, os.Stdout for example. changed is that of
// NewLineWriter.
func NewAccessLog(w io.Writer, changed func(reason error, dropped int64)) *AccessLog {
	l := &AccessLog{writer: NewLineWriter(w, changed)}
	l.lines.New = func() any { b := make([]byte, 0, 1024); return &b }
	return l
}

// OpenAccessLog returns an access log that writes to a file and rotates it.
func OpenAccessLog(f LogFile, changed func(reason error, dropped int64)) (*AccessLog, error) {
	if f.Path == "" {
		return nil, errors.New("access log: no file")
	}
	// A wrong path must show at start, and lumberjack would move away whatever it cannot open.
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o750); err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	trial, err := os.OpenFile(f.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	if err := trial.Close(); err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	file := &lumberjack.Logger{Filename: f.Path, MaxSize: f.MaxSizeMB, MaxBackups: f.Keep}
	l := NewAccessLog(file, changed)
	l.file = file
	return l, nil
}

// Follow has each line given to follow too, as it is written; it must keep neither of its arguments. Follow
// comes before the first Write.
func (l *AccessLog) Follow(follow func(r *Record, line []byte)) { l.follow = follow }

// Write adds the line of a call. It keeps nothing of r.
func (l *AccessLog) Write(r *Record) {
	line := l.lines.Get().(*[]byte)
	*line = r.appendLine((*line)[:0])
	l.writer.add(*line)
	if l.follow != nil {
		l.follow(r, *line)
	}
	l.lines.Put(line)
}

// Dropped returns how many lines could not be written.
func (l *AccessLog) Dropped() int64 { return l.writer.Dropped() }

// Reopen has the next line written to a file that is opened anew, after the file was renamed or removed.
func (l *AccessLog) Reopen() error {
	if l.file == nil {
		return nil
	}
	l.writer.Anew()
	return l.file.Close() // lumberjack opens it with the next line
}

// Close writes what waits, for at most 3 s, and closes the file. No call may be written after it.
func (l *AccessLog) Close() error {
	err := l.writer.Close(closeTime)
	if l.file != nil && err == nil { // else a write may be under way
		err = l.file.Close()
	}
	if err != nil {
		return fmt.Errorf("access log: %w", err)
	}
	return nil
}
