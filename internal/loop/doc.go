// Package loop moves bytes: event loops over connections that never block.
//
// A [Loop] is one thread that waits for what the kernel has to tell and calls
// the handlers of its connections, one after the other. Everything of a loop,
// its connections and their timers included, belongs to that thread: no method
// of [Conn] may be called from anywhere but a handler of the same loop or a
// function given to [Loop.Do]. So handlers need no lock, and must not block.
//
// What a loop promises:
//   - Events of one connection come in order, and none comes after Close.
//   - No method of Conn calls a handler: what a call brings about, an error
//     too, is told later.
//   - What the kernel will not take is kept, and Drained tells when it is gone, also
//     with the connection while that is paused.
//     Who writes is expected to look at Buffered and to stop reading from where
//     the bytes come.
//   - Bytes given to Received are valid during the call only.
//   - A write that fails doesn't end reading: what the peer sent before is
//     delivered, and then Closed tells of the failure.
//
// A short read means that the socket is empty, so that a line which passes
// costs one read, one write and a share of one wait.
//
// Linux is the product, by epoll. The kqueue poller keeps the program running
// on a developer's Mac.
package loop
