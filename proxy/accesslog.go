package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
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
	if rec.Path == "" {
		rec.Path = noPath
	}
	rec.ClientIP = c.s.clientIP(c.r)
	rec.Method = knownMethod(c.r.Method)
	rec.UserAgent = scrub(c.r.Header.Get("User-Agent"))
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

// MarshalLogObject writes the record as the fields of one JSON line.
func (r *Record) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddString("request_id", r.RequestID)
	e.AddString("client_ip", r.ClientIP)
	e.AddString("caller", r.Caller)
	e.AddString("app", r.App)
	e.AddString("appid", r.AppID)
	e.AddString("method", r.Method)
	e.AddString("path", r.Path)
	e.AddString("rule", r.Rule)
	e.AddString("decision", r.Decision)
	e.AddInt64("quota", r.Quota)
	e.AddInt64("used", r.Used)
	e.AddInt64("remaining", r.Remaining)
	e.AddInt64("reset_s", wholeSeconds(r.Reset))
	e.AddInt("status", r.Status)
	e.AddInt("errcode", r.ErrCode)
	e.AddString("rid", r.RID)
	e.AddFloat64("duration_ms", milliseconds(r.Duration))
	e.AddFloat64("upstream_ms", milliseconds(r.Upstream))
	e.AddInt("attempts", r.Attempts)
	e.AddInt64("bytes_in", r.BytesIn)
	e.AddInt64("bytes_out", r.BytesOut)
	e.AddString("user_agent", r.UserAgent)
	return nil
}

// milliseconds keeps three digits after the point: a refusal takes microseconds.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// LogFile says where a rotating access log goes.
type LogFile struct {
	Path      string // created with mode 0600; a file that exists keeps its mode
	MaxSizeMB int    // default 100
	Keep      int    // old files that stay; 0: all
}

// AccessLog writes one JSON line for each call. Lines are buffered for a second at most. It is
// safe for concurrent use.
type AccessLog struct {
	core   zapcore.Core
	buffer *zapcore.BufferedWriteSyncer
	file   io.Closer // nil if it is not ours to close
	lost   atomic.Int64
}

// NewAccessLog returns an access log that writes to w, os.Stdout for example.
func NewAccessLog(w zapcore.WriteSyncer) *AccessLog {
	buffer := &zapcore.BufferedWriteSyncer{WS: w, FlushInterval: 500 * time.Millisecond}
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey:    "time",
		EncodeTime: zapcore.TimeEncoderOfLayout("2006-01-02T15:04:05.000Z07:00"),
		LineEnding: zapcore.DefaultLineEnding,
	})
	return &AccessLog{core: zapcore.NewCore(encoder, buffer, zap.InfoLevel), buffer: buffer}
}

// OpenAccessLog returns an access log that writes to a file and rotates it.
func OpenAccessLog(f LogFile) (*AccessLog, error) {
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
	l := NewAccessLog(zapcore.AddSync(file))
	l.file = file
	return l, nil
}

// Write adds the line of a call. It keeps nothing of r.
func (l *AccessLog) Write(r *Record) {
	if err := l.core.Write(zapcore.Entry{Time: r.Time}, []zapcore.Field{zap.Inline(r)}); err != nil {
		l.lost.Add(1)
	}
}

// Lost returns how many lines could not be written, as far as the buffer told.
func (l *AccessLog) Lost() int64 { return l.lost.Load() }

// Sync writes what is buffered.
func (l *AccessLog) Sync() error { return l.core.Sync() }

// Close writes what is buffered and closes the file. No call may be written after it.
func (l *AccessLog) Close() error {
	err := l.buffer.Stop()
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}
