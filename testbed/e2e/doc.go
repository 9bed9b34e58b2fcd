// Package e2e holds the end-to-end suite: a real Asterisk calls real FastAGI
// servers through the built agiproxy, and a real Prometheus tells what its metrics
// said. It runs with AGIPROXY_E2E=1, as root, on a machine where testbed/run has
// prepared the lab; testbed/README.md says more.
package e2e
