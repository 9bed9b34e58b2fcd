// Package agisim plays either end of a FastAGI session over package net: an
// [Asterisk] that makes calls, and a [Server] that runs a script for each.
//
// Both are for demonstrations and tests, so they are simple where a real one is
// large, and exact where the difference would teach something wrong: the header
// comes line by line, a prompt is interrupted by the next command, HANGUP stands
// between replies and at the end, and a server that closes at once leaves the
// dialplan with SUCCESS. Facts come from Asterisk's res/res_agi.c and from
// sessions recorded with Asterisk 22.10.
package agisim
