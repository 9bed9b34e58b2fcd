# Every target is one command; what it does stands in the script.
.PHONY: build test check fuzz gosec bench gobench balance profile chaos soak testbed netns compose browser package deb release hooks

build: ## the program, into ./agiproxy
	tools/build

test: ## everything: check, real calls on a real Asterisk, the compose file
	tools/test

check: ## what needs no root, only Go and a C compiler: formatting, vet, staticcheck, tests with -race, fuzzing, known vulnerabilities
	tools/check

fuzz: ## ten minutes of each fuzz target
	tools/fuzz 10m

gosec: ## what gosec finds in the code; building it takes minutes
	tools/gosec/run

bench: ## agiproxy beside HAProxy and nginx, one more run for docs/performance.md; ten minutes on a machine that does nothing else
	testbed/bench/run

gobench: ## the Go benchmarks, six times each, for benchstat
	tools/gobench

balance: ## the balancing policies compared, in virtual time, into docs/balancing.md; a minute
	go run ./testbed/balance

profile: ## where agiproxy's processor time goes under load, into cpu.pprof; a minute
	tools/profile

chaos: ## what becomes of 500 calls whose servers come and go, beside HAProxy, for docs/failover.md; four minutes
	testbed/chaos

soak: ## half an hour of mixed calls, kills, reloads and upgrades, for docs/soak.md
	testbed/soak/run

testbed: ## real calls on a real Asterisk
	testbed/run -v

netns: ## a network that fails: loss, delay, machines that vanish, reboot and move; root, /dev/net/tun
	testbed/netns/run

compose: ## deploy/docker-compose.yml, run for real
	testbed/compose/run

browser: ## the status page in a real browser; Chromium
	testbed/browser/run -v

package: ## a Debian package's life in a chroot, from its installation to its purge; root
	testbed/package/run

deb: ## Debian packages, into dist/
	tools/release

release: ## archives and Debian packages for linux/amd64 and arm64, SBOMs and checksums, into dist/; made twice, and compared
	tools/release --twice dist

hooks: ## has git run the seconds-long part of check before each commit
	git config core.hooksPath .githooks
