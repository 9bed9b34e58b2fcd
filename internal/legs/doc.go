// Package legs makes what is not a plain socket into a connection of an event loop.
//
// A [Conn] offers what a loop's own connections do, and keeps the same promises
// (see package loop): events come in order on the loop, no method calls a handler,
// and nothing is told after Close. It is carried by two goroutines, one that reads
// and one that writes, which meet the loop through [Loop.Do]. So a session never
// knows, and TLS never runs on a loop.
//
// The other side of a Conn is a [Stream]: TLS over a TCP connection. How it ends is
// told as exactly as TCP tells it:
//   - after the peer's close_notify, Closed(nil);
//   - after an end without it, which anybody on the way could have sent, and which is
//     what the kernel does for a process that has died, [ErrCut];
//   - after a reset, ECONNRESET, or EPIPE if it came behind the peer's end.
//
// A peer that is closed with something unread is told so by a reset, as a kernel
// would, although TLS may have taken the bytes out of the kernel already.
//
// Memory is bounded: inward there is one piece at a time, which the reader waits to
// see delivered; outward Buffered tells what is more than a socket would take.
package legs
