package diag

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/build"
)

// network lists the interfaces and their addresses.
func network() string {
	interfaces, err := net.Interfaces()
	if err != nil {
		return "no interfaces: " + err.Error() + "\n"
	}
	var b strings.Builder
	for _, i := range interfaces {
		fmt.Fprintf(&b, "%s: MTU %d, %s\n", i.Name, i.MTU, i.Flags)
		addresses, err := i.Addrs()
		if err != nil {
			fmt.Fprintf(&b, "  no addresses: %v\n", err)
		}
		for _, a := range addresses {
			fmt.Fprintf(&b, "  %s\n", a)
		}
	}
	b.WriteString("\n/etc/resolv.conf:\n" + readProc("/etc/resolv.conf"))
	return b.String()
}

// system tells of the program, the machine, and what the kernel allows.
func system() string {
	var b strings.Builder
	fmt.Fprintf(&b, "connector %s (%s)\n%s/%s, %d processors, GOMAXPROCS %d\n", build.Version(), build.Toolchain(),
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.GOMAXPROCS(0))
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			fmt.Fprintf(&b, "  %s=%s\n", s.Key, s.Value)
		}
	}
	for _, path := range []string{
		"/proc/version", "/proc/loadavg", "/proc/uptime",
		"/proc/sys/net/ipv4/tcp_congestion_control", "/proc/sys/net/ipv4/tcp_available_congestion_control",
		"/proc/sys/net/ipv4/tcp_allowed_congestion_control", "/proc/sys/net/core/default_qdisc", "/proc/sys/net/core/rmem_max",
		"/proc/sys/net/core/wmem_max", "/proc/self/limits",
	} {
		fmt.Fprintf(&b, "\n%s:\n%s", path, readProc(path))
	}
	return b.String()
}

func readProc(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "  not there: " + err.Error() + "\n"
	}
	return strings.TrimRight(string(text), "\n") + "\n"
}
