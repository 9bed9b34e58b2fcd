// Package agi is the protocol that Asterisk and its FastAGI servers speak: the
// header that opens a session, the command and reply lines that follow it, and
// the state of such a dialogue as seen by somebody who stands in between.
//
// It has no sockets and no policy: everything here is shown bytes and answers
// questions about them. Segmentation never matters; what a type says of a
// stream doesn't depend on where the stream was cut.
//
// Protocol facts come from Asterisk's res/res_agi.c and from sessions recorded
// with Asterisk 22.10, which are the test data of this package.
package agi

// DefaultPort is where Asterisk expects a FastAGI server if the URL names no
// port (AGI_PORT in res_agi.c).
const DefaultPort = 4573

// MaxLine is the longest command line, its line feed included, that every byte
// of reaches Asterisk as one command: fgets into a buffer of 8192 bytes
// (AGI_BUF_LEN in res_agi.c) leaves the rest to be run as further commands.
const MaxLine = 8191
