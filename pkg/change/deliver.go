package change

import (
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"
)

// gapError says that the log does not continue where a follower stopped reading.
type gapError struct{ after, found int64 }

func (e *gapError) Error() string {
	return fmt.Sprintf("change log: version %d follows %d: the rows between were pruned before they were read", e.found, e.after)
}

// look delivers what is new. Its error is about reading the log; a subscriber's failure is logged here.
func (f *Follower) look(ctx context.Context) error {
	reader := &reader{log: f.log}
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
	return nil
}

// deliver takes one page to one subscriber and reports whether another may follow.
func (f *Follower) deliver(ctx context.Context, reader *reader, s *subscriber) (more bool, err error) {
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

// call hands a subscriber the changes of its kinds; false means that it must be told again.
func (f *Follower) call(ctx context.Context, s *subscriber, changes []Change) bool {
	mine := changes
	if len(s.kinds) > 0 {
		mine = slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return !slices.Contains(s.kinds, c.Kind) })
	}
	if len(mine) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
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
	log  Log
	from int64
	got  []Change
	read bool
}

// after returns the changes that follow version, and makes sure that none is missing: versions have no gaps.
func (r *reader) after(ctx context.Context, version int64) ([]Change, error) {
	if r.read && r.from == version {
		return r.got, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	changes, err := r.log.Since(ctx, version, page)
	if err != nil {
		return nil, fmt.Errorf("change log: %w", err)
	}
	last := version
	for _, c := range changes {
		if c.Version != last+1 {
			return nil, &gapError{after: last, found: c.Version}
		}
		last = c.Version
	}
	r.from, r.got, r.read = version, changes, true
	return changes, nil
}
