// Command demo runs a whole Sallyport on this machine: an OSCAR-like application on Tomcat, a connector beside it, an edge,
// and a mail server whose inbox can be read in the browser. Each is a process of its own and is started again when it is
// killed. Ctrl-C stops everything.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are the demo's flags; the defaults are its documented ports.
type options struct {
	origin   string
	bin      string
	dir      string
	edgePort int
	tomcat   int
	smtp     int
	inbox    int
	noQUIC   bool
	cluster  bool
	rounds   int
	only     string
	how      string
	frozen   time.Duration
}

func main() {
	o := options{}
	flag.StringVar(&o.origin, "origin", "", "use your own server, https://host:port, in place of the application on Tomcat")
	flag.StringVar(&o.bin, "bin", "bin", "directory with the edge and connector programs")
	flag.StringVar(&o.dir, "dir", ".demo", "directory for the demo's state and logs; emptied at start")
	flag.IntVar(&o.edgePort, "port", 8443, "the edge's port, TCP and UDP")
	flag.IntVar(&o.tomcat, "tomcat-port", 9443, "Tomcat's https port")
	flag.IntVar(&o.smtp, "smtp-port", 2525, "the mail server's port")
	flag.IntVar(&o.inbox, "inbox-port", 8025, "the port of the page that shows the inbox")
	flag.BoolVar(&o.noQUIC, "no-quic", false, "leave UDP closed, so that the connector falls back to WebSocket")
	flag.BoolVar(&o.cluster, "cluster", false, "run a cluster instead, break each part in turn under a load, print what failed, and end")
	flag.IntVar(&o.rounds, "rounds", 1, "with -cluster: how often each part is broken")
	flag.StringVar(&o.only, "part", "", "with -cluster: break only the parts whose name begins so, a list (edge, edge2, maple, postgresql)")
	flag.StringVar(&o.how, "how", "", "with -cluster: break them only in the ways that begin so, a list (stopped, replaced, killed, frozen)")
	flag.DurationVar(&o.frozen, "frozen", 10*time.Second, "with -cluster: how long a connector, or the database, stands still")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := demo
	if o.cluster {
		run = demoCluster
	}
	if err := run(ctx, o); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// step is one part of setting up.
type step struct {
	what string
	do   func(context.Context) error
}

// inOrder does the steps and tells how long each took.
func inOrder(ctx context.Context, logs string, steps []step) error {
	for _, step := range steps {
		began := time.Now()
		fmt.Printf("%-36s", step.what+" …")
		if err := step.do(ctx); err != nil {
			fmt.Println()
			return fmt.Errorf("%s: %w (logs are in %s)", step.what, err, logs)
		}
		fmt.Printf(" %.1f s\n", time.Since(began).Seconds())
	}
	return nil
}

// prepare empties the directory and makes the paths absolute.
func (o *options) prepare() (err error) {
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	if err := os.RemoveAll(o.dir); err != nil {
		return err
	}
	return os.MkdirAll(o.logs(), 0o700)
}

func (o *options) logs() string { return filepath.Join(o.dir, "logs") }

func demo(ctx context.Context, o options) error {
	if err := o.check(); err != nil {
		return err
	}
	if err := o.prepare(); err != nil {
		return err
	}
	s := newSupervisor(ctx, o.logs())
	defer s.stopAll()
	c := clinic{options: o, supervisor: s}
	err := inOrder(ctx, o.logs(), []step{
		{"mail server", c.startMail},
		{"OSCAR-like application", c.startOrigin},
		{"edge", c.startEdge},
		{"clinic, site, doctor, app", c.setUp},
		{"connector", c.startConnector},
		{"first request through the tunnel", c.waitForOrigin},
	})
	if err != nil {
		return err
	}
	c.explain()
	<-ctx.Done()
	fmt.Println("\nstopping …")
	return nil
}

// check finds what would go wrong later and says it now.
func (o options) check() error {
	var faults []error
	for what, port := range map[string]int{"edge (-port)": o.edgePort, "Tomcat (-tomcat-port)": o.tomcat, "mail (-smtp-port)": o.smtp, "inbox (-inbox-port)": o.inbox, "edge's /ready": edgeLoopback, "connector's /ready": connectorLoopback} {
		if o.origin != "" && port == o.tomcat {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			faults = append(faults, fmt.Errorf("port %d for %s is taken: stop what has it, or choose another", port, what))
			continue
		}
		faults = append(faults, l.Close())
	}
	if o.origin != "" {
		u, err := url.Parse(o.origin)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || (u.Path != "" && u.Path != "/") {
			faults = append(faults, fmt.Errorf("origin %q: write https://host:port", o.origin))
		}
	}
	return errors.Join(faults...)
}
