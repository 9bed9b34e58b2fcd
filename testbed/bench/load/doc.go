// Package load plays many Asterisks and cheap FastAGI servers against whatever
// stands between them, and measures it.
//
// One event loop on one thread plays both sides, so that a command costs it
// four system calls and a share of a wait, and nothing is allocated for a
// command: what is measured should be the proxy. Every session, command and
// reply carries a number, and each side compares what comes to the byte with
// what must come, so that a crossed, lost, doubled or cut line is an error.
// Errors are counted, never retried.
//
// A caller is an Asterisk: it connects, sends its environment and answers
// commands. A server is a FastAGI server: it reads the environment, sends
// commands and closes.
package load
