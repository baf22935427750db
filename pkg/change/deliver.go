package change

import (
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"
)

// brokenError says that the log does not continue where a follower stopped reading.
type brokenError struct{ words string }

func (e *brokenError) Error() string { return "change log: " + e.words }

// look delivers what is new. Its error is about reading the log; a subscriber's failure is logged here.
func (f *Follower) look(ctx context.Context) error {
	if err := f.again(ctx); err != nil {
		return err
	}
	reader := &reader{log: f.log, newest: f.newest}
	for _, s := range f.subscribers {
		for {
			more, err := f.deliver(ctx, reader, s)
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	f.newest = reader.newest
	return nil
}

// again moves every subscriber to the present version, and notes that it has to read everything, if that is due.
func (f *Follower) again(ctx context.Context) error {
	f.mu.Lock()
	due := f.restart
	f.mu.Unlock()
	if !due {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	version, err := f.log.Version(ctx)
	if err != nil {
		return fmt.Errorf("change log: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// What comes after version is delivered, what was before is in what is read.
	for _, s := range f.subscribers {
		s.cursor, s.all = version, true
	}
	f.restart, f.newest = false, Change{}
	return nil
}

// deliver takes one page to one subscriber and reports whether another may follow.
func (f *Follower) deliver(ctx context.Context, reader *reader, s *subscriber) (more bool, err error) {
	if s.all {
		if !f.call(ctx, s, everything()) {
			return false, nil
		}
		s.all = false
	}
	changes, err := reader.after(ctx, s.cursor)
	if err != nil || len(changes) == 0 {
		return false, err
	}
	if !f.call(ctx, s, changes) {
		return false, nil
	}
	f.mu.Lock()
	s.cursor = changes[len(changes)-1].Version
	close(f.moved)
	f.moved = make(chan struct{})
	f.mu.Unlock()
	return len(changes) == page, nil
}

func everything() (all []Change) {
	for _, kind := range Kinds() {
		all = append(all, Anything(kind))
	}
	return all
}

// call hands a subscriber the changes of its kinds; false means that it must be told again.
func (f *Follower) call(ctx context.Context, s *subscriber, changes []Change) bool {
	mine := changes
	if len(s.kinds) > 0 {
		mine = slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return !slices.Contains(s.kinds, c.Kind) })
	}
	if len(mine) == 0 {
		return true
	}
	limit := callLimit
	if s.all {
		limit = allLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := s.call(ctx, mine)
	switch {
	case err != nil && !s.failing:
		f.logger.Error("a copy could not follow a change; it will be told again",
			zap.String("subscriber", s.name), zap.Int64("version", mine[0].Version), zap.Error(err))
	case err == nil && s.failing:
		f.logger.Info("a copy follows again", zap.String("subscriber", s.name))
	}
	s.failing = err != nil
	return err == nil
}

// reader reads pages of the log and keeps the last one: most subscribers are at the same place.
type reader struct {
	log    Log
	newest Change // the last that was ever read
	from   int64
	got    []Change
	read   bool
}

// after returns the changes that follow version, and makes sure that none is missing: versions have no gaps. With them comes the change at
// version itself: where that is another one than before, or none, this is not the log that was read before.
func (r *reader) after(ctx context.Context, version int64) ([]Change, error) {
	if r.read && r.from == version {
		return r.got, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	changes, err := r.log.Since(ctx, max(version-1, 0), page+1)
	if err != nil {
		return nil, fmt.Errorf("change log: %w", err)
	}
	if version > 0 {
		if changes, err = r.past(ctx, version, changes); err != nil {
			return nil, err
		}
	}
	last := version
	for _, c := range changes {
		if c.Version != last+1 {
			return nil, &brokenError{fmt.Sprintf("version %d follows %d: the rows between were pruned before they were read", c.Version, last)}
		}
		last = c.Version
	}
	changes = changes[:min(len(changes), page)]
	if n := len(changes); n > 0 && changes[n-1].Version > r.newest.Version {
		r.newest = changes[n-1]
	}
	r.from, r.got, r.read = version, changes, true
	return changes, nil
}

// past takes the change at version off, having compared it with what was read before.
func (r *reader) past(ctx context.Context, version int64, changes []Change) ([]Change, error) {
	known := r.newest.Version == version
	switch {
	case len(changes) > 0 && changes[0].Version == version:
		if known && changes[0] != r.newest {
			return nil, &brokenError{fmt.Sprintf("version %d is another change than it was: this is an earlier copy of the database, which has gone another way", version)}
		}
		if !known && version > r.newest.Version {
			r.newest = changes[0]
		}
		return changes[1:], nil
	case len(changes) > 0 && !known:
		return changes, nil // it was pruned, or never there: a store that was moved has only what came after
	}
	newest, err := r.log.Version(ctx)
	if err != nil {
		return nil, fmt.Errorf("change log: %w", err)
	}
	if newest < version || known {
		return nil, &brokenError{fmt.Sprintf("it ends at version %d, and was read up to %d: this is an earlier copy of the database", newest, version)}
	}
	return changes, nil
}
