//go:build linux

package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Machine is where a comparison was made.
type Machine struct {
	Processor  string  `json:"processor"`
	Processors int     `json:"processors"`
	Memory     string  `json:"memory"`
	Kernel     string  `json:"kernel"`
	System     string  `json:"system"`
	Virtual    bool    `json:"virtual"`
	Go         string  `json:"go"`
	Load       float64 `json:"load"`       // average, before it began
	Tracked    bool    `json:"tracked"`    // a firewall follows loopback connections, which costs everybody
	Congestion string  `json:"congestion"` // control of TCP
}

// thisMachine says what is known of this one; what can't be found out stays
// empty.
func thisMachine() Machine {
	m := Machine{Processors: runtime.NumCPU(), Go: runtime.Version(), Load: loadAverage()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	m.Tracked = strings.TrimSpace(contents("/proc/sys/net/netfilter/nf_conntrack_count")) > "0"
	m.Congestion = strings.TrimSpace(contents("/proc/sys/net/ipv4/tcp_congestion_control"))
	cpu := contents("/proc/cpuinfo")
	m.Processor = after(cpu, "model name\t: ")
	m.Virtual = strings.Contains(after(cpu, "flags\t\t: "), " hypervisor")
	if kB, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(after(contents("/proc/meminfo"), "MemTotal:")), " kB")); err == nil {
		m.Memory = fmt.Sprintf("%.0f GiB", float64(kB)/(1<<20))
	}
	m.System = strings.Trim(after(contents("/etc/os-release"), "PRETTY_NAME="), `"`)
	return m
}

// version asks a program for its version; the first line of its answer that has
// one is taken.
func (p *peer) version() string {
	arg := map[string]string{haproxyFamily: "-v", nginxFamily: "-v", agiproxyFamily: "version"}[p.family]
	if arg == "" {
		return ""
	}
	out, err := exec.Command(p.program, arg).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	line, _, _ = strings.Cut(line, " - ")
	return strings.TrimPrefix(strings.TrimSpace(line), "nginx version: ")
}

// sum tells a program from every other one; "" if there is none.
func (p *peer) sum() string {
	b, err := os.ReadFile(p.program)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%.6x", sha256.Sum256(b))
}

func loadAverage() float64 {
	first, _, _ := strings.Cut(contents("/proc/loadavg"), " ")
	v, _ := strconv.ParseFloat(first, 64) // 0 if it can't be told
	return v
}

func contents(file string) string {
	b, _ := os.ReadFile(file) // "" if it can't be read
	return string(b)
}

// after returns the rest of the line that begins with key.
func after(text, key string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimRight(rest, "\n")
		}
	}
	return ""
}
