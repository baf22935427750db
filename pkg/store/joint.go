package store

import (
	"context"
	"slices"
	"sync"
)

// manyAtOnce is how many are answered in one transaction at most, so that other writes get their turn.
const manyAtOnce = 128

// joint has callers who ask at a time share a transaction. A commit waits for the disk however little is in it, and there are fewer
// connections that write than callers.
type joint[Q any] struct {
	// answer answers all of them; its error ends the transaction, and is everybody's. It is called again for the same questions when
	// the transaction begins again.
	answer func(ctx context.Context, tx *tx, all []*question[Q]) error

	turn chan struct{} // held by the caller that writes, for the others too

	mu    sync.Mutex // guards asked
	asked []*question[Q]
}

// question is one caller's, with what it was told once done is closed.
type question[Q any] struct {
	of   Q
	err  error
	done chan struct{}
}

func newJoint[Q any](answer func(ctx context.Context, tx *tx, all []*question[Q]) error) *joint[Q] {
	return &joint[Q]{answer: answer, turn: make(chan struct{}, 1)}
}

func newQuestion[Q any](of Q) *question[Q] { return &question[Q]{of: of, done: make(chan struct{})} }

// take returns the questions that have waited longest.
func (j *joint[Q]) take() []*question[Q] {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := min(len(j.asked), manyAtOnce)
	taken := slices.Clone(j.asked[:n])
	j.asked = slices.Delete(j.asked, 0, n)
	return taken
}

// withdraw reports whether nobody has taken the question yet, and nobody will.
func (j *joint[Q]) withdraw(one *question[Q]) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	at := slices.Index(j.asked, one)
	if at < 0 {
		return false
	}
	j.asked = slices.Delete(j.asked, at, at+1)
	return true
}

func (q *question[Q]) answered() bool {
	select {
	case <-q.done:
		return true
	default:
		return false
	}
}

// ask returns the question with its answer.
func (j *joint[Q]) ask(ctx context.Context, db *DB, of Q) (Q, error) {
	mine := newQuestion(of)
	j.mu.Lock()
	j.asked = append(j.asked, mine)
	j.mu.Unlock()
	var err error
	select {
	case <-mine.done:
	case j.turn <- struct{}{}:
		for err == nil && !mine.answered() {
			err = j.write(ctx, db)
		}
		<-j.turn
	case <-ctx.Done():
		err = waiting(ctx, ctx.Err())
	}
	if err != nil && j.withdraw(mine) {
		return of, err
	}
	<-mine.done
	return mine.of, mine.err
}

// write answers those who ask when the writer's turn has come. An error that none of them has been told is that of a caller
// who did not get the turn.
func (j *joint[Q]) write(ctx context.Context, db *DB) error {
	var taken []*question[Q]
	err := db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		if taken == nil { // and not when the transaction begins again
			taken = j.take()
		}
		for _, one := range taken {
			one.err = nil
		}
		return j.answer(ctx, tx, taken)
	})
	for _, one := range taken {
		if err != nil {
			one.err = err
		}
		close(one.done)
	}
	return err
}

// order sorts questions, so that two edges lock rows in the same order and neither waits for the other for ever.
func order[Q any](all []*question[Q], compare func(a, b Q) int) {
	slices.SortStableFunc(all, func(a, b *question[Q]) int { return compare(a.of, b.of) })
}
