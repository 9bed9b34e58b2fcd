//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// agiproxy is the program, in processes that take each other's place.
type agiproxy struct {
	binary, config, log string
	address, admin      string
	backends            []*backend
	first               *exec.Cmd
	client              *http.Client
}

// startProxy starts the program and waits until it listens.
func startProxy(binary, scratch string, backends []*backend) (*agiproxy, error) {
	p := &agiproxy{
		binary: binary, config: filepath.Join(scratch, "agiproxy.yaml"), log: filepath.Join(scratch, "log"),
		address: "127.0.0.1:4577", admin: "127.0.0.1:9577", backends: backends,
		// A connection that stays would be one of the descriptors that are counted.
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	if err := p.configure(nil); err != nil {
		return nil, err
	}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.first = exec.Command(binary, "serve", "--config", p.config)
	p.first.Stdout, p.first.Stderr = log, log
	if err := p.first.Start(); err != nil {
		return nil, err
	}
	go p.first.Wait()
	for range 100 {
		if _, err := p.metrics(); err == nil {
			return p, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	p.kill()
	text, err := os.ReadFile(p.log)
	return nil, fmt.Errorf("agiproxy doesn't start: %s, %v", text, err)
}

// configure writes a configuration: always the same without a random, else one of
// many. Only what calls rely on stays: the listener, the pools and their promises.
func (p *agiproxy) configure(random *rand.Rand) error {
	choose := func(choices ...string) string {
		if random == nil {
			return choices[0]
		}
		return choices[random.IntN(len(choices))]
	}
	var list []string
	for i, b := range p.backends {
		if i == len(p.backends)-1 && choose("with", "without") == "without" {
			continue
		}
		list = append(list, fmt.Sprintf("{name: %s, address: %q, weight: %s}", b.name, b.addr, choose("1", "2", "5")))
	}
	pool := func(loss string) string {
		return fmt.Sprintf(`
    on_backend_loss: %s
    replay: unanswered
    balance: %s
    queue: %s
    slow_start: %s
    hangup_timeout: 10s
    health: {interval: %s, fast_interval: 100ms}
    backends: [%s]
`, loss, choose("least-connections", "round-robin", "random", "hash"), choose("{timeout: 5s, limit: 1000}", "{}", "{timeout: 10s, limit: 1000}"),
			choose("0s", "3s"), choose("500ms", "1s", "2s"), strings.Join(list, ", "))
	}
	second := choose("", `, {address: "127.0.0.1:4578"}`)
	text := fmt.Sprintf("listeners: [{address: %q, header_timeout: %s}%s]\nadmin: {address: %q}\nlog: {level: %s}\npools:\n  ivr:%s  plain:%s"+
		"routes: [{match: {script: \"plain/*\"}, pool: plain}, {pool: ivr}]\n",
		p.address, choose("5s", "10s"), second, p.admin, choose("info"), pool("resume"), pool("failure"))
	return os.WriteFile(p.config, []byte(text), 0o600)
}

// pids returns the processes, the oldest first.
func (p *agiproxy) pids() (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/exe") // the pattern is right
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != p.binary {
			continue // it has ended, or is somebody else
		}
		command, err := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err == nil && strings.Contains(string(command), "\x00serve\x00") && pid != 0 {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// pid returns the process that serves, if there is but one.
func (p *agiproxy) pid() (int, error) {
	pids := p.pids()
	if len(pids) != 1 {
		return 0, fmt.Errorf("agiproxy's processes are %v; want one", pids)
	}
	return pids[0], nil
}

// metrics returns the samples, by the name with its labels.
func (p *agiproxy) metrics() (map[string]float64, error) {
	resp, err := p.client.Get("http://" + p.admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return nil, err
	}
	samples := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			samples[line[:i]] = v
		}
	}
	return samples, nil
}

// reload has the configuration read again, and waits until it is in force.
func (p *agiproxy) reload() error {
	pid, err := p.pid()
	if err != nil {
		return err
	}
	const at = "agiproxy_config_last_reload_success_timestamp_seconds"
	before, err := p.metrics()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return err
	}
	for range 100 {
		time.Sleep(100 * time.Millisecond)
		if now, err := p.metrics(); err == nil && now[at] > before[at] {
			return nil
		}
	}
	return errors.New("no reload within 10s")
}

// upgradePatience is how long the process before may take to end: sessions that
// could not move end in it. When a server dies under long calls, many are just waiting
// for the end of a command; they then go on with another server, in the old process.
const upgradePatience = 5 * time.Minute

// upgrade has another process take over, by the command or the signal, and waits
// until the one before has ended.
func (p *agiproxy) upgrade(bySignal bool) error {
	old, err := p.pid()
	if err != nil {
		return err
	}
	if bySignal {
		err = syscall.Kill(old, syscall.SIGUSR2)
	} else {
		var out []byte
		if out, err = exec.Command(p.binary, "upgrade", "--admin", p.admin).CombinedOutput(); err != nil {
			err = fmt.Errorf("agiproxy upgrade: %w: %s", err, out)
		}
	}
	if err != nil {
		return err
	}
	for range upgradePatience / (100 * time.Millisecond) {
		if now, err := p.pid(); err == nil && now != old {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%v after the upgrade of process %d there are %v", upgradePatience, old, p.pids())
}

// stop ends it in order.
func (p *agiproxy) stop() error {
	pid, err := p.pid()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	for range 100 {
		if len(p.pids()) == 0 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("agiproxy doesn't end within 10s, without a call")
}

// kill ends what is left of it.
func (p *agiproxy) kill() {
	for _, pid := range p.pids() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
}
