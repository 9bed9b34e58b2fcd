package config_test

import (
	"fmt"

	"agiproxy/config"
)

func ExampleParse() {
	cfg, err := config.Parse("agiproxy.yaml", []byte(`
pools:
  ivr:
    backends: [10.0.0.11:4573, 10.0.0.12:4573]
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	pool := cfg.Pools[0]
	fmt.Println(cfg.Listeners[0].Address, "→", pool.Name, pool.Balance)
	for _, b := range pool.Backends {
		fmt.Println(b.Address)
	}
	// Output:
	// :4577 → ivr least-connections
	// 10.0.0.11:4573
	// 10.0.0.12:4573
}

func ExampleFaults() {
	_, err := config.Parse("agiproxy.yaml", []byte(`
pools:
  ivr:
    attempts: 0
    balance: leastconn
    backend: [10.0.0.11:4573]
routes:
  - match: {script: "~("}
    pool: ivr
admin: {addres: ""}
`))
	fmt.Println(err)
	// Output:
	// agiproxy.yaml:3:3: pool "ivr": no backends; want at least one, such as {address: "10.0.0.11:4573"}
	// agiproxy.yaml:4:15: attempts: 0 is out of bounds; want a whole number from 1 to 100
	// agiproxy.yaml:5:14: balance: "leastconn" is unknown; want round-robin, least-connections, random, hash or first; did you mean least-connections?
	// agiproxy.yaml:6:5: unknown key "backend"; want one of attempts, backends, balance, commands, connect_timeout, dispatch_timeout, ejection, fallback, first_command_timeout, hangup_timeout, hash_field, health, hedge_delay, max_sessions, on_backend_loss, panic_threshold, queue, replay, send_proxy_protocol, slow_start, think_timeout, tls; did you mean backends?
	// agiproxy.yaml:8:21: match.script: "~(": missing closing ): "("
	// agiproxy.yaml:10:9: unknown key "admin.addres"; want one of address, hosts, profiling, web_config_file; did you mean address?
}
