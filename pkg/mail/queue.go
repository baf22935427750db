package mail

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// Sender is where the queue hands messages to.
type Sender interface {
	Send(ctx context.Context, msg Message) error
}

var _ Sender = (*Mailer)(nil)

// The bounds of a queue.
const (
	DefaultSize    = 500
	DefaultWorkers = 4
	// GiveUp is how long a message is tried: a sign-in code is worth nothing much later.
	GiveUp = 5 * time.Minute

	firstRetry = 3 * time.Second
	lastRetry  = time.Minute
)

// QueueConfig builds a Queue; Sender is required, the rest has defaults.
type QueueConfig struct {
	Sender  Sender
	Size    int // messages waiting, DefaultSize
	Workers int // messages under way at once, DefaultWorkers
	Logger  *zap.Logger
	Metrics *metric.Registry
}

// Queue sends in the background, so that how long the mail server takes never shows in an answer. It lives in memory: what
// waits when the process ends is lost, and people ask for another code.
type Queue struct {
	sender  Sender
	size    int
	workers int
	logger  *zap.Logger
	counted *prometheus.CounterVec
	waiting prometheus.Gauge

	wake chan struct{}

	mu      sync.Mutex // guards the fields below
	jobs    []*job
	sending int
	idle    chan struct{} // non-nil while Drain waits; closed when nothing is left
}

type job struct {
	msg     Message
	due     time.Time
	giveUp  time.Time
	backoff time.Duration
	tried   bool
}

// NewQueue returns a queue that sends nothing until Run.
func NewQueue(cfg QueueConfig) *Queue {
	q := &Queue{sender: cfg.Sender, size: cfg.Size, workers: cfg.Workers, logger: cfg.Logger, wake: make(chan struct{}, 1)}
	if q.size == 0 {
		q.size = DefaultSize
	}
	if q.workers == 0 {
		q.workers = DefaultWorkers
	}
	if q.logger == nil {
		q.logger = zap.NewNop()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metric.New()
	}
	q.counted = cfg.Metrics.Counter("sallyport_mail_messages_total",
		"Outgoing messages by what became of them: sent, retried, dropped (given up), refused (by the server), overflow.", "result")
	q.waiting = cfg.Metrics.Gauge("sallyport_mail_queue_messages", "Messages that wait to be sent.").WithLabelValues()
	return q
}

// Enqueue takes a message and returns at once; fault.Exhausted when the queue is full.
func (q *Queue) Enqueue(msg Message) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs)+q.sending >= q.size {
		q.counted.WithLabelValues("overflow").Inc()
		return fault.New(fault.Exhausted, "too much mail is waiting to be sent")
	}
	now := time.Now()
	q.put(&job{msg: msg, due: now, giveUp: now.Add(GiveUp), backoff: firstRetry})
	return nil
}

// Run sends until ctx ends, then waits for what is under way (each message is bounded by its Sender).
func (q *Queue) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range q.workers {
		wg.Go(func() {
			for j := q.next(ctx); j != nil; j = q.next(ctx) {
				q.finish(j, q.sender.Send(ctx, j.msg))
			}
		})
	}
	wg.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	if left := len(q.jobs); left > 0 {
		q.logger.Warn("mail is lost that was not sent before the end", zap.Int("messages", left))
	}
	return nil
}

// busy reports whether there are messages that were never tried; the caller holds mu.
func (q *Queue) busy() bool {
	return q.sending > 0 || slices.ContainsFunc(q.jobs, func(j *job) bool { return !j.tried })
}

// Drain waits until every message was tried once or ctx ends. What the server put off is not waited for: a restart would take
// as long as the server does. Run must still be running.
func (q *Queue) Drain(ctx context.Context) {
	q.mu.Lock()
	if !q.busy() {
		q.mu.Unlock()
		return
	}
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle := q.idle
	q.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// next waits for a message that is due; nil when ctx ends.
func (q *Queue) next(ctx context.Context) *job {
	for ctx.Err() == nil {
		j, wait := q.takeDue(time.Now())
		if j != nil {
			return j
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// takeDue returns a due message, or how long until one may be.
func (q *Queue) takeDue(now time.Time) (*job, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) == 0 {
		return nil, GiveUp
	}
	j := q.jobs[0]
	if wait := j.due.Sub(now); wait > 0 {
		return nil, wait
	}
	q.jobs = slices.Delete(q.jobs, 0, 1)
	q.sending++
	q.waiting.Set(float64(len(q.jobs)))
	if len(q.jobs) > 0 {
		// One signal wakes one worker; pass it on so that the others do not sleep beside work.
		q.signal()
	}
	return j, 0
}

func (q *Queue) finish(j *job, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sending--
	j.tried = true
	now := time.Now()
	var send *SendError
	switch {
	case err == nil:
		q.counted.WithLabelValues("sent").Inc()
	case errors.As(err, &send) && !send.Permanent && now.Add(j.backoff).Before(j.giveUp):
		q.counted.WithLabelValues("retried").Inc()
		q.logger.Warn("mail not sent yet, trying again", zap.Error(send), zap.Duration("after", j.backoff))
		j.due, j.backoff = now.Add(j.backoff), min(2*j.backoff, lastRetry)
		q.put(j)
	case errors.As(err, &send) && send.Permanent:
		q.counted.WithLabelValues("refused").Inc()
		q.logger.Warn("mail refused by the mail server", zap.Error(send))
	default:
		q.counted.WithLabelValues("dropped").Inc()
		q.logger.Error("mail given up; check the mail server with `edge mail test`", zap.Error(err))
	}
	if q.idle != nil && !q.busy() {
		close(q.idle)
		q.idle = nil
	}
}

// put keeps the jobs sorted by due; the caller holds mu.
func (q *Queue) put(j *job) {
	at, _ := slices.BinarySearchFunc(q.jobs, j, func(a, b *job) int {
		if a.due.After(b.due) {
			return 1
		}
		return -1 // equal ones stay in order of arrival
	})
	q.jobs = slices.Insert(q.jobs, at, j)
	q.waiting.Set(float64(len(q.jobs)))
	q.signal()
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
