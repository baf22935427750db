package audit

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

// retryPause is how long outcomes rest after a failed commit when no decision comes to try it sooner.
const retryPause = 500 * time.Millisecond

// batch is what goes in one commit. Outcomes stay in it until they are stored.
type batch struct {
	entries  []*entry
	outcomes []Outcome
	failing  bool
	// last is how many decisions the commit before had, took how long that was.
	last int
	took time.Duration
}

// many is how many decisions in one commit say that more will be there in a moment.
const many = 8

// Run commits until ctx ends or Close is called; then it stores all that was let in and returns nil. It may be called once.
func (r *Recorder) Run(ctx context.Context) error {
	if !r.begun.CompareAndSwap(false, true) {
		return errors.New("audit: the recorder runs already")
	}
	defer close(r.ended)
	var b batch
	linger := time.NewTimer(0)
	linger.Stop()
	defer linger.Stop()
	lingers := false
	for {
		outcomes := r.outcomes
		if len(b.outcomes) >= r.cfg.Batch {
			outcomes = nil // what cannot be stored yet stays bounded here; the rest waits in the queue
		}
		select {
		case e := <-r.decisions:
			b.take(e)
		case o := <-outcomes:
			b.outcomes = append(b.outcomes, o)
			if len(b.outcomes) < r.cfg.Batch && !lingers {
				linger.Reset(r.cfg.Linger)
				lingers = true
			}
			if len(b.outcomes) < r.cfg.Batch || b.failing {
				continue
			}
		case <-linger.C:
		case <-ctx.Done():
			r.finish(&b)
			return nil
		case <-r.closing:
			r.finish(&b)
			return nil
		}
		if len(b.entries) > 0 && b.last >= many {
			r.await(&b)
		}
		r.fill(&b)
		r.commit(&b)
		linger.Stop()
		if lingers = len(b.outcomes) > 0; lingers {
			linger.Reset(retryPause)
		}
	}
}

// take adds a decision unless its caller gave up.
func (b *batch) take(e *entry) {
	if e.taken.CompareAndSwap(false, true) {
		b.entries = append(b.entries, e)
	}
}

// await takes the decisions that come meanwhile: for as long as the commit before took, which lets twice as many share one, and
// no longer than Company.
func (r *Recorder) await(b *batch) {
	timer := time.NewTimer(min(b.took, r.cfg.Company))
	defer timer.Stop()
	for len(b.entries) < r.cfg.Batch {
		select {
		case e := <-r.decisions:
			b.take(e)
		case <-timer.C:
			return
		case <-r.closing:
			return
		}
	}
}

// fill takes what is waiting now, up to the size of a batch.
func (r *Recorder) fill(b *batch) {
	for len(b.entries) < r.cfg.Batch {
		select {
		case e := <-r.decisions:
			b.take(e)
			continue
		default:
		}
		break
	}
	for len(b.outcomes) < r.cfg.Batch {
		select {
		case o := <-r.outcomes:
			b.outcomes = append(b.outcomes, o)
			continue
		default:
		}
		break
	}
}

// commit stores the batch and answers its decisions.
func (r *Recorder) commit(b *batch) {
	if len(b.entries) == 0 && len(b.outcomes) == 0 {
		return
	}
	b.last = len(b.entries)
	decisions := make([]Decision, len(b.entries))
	for i, e := range b.entries {
		decisions[i] = e.decision
	}
	r.meters.queue.Set(float64(len(r.decisions)))
	r.meters.batch.Observe(float64(len(decisions)))
	// Run's ctx is not used: a commit that began is finished also when the process is ending.
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.DecideLimit)
	defer cancel()
	start := time.Now()
	sequences, err := r.store.Append(ctx, decisions, b.outcomes)
	b.took = time.Since(start)
	r.meters.commit.Observe(b.took.Seconds())
	if err == nil && len(sequences) != len(decisions) {
		err = errors.New("audit: the store numbered another count of decisions than it was given")
	}
	r.tell(b, err)
	for i, e := range b.entries {
		if err != nil {
			e.done <- answer{err: refusal(err)}
		} else {
			e.done <- answer{sequence: sequences[i]}
		}
	}
	clear(b.entries)
	b.entries = b.entries[:0]
	if err == nil {
		b.outcomes = b.outcomes[:0]
	}
}

// tell logs when the store begins to fail and when it works again. It is the one place that does: the callers, hundreds
// of them at such a time, only refuse.
func (r *Recorder) tell(b *batch, err error) {
	if err != nil {
		r.meters.refused.Add(float64(len(b.entries)))
	}
	switch {
	case err != nil && !b.failing:
		r.logger.Error("decisions cannot be recorded: requests are refused until they can", zap.Error(err))
	case err == nil && b.failing:
		r.logger.Info("decisions can be recorded again")
	}
	b.failing = err != nil
}

// finish stores all that was let in. Decisions are answered at the first try; outcomes are tried again for FlushLimit.
func (r *Recorder) finish(b *batch) {
	r.shut()
	limit := time.NewTimer(r.cfg.FlushLimit)
	defer limit.Stop()
	for {
		r.fill(b)
		if len(b.entries) == 0 && len(b.outcomes) == 0 {
			return
		}
		r.commit(b)
		if !b.failing || len(r.decisions) > 0 {
			continue
		}
		select {
		case <-limit.C:
			r.lose(len(b.outcomes) + len(r.outcomes))
			return
		case <-time.After(r.cfg.FlushLimit / 10):
		}
	}
}
