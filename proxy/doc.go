// Package proxy carries FastAGI sessions: it takes a connection from Asterisk,
// reads the header, finds the pool and a backend for it, and passes the
// dialogue on until one side ends it.
//
// A [Session] is a state machine without I/O of its own. It is told what
// happened and answers by calls that do not block, through the interfaces
// [Host] and [Conn]; so the same machine runs on event loops over sockets and
// in a simulated network. All of a session happens on one loop, which a
// [Worker] stands for: a session holds no lock and starts no goroutine.
//
// What a session may be served by is a [Table], one version of the
// configuration: built whole, published once by [Server.Swap], never changed.
// A session keeps the pool that it was routed to.
package proxy
