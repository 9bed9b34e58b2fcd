package admin

import "time"

// What the API says, as JSON. The tag doc becomes the field's description in the
// OpenAPI document. A field that is null tells that there is nothing to tell;
// none is ever left out.

// Status is the process as a whole.
type Status struct {
	Version    string    `json:"version" doc:"The program's version."`
	Revision   string    `json:"revision" doc:"The commit that it was built from."`
	Started    time.Time `json:"started" doc:"When the process began."`
	Uptime     float64   `json:"uptime_seconds" doc:"Time since then."`
	Ready      bool      `json:"ready" doc:"Whether calls can be served, as /-/ready tells."`
	NotReady   string    `json:"not_ready_reason" doc:"Why not; empty if they can."`
	Draining   bool      `json:"draining" doc:"Whether the process is about to end, once its calls have."`
	Sessions   int       `json:"sessions" doc:"Sessions under way."`
	Queued     int       `json:"queued" doc:"Of them, those that wait for a slot."`
	Loops      int       `json:"loops" doc:"Event loops."`
	Engine     string    `json:"engine" doc:"How they ask the kernel: io_uring, epoll or kqueue."`
	ConfigFile string    `json:"config_file" doc:"The configuration file; empty if there is none."`
	LastReload Reload    `json:"last_reload" doc:"The last time that the configuration was read, at the start or after it."`
}

// Reload is one reading of the configuration.
type Reload struct {
	Time  time.Time `json:"time" doc:"When it was."`
	OK    bool      `json:"ok" doc:"Whether what was read is in force."`
	Error string    `json:"error" doc:"What was wrong; empty if nothing was."`
	// NeedRestart may be empty, and is not nil.
	NeedRestart []string `json:"need_restart" doc:"What the configuration that was last taken has changed since the start, and what is not in force before a restart or an upgrade: keys."`
}

// Upgrade is a hand-over to another process.
type Upgrade struct {
	PID      int     `json:"pid" doc:"The number of the process that serves now."`
	Version  string  `json:"version" doc:"Its version."`
	Moved    int     `json:"moved" doc:"Sessions that go on there."`
	Left     int     `json:"left" doc:"Sessions that can't move, and that the process before brings to their ends."`
	Frozen   float64 `json:"frozen_seconds" doc:"How long the moved ones stood still."`
	Duration float64 `json:"duration_seconds" doc:"How long it took altogether."`
}

// Pool is one pool with its backends.
type Pool struct {
	Name     string    `json:"name" doc:"Its name in the configuration."`
	Balance  string    `json:"balance" doc:"Its balancing policy."`
	CanServe bool      `json:"can_serve" doc:"Whether some backend is up or busy."`
	Sessions int       `json:"sessions" doc:"Sessions that its backends have, attempts included."`
	Queued   int       `json:"queued" doc:"Sessions that wait for a slot."`
	Backends []Backend `json:"backends" doc:"In the configuration's order; then those that a reload has removed, while they have sessions."`
}

// Backend is one server of a pool.
type Backend struct {
	Pool          string     `json:"pool" doc:"The pool that it is in."`
	Name          string     `json:"name" doc:"Its name, unique in the pool."`
	Address       string     `json:"address" doc:"Its address as configured."`
	Resolved      string     `json:"resolved" doc:"The network address that sessions are sent to; empty as long as there is none."`
	State         string     `json:"state" doc:"What it can be asked to do." enum:"up busy down ejected drained"`
	Reason        string     `json:"reason" doc:"Why it is in that state; empty if there is nothing to tell."`
	Since         time.Time  `json:"since" doc:"Since when it is in that state."`
	Weight        int        `json:"weight" doc:"Its share relative to the others'."`
	MaxSessions   int        `json:"max_sessions" doc:"The most sessions at a time; 0 is any number."`
	Backup        bool       `json:"backup" doc:"Whether it serves only when no other can."`
	Sessions      int        `json:"sessions" doc:"Sessions that it has now, attempts included: of one that drains, those that are left."`
	OldestSession *float64   `json:"oldest_session_seconds" doc:"The age of the oldest of them; null if there are none."`
	Total         uint64     `json:"total" doc:"Sessions that it was ever given, attempts included."`
	Ejections     uint64     `json:"ejections" doc:"Times that it was ejected for failed sessions."`
	EjectedUntil  *time.Time `json:"ejected_until" doc:"When its ejection ends; null if it isn't ejected."`
	LastProbe     *Probe     `json:"last_probe" doc:"The last health check; null if there was none."`
	FirstCommand  *Quantiles `json:"first_command_seconds" doc:"Time from the header's being sent to its first command, over the last minutes; null if it served none."`
	Draining      *Drain     `json:"draining" doc:"How an operator has drained it; null if none has."`
	Overridden    []string   `json:"overridden" doc:"What an operator has changed, which holds until a restart, or a reload that changes this backend's own entry: drain, weight."`
	Removed       bool       `json:"removed" doc:"Whether a reload has removed it, so that it only ends its sessions."`
}

// Probe is what one health check came to.
type Probe struct {
	Time     time.Time `json:"time" doc:"When it began."`
	OK       bool      `json:"ok" doc:"Whether the backend was healthy."`
	Reason   string    `json:"reason" doc:"Why it failed, as in agiproxy_probe_failures_total; empty if it didn't."`
	Error    string    `json:"error" doc:"What exactly went wrong; empty if nothing did."`
	Duration float64   `json:"duration_seconds" doc:"Time to the answer, or to the probe's end if there was none."`
}

// Quantiles are upper bounds: the ends of the histogram's buckets that they are
// in.
type Quantiles struct {
	P50 float64 `json:"p50" doc:"Half took no longer."`
	P99 float64 `json:"p99" doc:"99 of 100 took no longer."`
}

// Drain is an operator's drain.
type Drain struct {
	Deadline *time.Time `json:"deadline" doc:"When the sessions that are left then get what on_backend_loss says; null for never."`
}

// Session is a session under way.
type Session struct {
	ID       uint32    `json:"id" doc:"Its number in this process."`
	State    string    `json:"state" doc:"What it is doing." enum:"reading queued connecting awaiting relaying settling answering closing ended"`
	Pool     string    `json:"pool" doc:"Its pool; empty before the header is routed."`
	Backend  string    `json:"backend" doc:"Its backend; empty as long as there is none."`
	Script   string    `json:"script" doc:"The script's path."`
	UniqueID string    `json:"uniqueid" doc:"The channel's uniqueid."`
	Channel  string    `json:"channel" doc:"The channel's name."`
	Caller   string    `json:"caller" doc:"The caller's number."`
	Client   string    `json:"client" doc:"The address that Asterisk has connected from."`
	Listener string    `json:"listener" doc:"The listener that it has connected to, as configured."`
	Started  time.Time `json:"started" doc:"When it was accepted."`
	Age      float64   `json:"age_seconds" doc:"Time since then."`
	Turn     string    `json:"turn" doc:"Whose move it is: Asterisk's while a command runs, the backend's otherwise." enum:"asterisk backend"`
	TurnFor  float64   `json:"turn_seconds" doc:"For how long it has been."`
	Command  string    `json:"command" doc:"The backend's last command, without its arguments; empty before the first."`
	Commands int       `json:"commands" doc:"Commands that the backend has sent."`
	Attempts int       `json:"attempts" doc:"Backends that were tried."`
	Resumed  bool      `json:"resumed" doc:"Whether a backend was lost in mid-call, so that another one goes on."`
	Bytes    uint64    `json:"bytes" doc:"Bytes passed on, both ways together."`
}

// Ending is a session that has ended.
type Ending struct {
	Number   uint64    `json:"number" doc:"Counts the endings of this process, from 1."`
	Time     time.Time `json:"time" doc:"When it ended."`
	ID       uint32    `json:"id" doc:"The session's number while it was under way."`
	Outcome  string    `json:"outcome" doc:"How it ended." enum:"completed hangup lost no_backend no_route bad_header rejected timeout killed shutdown"`
	Reason   string    `json:"reason" doc:"Why it ended as it did; empty for the ordinary way."`
	Pool     string    `json:"pool" doc:"Its pool; empty if it had none."`
	Backend  string    `json:"backend" doc:"The last backend that was tried; empty if there was none."`
	Script   string    `json:"script" doc:"The script's path."`
	UniqueID string    `json:"uniqueid" doc:"The channel's uniqueid."`
	Channel  string    `json:"channel" doc:"The channel's name."`
	Caller   string    `json:"caller" doc:"The caller's number."`
	Client   string    `json:"client" doc:"The address that Asterisk had connected from."`
	Listener string    `json:"listener" doc:"The listener that it had connected to, as configured."`
	Attempts int       `json:"attempts" doc:"Backends that were tried."`
	Commands int       `json:"commands" doc:"Commands that the backends had sent."`
	Dispatch float64   `json:"dispatch_seconds" doc:"Time from accept to the first command; 0 if none came."`
	Duration float64   `json:"duration_seconds" doc:"Time from accept to the end."`
	Bytes    uint64    `json:"bytes" doc:"Bytes passed on, both ways together."`
}

// Line is a line of a dialogue.
type Line struct {
	Time time.Time `json:"time" doc:"When it passed."`
	From string    `json:"from" doc:"Who has sent it; agiproxy itself speaks to Asterisk when a backend is lost or none can serve." enum:"asterisk backend agiproxy"`
	Line string    `json:"line" doc:"The line, without its end; of Asterisk's long ones the first KiB."`
	Lost uint64    `json:"lost" doc:"Lines so far that this reader was too slow for."`
}

// Snapshot is what a page shows at one moment.
type Snapshot struct {
	Time      time.Time `json:"time" doc:"The moment."`
	Whole     bool      `json:"whole" doc:"Whether history and endings tell all there is: in the first snapshot, and in the next one after some that the reader was too slow for."`
	Status    Status    `json:"status" doc:"The process as a whole."`
	Pools     []Pool    `json:"pools" doc:"All pools."`
	Rates     Rates     `json:"rates" doc:"Over the last second."`
	Latencies Latencies `json:"latencies" doc:"Of sessions dispatched in the last second."`
	Endings   []Ending  `json:"endings" doc:"The sessions that have ended since the snapshot before, newest first, a hundred at most; in a whole snapshot the last hundred at all."`
	History   []Point   `json:"history" doc:"The last five minutes, oldest first; empty unless the snapshot is whole."`
}

// Point is a second of the past.
type Point struct {
	Time      time.Time `json:"time" doc:"Its end."`
	Sessions  int       `json:"sessions" doc:"Sessions under way then."`
	Queued    int       `json:"queued" doc:"Of them, those that waited for a slot."`
	Rates     Rates     `json:"rates" doc:"Over that second."`
	Latencies Latencies `json:"latencies" doc:"Of sessions dispatched in that second."`
}

// Rates are per second.
type Rates struct {
	Sessions float64 `json:"sessions_per_second" doc:"Sessions that have ended."`
	Commands float64 `json:"commands_per_second" doc:"Commands that backends have sent."`
	Failures float64 `json:"failures_per_second" doc:"Sessions that have ended as lost, no_backend, no_route, bad_header, rejected or timeout."`
}

// Latencies are in seconds.
type Latencies struct {
	P50 *float64 `json:"dispatch_p50" doc:"Half took no longer from accept to the first command; null if there were none."`
	P99 *float64 `json:"dispatch_p99" doc:"99 of 100 took no longer; null if there were none."`
}

// Problem says why a request was refused (RFC 9457).
type Problem struct {
	Type   string `json:"type" doc:"Always about:blank: the status says it all."`
	Title  string `json:"title" doc:"The status in words."`
	Status int    `json:"status" doc:"The status."`
	Detail string `json:"detail" doc:"What exactly was wrong."`
}

// What requests may say.
type (
	drainRequest struct {
		Deadline *float64 `json:"deadline_seconds" doc:"Time until the sessions that are left get what on_backend_loss says; null, or left out, for never."`
	}
	weightRequest struct {
		Weight int `json:"weight" doc:"The new share, 1 to 256."`
	}
	ejectRequest struct {
		Duration float64 `json:"duration_seconds" doc:"For how long."`
	}
)
