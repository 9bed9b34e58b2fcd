package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// A call that was served and one that nobody could serve, as they are logged at
// each level.
func TestRecordIsLogged(t *testing.T) {
	const (
		completed = "[INFO]  session ended: outcome=completed pool=ivr backend=ivr1 script=ivr/menu client=127.0.0.1:40000" +
			" uniqueid=1795373249.17 channel=Local/s@default-00000001;2 attempts=1 commands=1 dispatch=0s duration=2ms bytes=524\n"
		noBackend = "[WARN]  session ended: outcome=no_backend pool=ivr backend=\"\" script=ivr/menu client=127.0.0.1:40000" +
			" uniqueid=1795373249.17 channel=Local/s@default-00000001;2 attempts=0 commands=0 dispatch=0s duration=0s bytes=0" +
			" error=\"no backend can serve\"\n"
	)
	for level, want := range map[hclog.Level]string{
		hclog.Debug: completed + noBackend, hclog.Info: completed + noBackend, hclog.Warn: noBackend, hclog.Error: "",
	} {
		var out bytes.Buffer
		s := newStage(Options{Log: hclog.New(&hclog.LoggerOptions{Output: &out, Level: level, DisableTime: true})}, limits())
		s.establish(plainHeader)
		s.finish()
		s.server.Table().Pools[0].Backends().Backends()[0].SetUp(false)
		s.accept(asteriskAddr)
		s.handler.Received(plainHeader)
		s.handler.Closed(nil)
		if got := out.String(); got != want {
			t.Errorf("at level %v:\n%swant:\n%s", level, got, want)
		}
	}
}

// What comes from callers and backends is always one value of one record: it begins no
// line, ends no quotes and steers no terminal.
func TestPeersForgeNoRecords(t *testing.T) {
	const (
		script  = "menu\" outcome=completed\r\x1b[2J\u009b1m\u202e\\\t[ERROR] x"
		command = "EXEC System \"\x1b]0;x\a\" pool=other\r[ERROR] y"
	)
	// None of them is a part of a line, nor would be shown.
	steers := regexp.MustCompile(`[\x00-\x09\x0b-\x1f\x7f\x{80}-\x{9f}\x{202e}]`)
	for _, asJSON := range []bool{false, true} {
		var log bytes.Buffer
		o := Options{Log: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Debug, DisableTime: true, JSONFormat: asJSON})}
		s := ruled(o, CommandRules{Deny: []string{"EXEC System"}})
		h := fmt.Sprintf("agi_network: yes\nagi_network_script: %s\nagi_channel: SIP/%s\nagi_uniqueid: %s\n\n", script, script, script)
		s.establish([]byte(h))
		s.exchange([]byte(command+"\n"), []byte("510 Invalid or unknown command\n"))
		s.finish()
		lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		if len(lines) != 2 {
			t.Fatalf("JSON %v: logged\n%s\nwant two records, a line each", asJSON, log.String())
		}
		if asJSON {
			var denied, ended struct{ Script, Channel, Uniqueid, Line, Pool, Outcome string }
			if err := json.Unmarshal([]byte(lines[0]), &denied); err != nil || denied.Line != command || denied.Pool != "ivr" {
				t.Errorf("the refused line is logged as %s (%v); want the line %q of pool ivr", lines[0], err, command)
			}
			if err := json.Unmarshal([]byte(lines[1]), &ended); err != nil || ended.Script != script || ended.Channel != "SIP/"+script || ended.Uniqueid != script {
				t.Errorf("the session is logged as %s (%v); want %q in script, channel and uniqueid", lines[1], err, script)
			}
			continue
		}
		if found := steers.FindString(log.String()); found != "" {
			t.Errorf("logged as text:\n%s\nwant no %q", log.String(), found)
		}
		// What stands in quotes belongs to one value.
		bare := regexp.MustCompile(`"(\\.|[^"\\])*"`).ReplaceAllString(log.String(), "Q")
		for _, forged := range []string{"[ERROR]", "pool=other"} {
			if strings.Contains(bare, forged) {
				t.Errorf("logged as text:\n%s\nwant %s in quotes only", log.String(), forged)
			}
		}
		if n := strings.Count(bare, "outcome="); n != 1 {
			t.Errorf("logged as text:\n%s\n%d outcomes outside of quotes; want 1", log.String(), n)
		}
	}
}
