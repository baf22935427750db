package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// clinic is what the demo sets up: one tenant, one site, one doctor, one app.
type clinic struct {
	options
	*supervisor
	originURL string
	standIn   bool
}

const (
	edgeHost   = "edge.localhost"
	appHost    = "oscar.maple.localhost"
	doctor     = "dr.lee@maple.example"
	startLimit = 60 * time.Second

	// The programs' own defaults, where /ready and /metrics are.
	edgeLoopback      = 9465
	connectorLoopback = 9466
)

func (c *clinic) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

func (c *clinic) startMail(ctx context.Context) error {
	if err := c.start("mail", nil, filepath.Join(c.bin, "smtpsink"),
		"-smtp", fmt.Sprintf("127.0.0.1:%d", c.smtp), "-http", fmt.Sprintf("127.0.0.1:%d", c.inbox), "-ca", c.path("mail-ca.pem")); err != nil {
		return err
	}
	return waitTCP(ctx, fmt.Sprintf("127.0.0.1:%d", c.smtp))
}

func (c *clinic) startOrigin(ctx context.Context) error {
	if c.origin != "" {
		c.originURL = strings.TrimSuffix(c.origin, "/")
		return nil
	}
	c.originURL = fmt.Sprintf("https://127.0.0.1:%d", c.tomcat)
	address := fmt.Sprintf("127.0.0.1:%d", c.tomcat)
	env := []string{"TOMCAT_DIR=" + c.path("tomcat"), fmt.Sprintf("TOMCAT_HTTPS_PORT=%d", c.tomcat)}
	if err := c.startTomcat(ctx, env, address); err == nil {
		return nil
	}
	c.standIn = true
	fmt.Print("\n  Tomcat cannot be had here: a stand-in written in Go takes its place …")
	if err := c.start("origin", nil, filepath.Join(c.bin, "standin"), "-https", address); err != nil {
		return err
	}
	return waitTCP(ctx, address)
}

// startTomcat asks the script first whether this machine can run Tomcat at all, so that the supervisor does not try for ever.
func (c *clinic) startTomcat(ctx context.Context, env []string, address string) error {
	check := exec.CommandContext(ctx, "scripts/tomcat.sh", "check")
	if err := check.Run(); err != nil {
		return err
	}
	if err := c.start("origin", env, "scripts/tomcat.sh", "run"); err != nil {
		return err
	}
	return waitTCP(ctx, address)
}

func (c *clinic) startEdge(ctx context.Context) error {
	quic := "true"
	if c.noQUIC {
		quic = "false"
	}
	config := fmt.Sprintf(`state_dir: %s
host: %s
listen: 127.0.0.1:%d
quic: %s
log: {format: json, level: info}
mail: {host: localhost, port: %d, from: sallyport@maple.example, ca_file: %s}
loopback: 127.0.0.1:%d
`, c.path("edge"), edgeHost, c.edgePort, quic, c.smtp, c.path("mail-ca.pem"), edgeLoopback)
	if err := os.WriteFile(c.path("edge.yaml"), []byte(config), 0o600); err != nil {
		return err
	}
	if err := c.edge(ctx, nil, "init"); err != nil {
		return err
	}
	if err := c.start("edge", nil, filepath.Join(c.bin, "edge"), "serve", "--config", c.path("edge.yaml")); err != nil {
		return err
	}
	return wait(ctx, func(ctx context.Context) error { return c.edge(ctx, nil, "tenant", "list") })
}

// edge runs one command of the edge program against the demo's edge.
func (c *clinic) edge(ctx context.Context, out *string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "edge"), append(args, "--config", c.path("edge.yaml"))...)
	text, err := cmd.Output()
	if out != nil {
		*out = strings.TrimSpace(string(text))
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return fmt.Errorf("edge %s: %s", strings.Join(args, " "), strings.TrimSpace(string(failed.Stderr)))
	}
	return err
}

func (c *clinic) setUp(ctx context.Context) error {
	for _, args := range [][]string{
		{"tenant", "create", "maple", "--name", "Maple Family Clinic", "--zone", "America/Toronto"},
		{"site", "create", "main", "--tenant", "maple"},
		{"user", "add", doctor, "--tenant", "maple"},
		{"app", "create", "--tenant", "maple", "--host", appHost, "--site", "main", "--allow", doctor, "--websocket", "/oscar"},
	} {
		if err := c.edge(ctx, nil, args...); err != nil {
			return err
		}
	}
	return nil
}

func (c *clinic) startConnector(ctx context.Context) error {
	var line string
	if err := c.edge(ctx, &line, "connector", "invite", "--tenant", "maple", "--site", "main"); err != nil {
		return err
	}
	pin, err := c.originPin(ctx)
	if err != nil {
		return err
	}
	rules := fmt.Sprintf("rules:\n  - host: %s\n    origin: %s\n    preset: oscar\n%s  - status: 404\n", appHost, c.originURL, pin)
	if err := os.WriteFile(c.path("ingress.yaml"), []byte(rules), 0o600); err != nil {
		return err
	}
	config := fmt.Sprintf("state_dir: %s\ningress: %s\nloopback: 127.0.0.1:%d\n", c.path("connector"), c.path("ingress.yaml"), connectorLoopback)
	if err := os.WriteFile(c.path("connector.yaml"), []byte(config), 0o600); err != nil {
		return err
	}
	// The line is pasted as it is; only the program's place and the configuration differ from a clinic's machine.
	words := strings.Fields(line)
	for i, w := range words {
		words[i] = strings.Trim(w, "'")
	}
	if len(words) < 2 || words[0] != "connector" {
		return fmt.Errorf("unexpected invitation %q", line)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "connector"), append(words[1:], "--config", c.path("connector.yaml"))...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("connector enroll: %s", strings.TrimSpace(string(text)))
	}
	return c.start("connector", nil, filepath.Join(c.bin, "connector"), "run", "--config", c.path("connector.yaml"))
}

// originPin looks the origin's certificate up and pins it, as the clinic's IT person would.
func (c *clinic) originPin(ctx context.Context) (string, error) {
	if !strings.HasPrefix(c.originURL, "https://") {
		return "", nil
	}
	text, err := exec.CommandContext(ctx, filepath.Join(c.bin, "connector"), "ingress", "pin", c.originURL).Output()
	if err != nil {
		return "", fmt.Errorf("reading the certificate of %s: %w", c.originURL, err)
	}
	return fmt.Sprintf("    tls: {pin_sha256: %q}\n", strings.TrimSpace(string(text))), nil
}

// waitForOrigin asks for the app as a stranger until the edge answers; what lies behind the sign-in is the visitor's to see.
func (c *clinic) waitForOrigin(ctx context.Context) error {
	pem, err := os.ReadFile(c.path("edge", "ca", "ca.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{
		Timeout:       5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", c.edgePort))
			},
		},
	}
	return wait(ctx, func(ctx context.Context) error {
		var up string
		if err := c.edge(ctx, &up, "connector", "list", "--tenant", "maple", "--output", "json"); err != nil {
			return err
		}
		if !strings.Contains(up, "transport") {
			return errors.New("the connector has no link yet")
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://%s:%d/", appHost, c.edgePort), nil)
		if err != nil {
			return err
		}
		req.Header.Set("Sec-Fetch-Mode", "navigate")
		req.Header.Set("Sec-Fetch-Site", "none")
		req.Header.Set("Sec-Fetch-Dest", "document")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusSeeOther {
			return fmt.Errorf("the edge answered %s", resp.Status)
		}
		return nil
	})
}

func (c *clinic) explain() {
	what, login := "the OSCAR-like application on Tomcat", "OSCAR     oscardoc / mac2002, pin 1117 (the application's own log-in, of the demo alone)\n"
	switch {
	case c.origin != "":
		what, login = c.origin, ""
	case c.standIn:
		what = "a stand-in for the OSCAR-like application (this machine has no Tomcat)"
	}
	fmt.Printf(`
Open      https://%[1]s:%[2]d/oscar/     (%[3]s)
Sign in   as %[4]s; the code arrives at http://127.0.0.1:%[5]d/
%[10]s
Your browser will warn: the certificate comes from a CA made just for this demo, %[6]s.
Is it well?  curl http://127.0.0.1:%[8]d/ready (edge), http://127.0.0.1:%[9]d/ready (connector)
State and logs are in %[7]s; kill any of the processes and watch it come back. Ctrl-C stops everything.
`, appHost, c.edgePort, what, doctor, c.inbox, c.path("edge", "ca", "ca.pem"), c.dir, edgeLoopback, connectorLoopback, login)
}

func waitTCP(ctx context.Context, address string) error {
	return wait(ctx, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// wait tries until it works; the last error is what the visitor is told.
func wait(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
