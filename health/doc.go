// Package health watches backends: it probes each one on a schedule and judges
// by rise and fall whether it is up.
//
// A [Probe] is one look at a backend. [AGI] plays a whole FastAGI session, the
// way a call would that hangs up at once; [TCP] only connects. A [Checker] runs
// a probe again and again and tells its [Target] what became of it.
//
// A full server is not a dead one: a pre-forking server whose children are all
// on calls accepts a connection and lets it wait. While its sessions show
// progress, such a backend is busy, which is neither a success nor a failure,
// and the one probe keeps its place in the server's line until it is served.
package health
