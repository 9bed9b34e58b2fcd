package config

import (
	"slices"
	"strings"
	"testing"
)

func TestWarnings(t *testing.T) {
	const two = "backends: ['10.0.0.1:4573', '10.0.0.2:4573']"
	for name, test := range map[string]struct {
		pool, rest string
		want       []string // what the warnings have, one each
	}{
		"defaults":         {two, "", nil},
		"no room":          {two + ", connect_timeout: 15s", "", []string{"pool ivr: dispatch_timeout, 20s, has no room for 2 attempts of connect_timeout, 15s: after 1 at most"}},
		"just room":        {two + ", connect_timeout: 10s", "", nil},
		"one backend":      {"backends: ['10.0.0.1:4573'], connect_timeout: 15s", "", nil},
		"silence":          {two + ", replay: unanswered, first_command_timeout: 15s", "", []string{"2 attempts of first_command_timeout, 15s"}},
		"silence is lost":  {two + ", first_command_timeout: 15s", "", nil},
		"resume alone":     {"backends: ['10.0.0.1:4573'], on_backend_loss: resume", "", []string{"on_backend_loss: resume finds no other backend"}},
		"resume":           {two + ", on_backend_loss: resume", "", nil},
		"first":            {two + ", balance: first", "", []string{"gives all calls to 10.0.0.1:4573"}},
		"first with room":  {"backends: [{address: '10.0.0.1:4573', max_sessions: 5}, '10.0.0.2:4573'], balance: first", "", nil},
		"hash by nothing":  {two + ", balance: hash, hash_field: agi_calleridnum", "", []string{"Asterisk doesn't send agi_calleridnum"}},
		"hash":             {two + ", balance: hash, hash_field: agi_arg_1", "", nil},
		"a field unsent":   {two, "routes: [{match: {agi_exten: x}, pool: ivr}, {pool: ivr}]", []string{"routes: the one in place 1 wants agi_exten"}},
		"a slash too many": {two, "routes: [{match: {script: /billing}, pool: ivr}, {pool: ivr}]", []string{`wants the script "/billing"`}},
		"any proxy":        {two, "listeners: [{address: ':4577', accept_proxy_protocol: [any]}]", []string{"listener :4577: accept_proxy_protocol has all"}},
		"one proxy":        {two, "listeners: [{address: ':4577', accept_proxy_protocol: [10.0.0.9]}]", nil},
		"fields sent":      {two, "routes: [{match: {agi_extension: x, script: y, host: z, agi_attempt: 2}, pool: ivr}, {pool: ivr}]", nil},
	} {
		c, err := Parse("f", []byte("pools: {ivr: {"+test.pool+"}}\n"+test.rest+"\n"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := c.Warnings()
		if !slices.EqualFunc(got, test.want, strings.Contains) {
			t.Errorf("%s: warned %q; want %q", name, got, test.want)
		}
	}
}
