package conf

import (
	"context"
	"crypto/sha256"
	"io"
	"maps"
	"os"
	"time"
)

// WatchEvery is how often a Watcher looks unless told otherwise. What was changed is acted on after one to two times that.
const WatchEvery = 2 * time.Second

// maxWatched bounds how much of one file is looked at, bytes; what follows is judged by the file's size alone.
const maxWatched = 4 << 20

// Watcher notices that files have other bytes than before. It looks at them every few seconds rather than waiting for the
// file system's word: that also works for files that are replaced by rename, reached over symbolic links (as mounted
// configuration is) or over a network, and for those that are not there yet. The bytes count, not the time of the change.
type Watcher struct {
	every time.Duration
	files func() []string
	seen  map[string]digest
}

// digest is the SHA-256 of a file's bytes and its length, or the zero value for one that cannot be read.
type digest struct {
	sum  [sha256.Size]byte
	size int64
}

// NewWatcher notes what the files hold now, so make it before reading them: a change between reading them and Run is noticed
// then. files is asked at each look, because one file may name others. every is 0 for WatchEvery.
func NewWatcher(every time.Duration, files func() []string) *Watcher {
	if every <= 0 {
		every = WatchEvery
	}
	w := &Watcher{every: every, files: files}
	w.seen = w.look()
	return w
}

// Run calls changed, from its own goroutine, whenever the files differ from what they were at the call before and have stayed
// as they are for one look, so that a file is not read while it is being written in two steps. A file that files names for
// the first time counts as changed. It returns when ctx ends.
func (w *Watcher) Run(ctx context.Context, changed func()) {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	before := w.seen
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := w.look()
		settled := maps.Equal(now, before)
		before = now
		if settled && !maps.Equal(now, w.seen) {
			w.seen = now
			changed()
		}
	}
}

func (w *Watcher) look() map[string]digest {
	all := map[string]digest{}
	for _, name := range w.files() {
		all[name] = read(name)
	}
	return all
}

// read gives the zero digest for what cannot be read: whoever loads the file says what is wrong with it. Only a plain file is
// opened, because a pipe would block.
func read(name string) digest {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return digest{}
	}
	f, err := os.Open(name)
	if err != nil {
		return digest{}
	}
	defer func() { _ = f.Close() }() // it was only read
	h := sha256.New()
	// io.Copy's own buffer of 32 KiB, each time, would be most of what an idle connector allocates.
	buffer := make([]byte, min(max(info.Size(), 512), 32<<10))
	if _, err := io.CopyBuffer(h, io.LimitReader(f, maxWatched), buffer); err != nil {
		return digest{}
	}
	return digest{sum: [sha256.Size]byte(h.Sum(nil)), size: info.Size()}
}
