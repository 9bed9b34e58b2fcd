package proxy

import (
	"bytes"
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
