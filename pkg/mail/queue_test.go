package mail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/mail"
	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// scripted answers each attempt at an address with the next error of its script, then with nil.
type scripted struct {
	mu     sync.Mutex
	script map[string][]error
	took   time.Duration
	at     map[string][]time.Time
	most   int // attempts under way at once
	now    int
}

func (s *scripted) Send(ctx context.Context, m mail.Message) error {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	if s.at == nil {
		s.at = map[string][]time.Time{}
	}
	s.at[m.To] = append(s.at[m.To], time.Now())
	var err error
	if todo := s.script[m.To]; len(todo) > 0 {
		err, s.script[m.To] = todo[0], todo[1:]
	}
	s.mu.Unlock()
	select {
	case <-time.After(s.took):
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.mu.Lock()
	s.now--
	s.mu.Unlock()
	return err
}

func run(t *testing.T, sender mail.Sender, cfg mail.QueueConfig, f func(q *mail.Queue)) (logged string, metrics *metric.Registry) {
	t.Helper()
	var text bytes.Buffer
	cfg.Logger = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&text), zap.DebugLevel))
	cfg.Sender, cfg.Metrics = sender, metric.New()
	q := mail.NewQueue(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	f(q)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return text.String(), cfg.Metrics
}

func count(t *testing.T, m *metric.Registry, result string) float64 {
	t.Helper()
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "sallyport_mail_messages_total" {
			continue
		}
		for _, one := range f.GetMetric() {
			if one.GetLabel()[0].GetValue() == result {
				return one.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func repeat(err error, n int) []error {
	out := make([]error, n)
	for i := range out {
		out[i] = err
	}
	return out
}

func TestRetriesBackOffAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{script: map[string][]error{
			"grey@x.example": repeat(&mail.SendError{Stage: "hand over", Code: 451}, 2),
			"dead@x.example": repeat(&mail.SendError{Stage: "connect"}, 1000),
			"no@x.example":   repeat(&mail.SendError{Stage: "hand over", Code: 550, Permanent: true}, 1000),
			"odd@x.example":  repeat(errors.New("mail: recipient cannot be written as an address"), 1000),
		}}
		logged, metrics := run(t, s, mail.QueueConfig{}, func(q *mail.Queue) {
			for _, to := range []string{"grey", "dead", "no", "odd", "fine"} {
				if err := q.Enqueue(mail.Message{To: to + "@x.example"}); err != nil {
					t.Fatal(err)
				}
			}
			<-time.After(2 * mail.GiveUp)
		})
		for to, want := range map[string]int{"grey": 3, "no": 1, "odd": 1, "fine": 1} {
			if got := len(s.at[to+"@x.example"]); got != want {
				t.Errorf("%s: %d attempts, want %d", to, got, want)
			}
		}
		dead := s.at["dead@x.example"]
		if total := dead[len(dead)-1].Sub(dead[0]); len(dead) < 5 || len(dead) > 15 || total > mail.GiveUp || total < mail.GiveUp/2 {
			t.Errorf("dead: %d attempts over %v", len(dead), total)
		}
		for i := 2; i < len(dead); i++ {
			if dead[i].Sub(dead[i-1]) < dead[i-1].Sub(dead[i-2]) {
				t.Errorf("dead: waits become shorter: %v", dead)
			}
		}
		for result, want := range map[string]float64{"sent": 2, "refused": 1, "dropped": 2} {
			if got := count(t, metrics, result); got != want {
				t.Errorf("%s: %v, want %v", result, got, want)
			}
		}
		if strings.Contains(logged, "@") || !strings.Contains(logged, "given up") {
			t.Errorf("log:\n%s", logged)
		}
	})
}

// A mail server that is down must not hold up the edge's restart, nor cost a message its first try.
func TestDrainTriesEachMessageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{took: time.Second, script: map[string][]error{"dead@x.example": repeat(&mail.SendError{Stage: "connect"}, 1000)}}
		logged, metrics := run(t, s, mail.QueueConfig{Workers: 1}, func(q *mail.Queue) {
			for _, to := range []string{"dead", "fine"} {
				if err := q.Enqueue(mail.Message{To: to + "@x.example"}); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			q.Drain(context.Background())
			if took := time.Since(began); took != 2*time.Second {
				t.Errorf("drained in %v", took)
			}
		})
		if count(t, metrics, "sent") != 1 || !strings.Contains(logged, "mail is lost") {
			t.Errorf("%v sent, log:\n%s", count(t, metrics, "sent"), logged)
		}
	})
}

// One slow or dead mailbox does not hold the others up, and no message is forgotten.
func TestEveryMessageIsSentSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{took: time.Second}
		_, metrics := run(t, s, mail.QueueConfig{Workers: 4}, func(q *mail.Queue) {
			began := time.Now()
			for i := range 100 {
				if err := q.Enqueue(mail.Message{To: fmt.Sprintf("u%d@x.example", i)}); err != nil {
					t.Fatal(err)
				}
			}
			q.Drain(context.Background())
			if took := time.Since(began); took != 25*time.Second {
				t.Errorf("100 messages of 1 s by 4 workers took %v", took)
			}
		})
		if s.most != 4 || count(t, metrics, "sent") != 100 {
			t.Errorf("%d at once, %v sent", s.most, count(t, metrics, "sent"))
		}
	})
}

func TestAFullQueueSaysSoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{took: time.Hour}
		_, metrics := run(t, s, mail.QueueConfig{Size: 10, Workers: 2}, func(q *mail.Queue) {
			refused := 0
			for range 30 {
				if err := q.Enqueue(mail.Message{To: "u@x.example"}); fault.Is(err, fault.Exhausted) {
					refused++
				}
			}
			if refused != 20 {
				t.Errorf("%d refused, want 20", refused)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			q.Drain(ctx) // bounded although nothing gets sent
		})
		if count(t, metrics, "overflow") != 20 {
			t.Errorf("overflow: %v", count(t, metrics, "overflow"))
		}
	})
}
