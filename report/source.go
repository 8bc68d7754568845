package report

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
)

// maxLine is how long a line may be, in bytes. The gateway's have a few hundred.
const maxLine = 64 << 10

// source reads the lines of one input in its order, packed or not.
type source struct {
	in     Input
	file   io.ReadCloser
	lines  *bufio.Reader
	parser Parser
	skip   func(Place) // of each line that is not the gateway's

	line   Line  // the one that was read last
	number int64 // its number
	first  int64 // the time of the first line; 0: none was found
	seat   int   // where the source was named, which orders lines of the same time
}

// open opens an input, of which at most so many bytes are read. They are added to read, which others may look at
// meanwhile. What is no regular file may not answer for long: the end of ctx ends it.
func (s *source) open(ctx context.Context, read *atomic.Int64, most int64) error {
	if s.in.Name == Stdin {
		s.file = whileContext(ctx, os.Stdin)
	} else {
		file, err := os.Open(s.in.Name)
		if err != nil {
			return plainError(err)
		}
		info, err := file.Stat()
		if err != nil || !os.SameFile(info, s.in.info) {
			_ = file.Close()
			return errors.Join(err, errReplaced)
		}
		if s.file = file; !info.Mode().IsRegular() {
			s.file = whileContext(ctx, file)
		}
	}
	return s.begin(io.LimitReader(countedReader{s.file, read}, most))
}

// begin finds out whether the input is packed.
func (s *source) begin(r io.Reader) error {
	s.lines, s.number = bufio.NewReaderSize(r, maxLine), 0
	if magic, _ := s.lines.Peek(2); len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
		return nil
	}
	packed, err := gzip.NewReader(s.lines)
	if err != nil {
		return gzipError(err)
	}
	s.lines = bufio.NewReaderSize(packed, maxLine)
	return nil
}

func (s *source) close() {
	if s.file != nil {
		_ = s.file.Close() // it was only read
	}
	s.file, s.lines = nil, nil
}

// next goes on to the next line that is one of the gateway's. It returns io.EOF after the last one.
func (s *source) next() error {
	for {
		text, err := s.lines.ReadSlice('\n')
		if err != nil && len(text) == 0 {
			return gzipError(err)
		}
		s.number++
		why := NotOurs
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			why = TooLong
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = s.lines.ReadSlice('\n')
			}
		default:
			if s.parse(text) {
				return nil
			}
			if err != nil {
				why = Unfinished
			}
		}
		if len(bytes.TrimSpace(text)) > 0 && s.skip != nil {
			s.skip(Place{s.in.Name, s.number, why})
		}
	}
}

// parse reads one line. What a collector of logs puts in front of it is passed over.
func (s *source) parse(text []byte) bool {
	text = bytes.TrimRight(text, "\r\n")
	if s.parser.Parse(text, &s.line) {
		return true
	}
	i := bytes.IndexByte(text, '{')
	return i > 0 && s.parser.Parse(text[i:], &s.line)
}

// gzipError is an error of reading in words that name nothing of what was read.
func gzipError(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errCut
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.As(err, new(flate.CorruptInputError)):
		return errGzip
	}
	return plainError(err)
}

// countedReader counts the bytes that are read.
type countedReader struct {
	from io.Reader
	read *atomic.Int64
}

func (c countedReader) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// whileContext reads from a pipe or a terminal, which nothing but its own end would end.
func whileContext(ctx context.Context, from io.ReadCloser) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() {
		_, err := io.Copy(writer, from)
		_ = writer.CloseWithError(err) // nil is io.EOF
	}()
	stop := context.AfterFunc(ctx, func() { _ = writer.CloseWithError(ctx.Err()) })
	return pipe{reader, from, stop}
}

// pipe is the end of whileContext that is read.
type pipe struct {
	*io.PipeReader
	from io.Closer
	stop func() bool
}

func (p pipe) Close() error {
	p.stop()
	return errors.Join(p.PipeReader.Close(), p.from.Close())
}
