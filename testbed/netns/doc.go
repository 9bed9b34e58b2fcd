// Package netns holds the tests of agiproxy on a network that fails: packets are
// lost, late, or too large for the path, hosts vanish, come back without memory of
// their connections, or get another address.
//
// Each host is a network namespace of Linux, with a kernel's TCP of its own. What
// joins them is a program, the suite itself, which sees every packet and does to it
// what a test asks for: so no kernel needs netem, nothing outside of the suite is
// touched, and all of it is gone with the process. Times are the real ones: a peer
// that is gone without a word is found out after a minute, and so that the suite takes
// little more than that, all tests run at once.
//
// It runs with AGIPROXY_NETNS=1, as root, in the namespaces that testbed/netns/run
// makes.
package netns
