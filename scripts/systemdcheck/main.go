// Command systemdcheck is run by scripts/systemd-check.sh in a container of its own whose first process is systemd. It installs edge
// and connector by the README's lines, and sees whether systemd follows what reload, restart, stop and a crash do, under load.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

const (
	edgeUnit, connectorUnit = "sallyport-edge", "sallyport-connector"

	edgeConfig = `host: edge.test
listen: ":443"
drain: {requests: 5s, upgraded: 5s}
`
	rules = `rules:
  - host: oscar.clinic.test
    origin: http://127.0.0.1:8081
  - status: 404
`
	// install is the README's for an operator, but for the certificate: edge init's own CA does.
	install = `useradd --system --no-create-home sallyport-edge
chgrp sallyport-edge /etc/sallyport/edge.yaml && chmod 640 /etc/sallyport/edge.yaml
edge init --config /etc/sallyport/edge.yaml
edge service unit --config /etc/sallyport/edge.yaml > /etc/systemd/system/sallyport-edge.service
systemctl enable --now sallyport-edge`
	clinic = `edge tenant create clinic --name "Clinic" --zone America/Toronto
edge site create main
edge app create --host oscar.clinic.test --site main --allow-service load`
)

func main() {
	if err := check(); err != nil {
		fmt.Fprintln(os.Stderr, "systemdcheck:", err)
		os.Exit(1)
	}
	fmt.Println("systemd follows edge and connector")
}

func check() error {
	if environment, _ := os.ReadFile("/proc/1/environ"); !strings.Contains(string(environment), "container=sallyport-check") {
		return errors.New("this changes the machine that it runs on: run scripts/systemd-check.sh, which makes one for it")
	}
	proxy, err := serveOriginAndProxy()
	if err != nil {
		return err
	}
	token, err := setUp()
	if err != nil {
		return err
	}
	if err := installConnector(proxy); err != nil {
		return err
	}
	l, err := newLoad(token)
	if err != nil {
		return err
	}
	if err := l.answered(); err != nil {
		return err
	}
	return errors.Join(unitsFollow(l), stopAndCrash(l))
}

// setUp installs the edge and makes a clinic; it returns a service's token.
func setUp() (token string, err error) {
	for path, text := range map[string]string{
		"/etc/hosts": "127.0.0.1 localhost edge.test oscar.clinic.test\n", "/etc/sallyport/edge.yaml": edgeConfig, "/etc/sallyport/ingress.yaml": rules,
	} {
		if err := errors.Join(os.MkdirAll("/etc/sallyport", 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return "", err
		}
	}
	if _, err := sh(install); err != nil {
		return "", fmt.Errorf("%w\n%s", err, journal())
	}
	if err := eventually("the edge to answer", func() error { _, err := sh("edge tenant list"); return err }); err != nil {
		return "", err
	}
	if _, err := sh(clinic); err != nil {
		return "", err
	}
	out, err := sh("edge token mint load --output json")
	if err != nil {
		return "", err
	}
	token = regexp.MustCompile(`eyJ[\w.-]+`).FindString(out)
	if token == "" {
		return "", fmt.Errorf("no token in %s", out)
	}
	return token, nil
}

// installConnector enrols and installs the connector through a proxy that HTTPS_PROXY names, and looks for its password.
func installConnector(p *proxy) error {
	invitation, err := sh("edge connector invite")
	if err != nil {
		return err
	}
	line := regexp.MustCompile(`(?m)^connector enroll .*$`).FindString(invitation)
	if line == "" {
		return fmt.Errorf("no line to paste in %s", invitation)
	}
	way := fmt.Sprintf("HTTPS_PROXY=http://clinic:%s@%s ", proxyPassword, p.address)
	for _, command := range []string{way + line, way + "connector service install"} {
		if _, err := sh(command); err != nil {
			return err
		}
	}
	if err := eventually("the connector to be ready", func() error { _, err := sh("connector ready"); return err }); err != nil {
		return err
	}
	if err := eventually("a link through the proxy", func() error {
		if p.carried.Load() == 0 {
			return errors.New("none")
		}
		return nil
	}); err != nil {
		return err
	}
	shown, err := sh("cat /etc/sallyport/connector.yaml; systemctl cat " + connectorUnit + "; systemctl show " + connectorUnit + "; ps axeww -o args; connector run --show-config")
	if err != nil {
		return err
	}
	if strings.Contains(shown, proxyPassword) {
		return fmt.Errorf("the proxy's password can be read by everybody:\n%s", shown)
	}
	fmt.Println("installed; the service goes through the installer's proxy, whose password nobody sees")
	return nil
}

// unitsFollow reloads and replaces both programs under load.
func unitsFollow(l *load) error {
	l.begin()
	for round := range 3 {
		for unit, restart := range map[string]string{
			edgeUnit: "edge restart --state-dir /var/lib/sallyport-edge", connectorUnit: "connector restart --state-dir /var/lib/sallyport-connector",
		} {
			before, err := show(unit)
			if err != nil {
				return err
			}
			if _, err := sh("systemctl reload " + unit); err != nil {
				return err
			}
			after, err := show(unit)
			if err != nil || after != before {
				return fmt.Errorf("%s: reload: %+v, before it %+v, %w", unit, after, before, err)
			}
			if _, err := sh(restart); err != nil {
				return fmt.Errorf("%w\n%s", err, journal())
			}
			if err := eventually("systemd to follow "+restart, func() error {
				after, err = show(unit)
				if err == nil && (after.mainPID == before.mainPID || after.active != "active" || after.restarts != before.restarts) {
					err = fmt.Errorf("%+v, before it %+v", after, before)
				}
				return err
			}); err != nil {
				return fmt.Errorf("%w\n%s", err, journal())
			}
			fmt.Printf("round %d: %s: main process %s, then %s\n", round+1, unit, before.mainPID, after.mainPID)
		}
	}
	return l.end()
}

// stopAndCrash looks at what becomes of the main process that systemd was told of last.
func stopAndCrash(l *load) error {
	for _, unit := range []string{edgeUnit, connectorUnit} {
		before, err := show(unit)
		if err != nil {
			return err
		}
		if _, err := sh("kill -9 " + before.mainPID); err != nil {
			return err
		}
		if err := eventually("systemd to start "+unit+" again", func() error {
			after, err := show(unit)
			if err == nil && (after.mainPID == before.mainPID || after.active != "active" || after.restarts == before.restarts) {
				err = fmt.Errorf("%+v, before it %+v", after, before)
			}
			return err
		}); err != nil {
			return err
		}
		if err := l.answered(); err != nil {
			return fmt.Errorf("after %s was killed: %w", unit, err)
		}
		fmt.Printf("%s: killed, and started again by systemd\n", unit)
	}
	for _, unit := range []string{connectorUnit, edgeUnit} {
		if _, err := sh("systemctl stop " + unit); err != nil {
			return err
		}
		out, err := sh("systemctl show -p ActiveState,Result,MainPID " + unit)
		if err != nil || !strings.Contains(out, "ActiveState=inactive") || !strings.Contains(out, "Result=success") || !strings.Contains(out, "MainPID=0") {
			return fmt.Errorf("%s: stopped: %s, %w", unit, out, err)
		}
		program := strings.TrimPrefix(unit, "sallyport-")
		if left, err := sh("ps ax -o args | grep '^/usr/local/bin/" + program + " ' || true"); err != nil || left != "" {
			return fmt.Errorf("%s: stopped, and runs still: %s %w", unit, left, err)
		}
		fmt.Printf("%s: stopped, and nothing of it is left\n", unit)
	}
	return nil
}

// state is what systemd knows of a unit.
type state struct{ mainPID, restarts, active string }

func show(unit string) (state, error) {
	out, err := sh("systemctl show -p MainPID,NRestarts,ActiveState " + unit)
	s := state{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "MainPID":
			s.mainPID = value
		case "NRestarts":
			s.restarts = value
		case "ActiveState":
			s.active = value
		}
	}
	return s, err
}

func journal() string {
	out, _ := sh("journalctl --no-pager -n 60 -o cat")
	return out
}

// sh runs lines of the README.
func sh(lines string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-ec", lines).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", lines, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// eventually tries until it works, for a minute.
func eventually(what string, try func() error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("waited a minute for %s: %w\n%s", what, err, journal())
		}
	}
}
