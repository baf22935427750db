package edge

import (
	"fmt"
	"slices"

	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/mail"
)

// Source is where an edge reads its configuration again.
type Source = conf.Source[Config]

// Follow makes Run read the configuration again when its file changes, and Reload whenever it is called. Call it before Run.
func (e *Edge) Follow(source Source) { e.reloader.Follow(source) }

// Reload reads the configuration again and puts in force what can change while the edge serves. A faulty one changes nothing;
// the log, the metrics and /ready tell of it. Without Follow it does nothing.
func (e *Edge) Reload() { e.reloader.Reload() }

func (e *Edge) newReloader() *conf.Reloader[Config] {
	return conf.NewReloader(e.config, conf.Reloading[Config]{
		Apply: e.reconfigure, Restart: "edge restart", Logger: e.logger, Metrics: e.metrics,
		// Certificates are not among these: they are watched where they are served from.
		Files: func(c Config) []string {
			if c.Mail.CAFile == "" {
				return nil
			}
			return []string{c.Mail.CAFile}
		},
	})
}

// reconfigure puts next in force as far as that goes; what can fail comes first.
func (e *Edge) reconfigure(now, next Config, changed []string) (Config, error) {
	mailer, err := mail.FromConfig(next.Mail)
	if err != nil {
		return now, err
	}
	// The local CA stands in when there are no files; which of the two it is, is settled at start.
	if slices.Contains(changed, "certificates") && len(now.Certificates) > 0 && len(next.Certificates) > 0 {
		if err := e.certs.Replace(next.pairs()); err != nil {
			return now, err
		}
		now.Certificates = next.Certificates
	}
	e.mailer.Use(mailer) // also when only the file that it names has changed
	now.Mail = next.Mail
	if now.Log.Level != next.Log.Level {
		set, err := e.reloader.SetLevel(next.Log.Level)
		if err != nil {
			return now, fmt.Errorf("log.level: %w", err) // not after Validate
		}
		if set {
			now.Log.Level = next.Log.Level
		}
	}
	now.Edges, now.Drain = next.Edges, next.Drain
	e.inForce.Store(&now)
	e.tellEdges()
	return now, nil
}
