package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"

	"wxproxy/internal/words"
)

// replaceFile puts text in place of what a file holds, which must still be was. Whoever reads it
// meanwhile sees the one or the other. Mode and owner stay, and a symbolic link goes on naming the
// file. An error means that nothing has changed.
func replaceFile(path string, was, text []byte) (err error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return words.New(words.FileNotRegular, "file", target)
	}
	fresh, err := os.CreateTemp(filepath.Dir(target), ".wxproxy-*.yaml") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(fresh.Name()) // the first error is returned
		}
	}()
	_, err = fresh.Write(text)
	if err == nil {
		err = keepOwner(fresh, info)
	}
	if err == nil {
		err = fresh.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = fresh.Sync()
	}
	if err = errors.Join(err, fresh.Close()); err != nil {
		return err
	}
	now, err := os.ReadFile(target)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, was) {
		return words.New(words.FileChanged, "file", target)
	}
	return os.Rename(fresh.Name(), target)
}
