package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// errDamaged is wrapped by what checkFile finds wrong in a file.
var errDamaged = errors.New("damaged")

// checkFile reads what a bbolt file has in use and returns what is wrong with it, wrapping errDamaged.
// It must not be open for writing. bbolt itself reads the file as memory, and looks for free pages in a
// goroutine of its own: a page that is not what it should be, or not there, ends the process with a
// stack and no word about the file.
//
// The format is bbolt's version 2, in the byte order of the machine: two meta pages, of which the one
// with the higher transaction and a right checksum counts, and a B+ tree of pages from its root on. In
// a leaf a value may be a bucket: the root of another tree, or a page inside the value.
func checkFile(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() == 0 || !info.Mode().IsRegular() {
		return nil // bbolt makes a new one, or says why not
	}
	lock, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second}) // reads the meta pages alone
	switch {
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w, or not written by wxproxy", err, errDamaged)
	case err != nil && info.Size() < 2*int64(os.Getpagesize()):
		return fmt.Errorf("%w: it has only %d bytes", errDamaged, info.Size())
	case err != nil:
		return err
	}
	defer lock.Close()
	file, err := os.Open(path) //nolint:gosec // G304: the operator's own
	if err != nil {
		return err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil { // it is locked now, and does not grow
		return err
	}
	c := checker{file: file, size: info.Size(), seen: map[uint64]bool{}}
	if err := c.check(int64(lock.Info().PageSize)); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}

// checker walks the pages of a file.
type checker struct {
	file     io.ReaderAt
	size     int64
	pageSize int64
	pages    uint64          // in use or free: their numbers are below it
	seen     map[uint64]bool // pages that were read
}

// Sizes and flags of the format.
const (
	pageHeader    = 16 // number, flags, count of elements, count of further pages
	metaSize      = 64
	elementSize   = 16
	branchPage    = 0x01
	leafPage      = 0x02
	freelistPage  = 0x10
	bucketElement = 0x01
	bucketHeader  = 16 // root page, sequence
	noFreelist    = ^uint64(0)
)

var order = binary.NativeEndian

func (c *checker) check(pageSize int64) error {
	c.pageSize = pageSize
	meta, err := c.meta()
	if err != nil {
		return err
	}
	root, freelist := order.Uint64(meta[16:]), order.Uint64(meta[32:])
	c.pages = order.Uint64(meta[40:])
	if err := c.tree(root, nil, nil); err != nil {
		return err
	}
	if freelist == noFreelist {
		return nil
	}
	return c.freelist(freelist)
}

// meta returns the meta page that counts.
func (c *checker) meta() (newest []byte, err error) {
	for i := range int64(2) {
		p := make([]byte, pageHeader+metaSize)
		if _, err := c.file.ReadAt(p, i*c.pageSize); err != nil {
			return nil, fmt.Errorf("page %d: %w", i, err)
		}
		p = p[pageHeader:]
		sum := fnv.New64a()
		_, _ = sum.Write(p[:metaSize-8])
		sound := sum.Sum64() == order.Uint64(p[metaSize-8:])
		if sound && (newest == nil || order.Uint64(p[48:]) > order.Uint64(newest[48:])) {
			newest = p
		}
	}
	if newest == nil {
		return nil, errors.New("no meta page has a right checksum")
	}
	return newest, nil
}

// page reads a page with those that continue it.
func (c *checker) page(id uint64) ([]byte, error) {
	fault := func(format string, args ...any) ([]byte, error) {
		return nil, fmt.Errorf("page %d: "+format, append([]any{id}, args...)...)
	}
	if id < 2 || id >= c.pages {
		return fault("want one of 2 to %d", c.pages-1)
	}
	header, err := c.read(id, pageHeader)
	if err != nil {
		return fault("%w", err)
	}
	further := uint64(order.Uint32(header[12:]))
	if got := order.Uint64(header); got != id {
		return fault("it has the number %d", got)
	}
	if further >= c.pages-id {
		return fault("it has %d further pages of %d", further, c.pages)
	}
	p, err := c.read(id, int64(further+1)*c.pageSize)
	if err != nil {
		return fault("%w", err)
	}
	for i := range further + 1 {
		if c.seen[id+i] {
			return fault("it is used twice")
		}
		c.seen[id+i] = true
	}
	return p, nil
}

// read reads the first bytes of a page.
func (c *checker) read(id uint64, size int64) ([]byte, error) {
	at := int64(id) * c.pageSize
	if end := at + size; end > c.size || at < 0 {
		return nil, fmt.Errorf("it ends at byte %d, the file at %d", end, c.size)
	}
	p := make([]byte, size)
	_, err := c.file.ReadAt(p, at)
	return p, err
}

// tree checks a page and all below it. Its keys are at least low, and less than high unless that is nil.
func (c *checker) tree(id uint64, low, high []byte) error {
	p, err := c.page(id)
	if err != nil {
		return err
	}
	if err := c.elements(p, low, high); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (c *checker) elements(p, low, high []byte) error {
	flags, count := order.Uint16(p[8:]), int(order.Uint16(p[10:]))
	if flags != branchPage && flags != leafPage {
		return fmt.Errorf("it has the flags %#x", flags)
	}
	if flags == branchPage && count == 0 || pageHeader+count*elementSize > len(p) {
		return fmt.Errorf("it has %d elements", count)
	}
	keys := make([][]byte, count)
	for i := range count {
		at := pageHeader + i*elementSize
		e := p[at:]
		var pos, size, value uint64
		if flags == branchPage {
			pos, size = uint64(order.Uint32(e)), uint64(order.Uint32(e[4:]))
		} else {
			pos, size, value = uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		}
		if size == 0 || pos+size+value > uint64(len(e)) {
			return fmt.Errorf("element %d of %d has no key, or ends outside of it", i, count)
		}
		keys[i] = e[pos : pos+size]
		if i == 0 && bytes.Compare(keys[i], low) < 0 || i > 0 && bytes.Compare(keys[i], keys[i-1]) <= 0 ||
			high != nil && bytes.Compare(keys[i], high) >= 0 {
			return fmt.Errorf("element %d of %d is out of order", i, count)
		}
		if flags == leafPage && order.Uint32(e)&bucketElement != 0 {
			if err := c.bucket(e[pos+size : pos+size+value]); err != nil {
				return fmt.Errorf("bucket %.60q: %w", keys[i], err)
			}
		}
	}
	if flags == leafPage {
		return nil
	}
	for i := range keys {
		end := high
		if i+1 < count {
			end = keys[i+1]
		}
		if err := c.tree(order.Uint64(p[pageHeader+i*elementSize+8:]), keys[i], end); err != nil {
			return err
		}
	}
	return nil
}

// bucket checks the value that is a bucket.
func (c *checker) bucket(value []byte) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("its header has %d bytes", len(value))
	}
	if root := order.Uint64(value); root != 0 {
		return c.tree(root, nil, nil)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || order.Uint16(inline[8:]) != leafPage {
		return errors.New("it has no page")
	}
	return c.elements(inline, nil, nil)
}

// freelist checks that no page is both free and in use.
func (c *checker) freelist(id uint64) error {
	p, err := c.page(id)
	if err != nil {
		return err
	}
	if flags := order.Uint16(p[8:]); flags != freelistPage {
		return fmt.Errorf("page %d: it has the flags %#x, and is the list of free pages", id, flags)
	}
	ids, count := p[pageHeader:], uint64(order.Uint16(p[10:]))
	if count == 0xFFFF { // the count does not fit in
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids))/8 {
		return fmt.Errorf("page %d: it lists %d free pages", id, count)
	}
	for i := range count {
		if free := order.Uint64(ids[8*i:]); free < 2 || free >= c.pages || c.seen[free] {
			return fmt.Errorf("page %d: page %d is listed as free", id, free)
		}
	}
	return nil
}
