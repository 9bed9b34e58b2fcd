package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// blocks returns what stands in the page between fences of that kind.
func blocks(t *testing.T, page, kind string) (all []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.FromSlash(page))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```"+kind+"\n(.*?)```").FindAllStringSubmatch(string(data), -1) {
		all = append(all, m[1])
	}
	return all
}

// docs/two-sites.md as it is written, but for the addresses: its commands make the
// certificates, its two files are the configurations.
func TestTwoSites(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip(err)
	}
	s := begin(t)
	page := "../../docs/two-sites.md"
	files, commands := blocks(t, page, "yaml"), blocks(t, page, "sh")
	if len(files) != 2 || len(commands) != 1 {
		t.Fatalf("%s has %d files and %d lists of commands; want 2 and 1", page, len(files), len(commands))
	}
	tls := filepath.Join(s.artefacts, "tls")
	if err := os.MkdirAll(tls, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tls) })
	shell := exec.Command("bash", "-ec", commands[0])
	shell.Dir = tls
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("the page's commands: %v\n%s", err, out)
	}
	atB := filepath.Join(s.artefacts, "tls-b")
	if err := os.CopyFS(atB, os.DirFS(tls)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(atB) })

	servers := s.perls(t, "fork", []string{"ivr1", "ivr2"})
	between := freeAddr()
	_, addr1 := servers[0].entry()
	_, addr2 := servers[1].entry()
	b := strings.NewReplacer(`":4578"`, `"`+between+`"`, "203.0.113.9", "127.0.0.1", "tls/", "tls-b/",
		"10.0.0.11:4573", addr1, "10.0.0.12:4573", addr2).Replace(files[1]) + "\nadmin: {address: \"\"}\n"
	config := filepath.Join(s.artefacts, "site-b.yaml")
	if err := os.WriteFile(config, []byte(b), 0o644); err != nil {
		t.Fatal(err)
	}
	far, err := s.start("agiproxy-site-b", exec.Command(s.agiproxy, "serve", "--config", config))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.kill() })
	eventually(t, 10*time.Second, "site B listens", func() bool {
		c, err := net.Dial("tcp", between)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})

	// The name stays the one in the certificate, as server_name: nothing resolves it here.
	a := strings.NewReplacer("127.0.0.1:4577", s.front, "agi.site-b.example.com:4578", between,
		"ca_file:", "server_name: agi.site-b.example.com\n      ca_file:").Replace(files[0]) +
		"\nadmin: {address: \"" + s.admin + "\"}\nlog: {level: info, format: json}\n"
	p := s.proxy(t, a)

	results := s.run(t, 60, 20, dial{exten: "108"})
	mustBeServed(t, results)
	if by := servedBy(results); by["ivr1"] < 15 || by["ivr2"] < 15 {
		t.Errorf("calls by server behind the other site: %v; want about 30 each", by)
	}
	p.account(t, results, map[string]int{"completed": 60})

	// Site B no longer knows A's authority.
	shell = exec.Command("bash", "-ec", strings.Split(commands[0], "issue()")[0])
	shell.Dir = atB // makes another authority of the same name
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("another authority: %v\n%s", err, out)
	}
	eventually(t, 15*time.Second, "site B has taken the file", func() bool {
		return strings.Contains(far.log(), "certificates reloaded")
	})
	refused := wait(t, 20*time.Second, s.placeOne(t, dial{exten: "108"}))
	if len(refused) != 1 || refused[0].status != "FAILURE" {
		t.Errorf("a call from a site that was locked out: %+v; want AGISTATUS=FAILURE", refused)
	}
	eventually(t, 5*time.Second, "site B's log says why", func() bool {
		return strings.Contains(far.log(), "x509: certificate signed by unknown authority")
	})
}
